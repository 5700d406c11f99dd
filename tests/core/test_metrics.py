"""Each check compares a metric with an independent implementation; each mutant of metrics.py must fail its check."""

import functools
import inspect
import itertools
import math
import types

import numpy as np
import pytest
import scipy.sparse as sp
import scipy.stats
import sklearn.metrics as sk
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from habitue.core import metrics
from habitue.core.errors import ModelError


def random_ranking(seed, users=6, items=6, levels=3):
    rng = np.random.default_rng(seed)
    scores = rng.integers(levels, size=(users, items)).astype(np.float32)
    relevant = rng.random((users, items)) < 0.4
    relevant[np.arange(users), rng.integers(items, size=users)] = True
    return scores, relevant


RANKINGS = [random_ranking(seed, levels=levels) for seed in range(3) for levels in (1, 2, 4, 50)]


def in_order(relevant, k):
    """Every ranking metric of one strict order, written as a loop: `relevant` lists yes/no from the top."""
    total, found, precisions, first, gain = sum(relevant), 0, 0.0, 0.0, 0.0
    for place, yes in enumerate(relevant, start=1):
        if not yes:
            continue
        if first == 0.0:
            first = 1 / place
        if place <= k:
            found += 1
            precisions += found / place
            gain += 1 / math.log(place + 1, 2)
    best = sum(1 / math.log(place + 1, 2) for place in range(1, min(k, total) + 1))
    return {
        "ndcg_at": gain / best,
        "recall_at": found / total,
        "precision_at": found / k,
        "hit_at": float(found > 0),
        "map_at": precisions / min(k, total),
        "reciprocal_rank": first,
    }


@functools.cache
def by_brute_force(case, k):
    """Mean [B] of each metric over every order of the items that the scores allow."""
    users = []
    for row, yes in zip(*RANKINGS[case], strict=True):
        allowed = [
            in_order([bool(yes[i]) for i in order], k)
            for order in itertools.permutations(range(len(row)))
            if all(row[a] >= row[b] for a, b in itertools.pairwise(order))
        ]
        users.append({name: sum(one[name] for one in allowed) / len(allowed) for name in allowed[0]})
    return {name: [user[name] for user in users] for name in users[0]}


def check_ranking(module, name):
    for case, (scores, relevant) in enumerate(RANKINGS):
        for k in (1, 3, 9):
            at = module.places(scores, sp.csr_matrix(relevant))
            function = getattr(module, name)
            told = function(at) if name == "reciprocal_rank" else function(at, k)
            np.testing.assert_allclose(told, by_brute_force(case, k)[name])


def check_masked(module, name="ndcg_at"):
    scores, relevant = random_ranking(5, items=8, levels=3)
    hidden = ~relevant & (np.random.default_rng(1).random(relevant.shape) < 0.4)
    at = module.places(scores, sp.csr_matrix(relevant), masked=sp.csr_matrix(hidden))
    for user, value in enumerate(getattr(module, name)(at, 3)):
        keep = ~hidden[user]
        alone = module.places(scores[[user]][:, keep], sp.csr_matrix(relevant[[user]][:, keep]))
        np.testing.assert_allclose(value, getattr(module, name)(alone, 3)[0])
    assert hidden.any()


def forecasts(seed, n=60, levels=24):
    """Truths stand first where scores tie, so an order of the rows that leaks through flatters the score."""
    rng = np.random.default_rng(seed)
    truth = np.sort(rng.random(n) < 0.4)[::-1]
    score = rng.integers(levels, size=n) / levels
    amount = np.round(rng.gamma(1.0, 50.0, size=n), 0) - 20
    return truth, score, amount, np.round(amount * rng.uniform(0.2, 1.5, size=n), -1)


def loop_gain(truth, score, share):
    """Mean over 2,000 shuffles of: share of the yes among the first share * n rows (a whole number here)."""
    rng, found = np.random.default_rng(0), 0.0
    for _ in range(2000):
        mixed = rng.permutation(len(truth))
        order = mixed[np.argsort(-score[mixed], kind="stable")]
        found += truth[order[: round(share * len(truth))]].sum() / truth.sum()
    return found / 2000


def loop_ece(truth, score, bins=10):
    total = 0.0
    for low in range(bins):
        inside = [i for i, p in enumerate(score) if low / bins <= p < (low + 1) / bins or (p == 1 and low == bins - 1)]
        if inside:
            total += abs(sum(score[i] - truth[i] for i in inside)) / len(truth)
    return total


ORACLES = {
    "auc": lambda y, s, a, f: sk.roc_auc_score(y, s),
    "average_precision": lambda y, s, a, f: sk.average_precision_score(y, s),
    "log_loss": lambda y, s, a, f: sk.log_loss(y, s),
    "brier": lambda y, s, a, f: sk.brier_score_loss(y, s),
    "ece": lambda y, s, a, f: loop_ece(y, s),
    "f1": lambda y, s, a, f: sk.f1_score(y, s >= 0.5),
    "mae": lambda y, s, a, f: sk.mean_absolute_error(a, f),
    "rmse": lambda y, s, a, f: sk.root_mean_squared_error(a, f),
    "r2": lambda y, s, a, f: sk.r2_score(a, f),
    "spearman": lambda y, s, a, f: scipy.stats.spearmanr(a, f).statistic,
    "bias": lambda y, s, a, f: sum(f) / sum(a) - 1,
}
AMOUNTS = ("mae", "rmse", "r2", "spearman", "bias")


def measured(module, name, y, s, a, f, weight=None):
    left, right = (a, f) if name in AMOUNTS else (y, s >= 0.5 if name == "f1" else s)
    return getattr(module, name)(left, right, weight=weight)


def check_forecast(module, name):
    """Against the oracle as it is, and resampled: counts [draws, n] must equal rows repeated that often."""
    for seed in range(4):
        data = forecasts(seed)
        np.testing.assert_allclose(measured(module, name, *data), ORACLES[name](*data), atol=1e-12)
        weight = np.random.default_rng(seed).integers(0, 3, size=(3, 60)).astype(float)
        drawn = measured(module, name, *data, weight=weight)
        for counts, value in zip(weight.astype(int), drawn, strict=True):
            repeated = (np.repeat(part, counts) for part in data)
            np.testing.assert_allclose(value, ORACLES[name](*repeated), atol=1e-12)


def check_gain(module, name="gain"):
    truth, score, *_ = forecasts(7)
    for share in (0.1, 0.25, 0.5):
        np.testing.assert_allclose(module.gain(truth, score, share=share), loop_gain(truth, score, share), atol=0.01)
    counts = np.random.default_rng(0).integers(0, 4, size=60)
    repeated = module.gain(np.repeat(truth, counts), np.repeat(score, counts), share=0.3)
    np.testing.assert_allclose(module.gain(truth, score, share=0.3, weight=counts[None].astype(float)), repeated)
    assert module.gain(truth, score, share=0.0) == 0
    assert module.gain(truth, score, share=1.0) == pytest.approx(1)


def check_best_threshold(module, name="best_threshold"):
    for seed in range(5):
        truth, score, *_ = forecasts(seed)
        every = {t: sk.f1_score(truth, score >= t) for t in np.unique(score)}
        threshold, value = module.best_threshold(truth, score)
        assert value == pytest.approx(max(every.values()))
        assert threshold == max(t for t, f in every.items() if f == pytest.approx(value))


def check_bootstrap(module, name="bootstrap"):
    """Against scipy.stats.bootstrap's percentile interval, and against the exact binomial spread."""
    values = np.random.default_rng(0).gamma(2.0, size=80)
    told = module.bootstrap([lambda w: module.mean(values, weight=w)], 80, draws=4000)[0]
    other = scipy.stats.bootstrap((values,), np.mean, n_resamples=4000, method="percentile", rng=1).confidence_interval
    assert told.mean == pytest.approx(values.mean())
    np.testing.assert_allclose([told.low, told.high], [other.low, other.high], atol=0.03)
    assert told.n == 80


CHECKS = {
    **{name: check_ranking for name in ("ndcg_at", "recall_at", "precision_at", "hit_at", "map_at", "reciprocal_rank")},
    **dict.fromkeys(ORACLES, check_forecast),
    "gain": check_gain,
    "best_threshold": check_best_threshold,
    "bootstrap": check_bootstrap,
    "places": lambda module, name: check_masked(module),
}


@pytest.mark.parametrize("name", CHECKS)
def test_equals_an_independent_implementation(name):
    CHECKS[name](metrics, name)


FOUND = "_first(at.above + at.tied, k) - _first(at.above, k)"
DOWNWARDS = "yes, no = (part[..., ::-1] for part in _by_level(s, y, w))"
SWAPPED = DOWNWARDS.replace("yes, no", "no, yes")
START = "start = np.flatnonzero(np.r_[True, np.diff(score[order]) != 0])"
MUTANTS = [
    # shifted rank
    ("ndcg_at", "(row > mine[:, None]).sum(axis=1)", "(row > mine[:, None]).sum(axis=1) + 1"),
    ("hit_at", "(row > mine[:, None]).sum(axis=1)", "(row > mine[:, None]).sum(axis=1) + 1"),
    ("recall_at", "(row > mine[:, None]).sum(axis=1)", "(row > mine[:, None]).sum(axis=1) + 1"),
    ("reciprocal_rank", "(above + i + 1)", "(above + i + 2)"),
    # off-by-one discount and cutoff
    ("ndcg_at", "np.arange(2, _reach(at, k) + 2)", "np.arange(3, _reach(at, k) + 3)"),
    ("ndcg_at", "upto[_first(at.relevant_per_user, k)]", "upto[at.relevant_per_user * 0 + min(k, upto.size - 1)]"),
    ("precision_at", FOUND, FOUND.replace(", k)", ", k + 1)")),
    ("map_at", "flat = at.relevant_above + 1", "flat = at.relevant_above"),
    ("map_at", "(at.relevant - 1) / np.maximum(at.tied - 1, 1)", "at.relevant / at.tied"),
    ("map_at", "_first(at.relevant_per_user, k)\n\n\n# Yes", "at.relevant_per_user\n\n\n# Yes"),
    # dropped tie handling
    ("ndcg_at", '(row == mine[:, None]).sum(axis=1)', '(row == mine[:, None]).sum(axis=1) * 0 + 1'),
    ("hit_at", '(row == mine[:, None]).sum(axis=1)', '(row == mine[:, None]).sum(axis=1) * 0 + 1'),
    ("hit_at", "at.tied - at.relevant - i, 0", "at.tied - 1 - i, 0"),
    ("recall_at", "at.relevant / at.tied * within", "(within > 0) * at.relevant"),
    ("reciprocal_rank", "tied - relevant - i, 0", "tied - 1 - i, 0"),
    ("auc", "below + no / 2", "below"),
    ("average_precision", START, "start = np.arange(order.size)"),
    ("gain", START, "start = np.arange(order.size)"),
    ("spearman", "- rows / 2 + 0.5", ""),
    ("spearman", "_, level = np.unique(values, return_inverse=True)", "level = np.argsort(np.argsort(values))"),
    # swapped class
    ("auc", "(yes * (below + no / 2))", "(no * (np.cumsum(yes, axis=-1) - yes / 2))"),
    ("average_precision", DOWNWARDS + "\n    hit", SWAPPED + "\n    hit"),
    ("log_loss", "y * np.log(p) + (1 - y) * np.log1p(-p)", "y * np.log1p(-p) + (1 - y) * np.log(p)"),
    ("brier", "mean((p - y) ** 2, weight=w)", "mean((p - (1 - y)) ** 2, weight=w)"),
    ("ece", "(p - y)[:, None]", "(p + y - 1)[:, None]"),
    ("f1", "2 * (w * y * s)", "2 * (w * (1 - y) * (1 - s))"),
    ("gain", DOWNWARDS + "\n    rows", SWAPPED + "\n    rows"),
    # lowest first
    ("gain", DOWNWARDS + "\n    rows", "yes, no = _by_level(s, y, w)\n    rows"),
    ("best_threshold", "np.unique(s)[::-1]", "np.unique(s)"),
    ("places", "row = np.delete(row, out)", "pass"),
    # the rest
    ("ece", "np.minimum((probability * bins)", "np.minimum((probability * bins + 1)"),
    ("mae", "np.abs(f - a)", "f - a"),
    ("rmse", "np.sqrt(mean((f - a) ** 2, weight=w))", "mean((f - a) ** 2, weight=w)"),
    ("r2", "- mean(middle, weight=w) ** 2", ""),
    ("bias", "_ratio(w @ f, w @ a) - 1", "_ratio(w @ a, w @ f) - 1"),
    ("bootstrap", "[0.025, 0.975]", "[0.05, 0.95]"),
    ("bootstrap", "+ n * np.arange(size)[:, None]", "* 0 + n * np.arange(size)[:, None]"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "old", "new"), MUTANTS, ids=[f"{m[0]}-{i}" for i, m in enumerate(MUTANTS)])
def test_a_mutant_fails_its_check(name, old, new):
    source = inspect.getsource(metrics)
    assert source.count(old) == 1, "the mutation must hit exactly one place"
    mutant = types.ModuleType(metrics.__name__)
    exec(compile(source.replace(old, new), "mutant of metrics.py", "exec"), mutant.__dict__)
    with np.errstate(all="ignore"), pytest.raises(AssertionError):
        CHECKS[name](mutant, name)


@settings(max_examples=60, deadline=None)
@given(
    scores=hnp.arrays(np.float32, st.tuples(st.just(3), st.integers(2, 30)), elements=st.integers(0, 4).map(float)),
    data=st.data(),
    k=st.integers(1, 40),
)
def test_ndcg_equals_scikit_learn_with_ties(scores, data, k):
    relevant = data.draw(hnp.arrays(bool, scores.shape))
    relevant[:, 0] = True
    told = metrics.ndcg_at(metrics.places(scores, sp.csr_matrix(relevant)), k)
    each = [sk.ndcg_score(y[None], s[None], k=k) for y, s in zip(relevant, scores, strict=True)]
    np.testing.assert_allclose(told, each, atol=1e-12)


@settings(max_examples=60, deadline=None)
@given(data=st.data(), n=st.integers(2, 50))
def test_auc_ap_and_spearman_equal_scikit_learn_and_scipy(data, n):
    truth = data.draw(hnp.arrays(bool, n))
    truth[:2] = [True, False]
    score = data.draw(hnp.arrays(np.float64, n, elements=st.integers(0, 9).map(lambda i: i / 9)))
    score[:2] = [0.3, 0.7]
    assert metrics.auc(truth, score) == pytest.approx(sk.roc_auc_score(truth, score))
    assert metrics.average_precision(truth, score) == pytest.approx(sk.average_precision_score(truth, score))
    assert metrics.spearman(truth, score) == pytest.approx(scipy.stats.spearmanr(truth, score).statistic)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10_000), shift=st.integers(1, 20))
def test_the_order_of_the_catalogue_earns_nothing(seed, shift):
    scores, relevant = random_ranking(seed, items=21, levels=3)
    told, moved = (
        metrics.places(np.roll(scores, by, axis=1), sp.csr_matrix(np.roll(relevant, by, axis=1))) for by in (0, shift)
    )
    for metric in (metrics.ndcg_at, metrics.hit_at, metrics.map_at):
        np.testing.assert_array_equal(metric(told, 5), metric(moved, 5))
    np.testing.assert_array_equal(metrics.reciprocal_rank(told), metrics.reciprocal_rank(moved))


def test_constant_scores_earn_what_chance_earns():
    relevant = np.zeros((1, 100), dtype=bool)
    relevant[0, :4] = True
    at = metrics.places(np.zeros((1, 100), dtype=np.float32), sp.csr_matrix(relevant))
    assert metrics.recall_at(at, 10)[0] == pytest.approx(0.1)
    assert metrics.precision_at(at, 10)[0] == pytest.approx(0.04)
    assert metrics.hit_at(at, 10)[0] == pytest.approx(1 - math.comb(96, 10) / math.comb(100, 10))


def test_calibration_bins():
    told = metrics.calibration([0, 1, 1, 1], [0.05, 0.07, 0.95, 1.0])
    np.testing.assert_allclose(told.forecast, [0.06, 0.975])
    np.testing.assert_allclose(told.observed, [0.5, 1.0])
    np.testing.assert_array_equal(told.n, [2, 2])


def test_the_same_seed_draws_the_same_rows_whatever_the_chunk(monkeypatch):
    values = np.random.default_rng(0).normal(size=50)
    whole = metrics.bootstrap([lambda w: metrics.mean(values, weight=w)], 50)
    monkeypatch.setattr(metrics, "CELLS", 50 * 70)
    assert metrics.bootstrap([lambda w: metrics.mean(values, weight=w)], 50) == whole
    assert metrics.bootstrap([lambda w: metrics.mean(values, weight=w)], 50, seed=1) != whole


def test_a_paired_difference_is_narrower_than_two_separate_intervals():
    rng = np.random.default_rng(0)
    easy = rng.random(300)
    better = easy + 0.01 + rng.normal(scale=0.01, size=300)
    told = metrics.bootstrap([lambda w: metrics.mean(better, weight=w) - metrics.mean(easy, weight=w)], 300)[0]
    assert 0.005 < told.low < 0.01 < told.high < 0.015


def test_no_interval_where_none_can_be_told():
    one = metrics.bootstrap([lambda w: metrics.mean(np.array([3.0]), weight=w)], 1)[0]
    assert one == metrics.Estimate(3.0, None, None, 1)
    rare = np.arange(20) == 0  # in a third of the draws nothing is true
    told = metrics.bootstrap([lambda w: metrics.auc(rare, np.arange(20), weight=w)], 20)[0]
    assert (told.mean, told.low, told.high) == (0.0, None, None)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: metrics.auc([1, 1], [0.1, 0.2]), "all 2 rows are yes.*no meaning.*both happened"),
        (lambda: metrics.auc([0], [0.1]), "all 1 rows are no"),
        (lambda: metrics.auc([1, 0], [0.1, np.nan]), "NaN or infinite"),
        (lambda: metrics.auc([1, 0], [0.1]), r"shapes \(2,\) and \(1,\)"),
        (lambda: metrics.auc([], []), r"shapes \(0,\)"),
        (lambda: metrics.auc([2, 0], [0.1, 0.2]), "neither 0 nor 1"),
        (lambda: metrics.average_precision([0, 0], [0.1, 0.2]), "none of 2 rows is yes"),
        (lambda: metrics.gain([0, 0], [0.1, 0.2], share=0.1), "none of 2 rows is yes"),
        (lambda: metrics.f1([0, 0], [0, 1]), "none of 2 rows is yes"),
        (lambda: metrics.best_threshold([0], [1]), "none of 1 rows is yes"),
        (lambda: metrics.brier([0, 1], [0.5, 1.5]), "run from 0.5 to 1.5.*probabilities"),
        (lambda: metrics.log_loss([0, 1], [-1, 0.5]), "run from -1 to 0.5"),
        (lambda: metrics.ece([0, 1], [-1, 0.5]), "run from -1 to 0.5"),
        (lambda: metrics.spearman([1, 1], [1, 2]), "actual values are all the same"),
        (lambda: metrics.spearman([1, 2], [1, 1]), "forecasts are all the same"),
        (lambda: metrics.r2([1, 1], [1, 2]), "actual values are all the same"),
        (lambda: metrics.bias([1, -1], [1, 2]), "add up to 0"),
        (lambda: metrics.places(np.ones((1, 3)), sp.csr_matrix((1, 3))), "1 of 1 users have no relevant item"),
        (lambda: metrics.places(np.ones((0, 3)), sp.csr_matrix((0, 3))), "0 of 0 users"),
        (lambda: metrics.places(np.array([[1, np.nan]]), sp.csr_matrix([[1, 0]])), "a score is NaN"),
        (lambda: metrics.places(np.ones((1, 2)), sp.csr_matrix([[1, 0, 0]])), "1 x 3, scores are 1 x 2"),
        (
            lambda: metrics.places(np.ones((1, 2)), sp.csr_matrix([[1, 0]]), masked=sp.csr_matrix([[1, 0]])),
            "a relevant item is masked",
        ),
        (lambda: metrics.ndcg_at(metrics.places(np.ones((1, 2)), sp.csr_matrix([[1, 0]])), 0), "k is 0"),
        (lambda: metrics.hit_at(metrics.places(np.ones((1, 2)), sp.csr_matrix([[1, 0]])), 0), "k is 0"),
    ],
)
def test_what_has_no_meaning_is_refused_in_words(call, message):
    with pytest.raises(ModelError, match=message):
        call()


def test_places_by_counting_are_those_by_sorting():
    rng = np.random.default_rng(5)
    row = rng.integers(0, 30, size=200).astype(np.float32)
    mine = row[rng.choice(200, size=12, replace=False)]
    for few, many in zip(metrics._counted(row, mine), metrics._sorted(row, mine), strict=True):
        np.testing.assert_array_equal(few, many)
    assert metrics._counted(row, mine)[1].max() > 1


@settings(max_examples=40, deadline=None)
@given(hnp.arrays(np.int64, (2, 25), elements=st.integers(0, 4)), st.integers(0, 1000))
def test_answers_of_several_classes_are_those_of_scikit_learn(both, seed):
    truth, said = both
    weight = np.random.default_rng(seed).integers(0, 3, size=(3, 25)).astype(float)
    weight[0] = 1
    right, macro = metrics.accuracy(truth, said, weight=weight), metrics.macro_f1(truth, said, weight=weight)
    recall = metrics.macro_recall(truth, said, weight=weight)
    for i, w in enumerate(weight):
        if not w.sum():
            continue
        assert right[i] == pytest.approx(sk.accuracy_score(truth, said, sample_weight=w))
        seen = np.unique(np.r_[truth[w > 0], said[w > 0]])
        assert macro[i] == pytest.approx(
            sk.f1_score(truth, said, labels=seen, average="macro", sample_weight=w, zero_division=0)
        )
        held = np.unique(truth[w > 0])
        assert recall[i] == pytest.approx(sk.recall_score(truth, said, labels=held, average="macro", sample_weight=w))
    assert metrics.macro_f1(truth, said) == pytest.approx(macro[0])
    assert metrics.macro_recall(truth, said) == pytest.approx(recall[0])


def test_shares_of_several_classes_are_judged_as_scikit_learn_does():
    rng = np.random.default_rng(0)
    truth, shares = rng.integers(4, size=200), rng.dirichlet(np.ones(4), size=200)
    weight = rng.integers(0, 4, size=200).astype(float)
    assert metrics.log_loss_of_classes(truth, shares, weight=weight) == pytest.approx(
        sk.log_loss(truth, shares, sample_weight=weight)
    )
    certain = np.eye(4)[truth]
    assert metrics.log_loss_of_classes(truth, certain) == pytest.approx(0, abs=1e-12)
    assert metrics.ece_of_classes(truth, certain) == pytest.approx(0, abs=1e-12)
    assert metrics.ece_of_classes((truth + 1) % 4, certain) == pytest.approx(1)
    likeliest = shares.max(axis=1)
    assert metrics.ece_of_classes(truth, shares) == pytest.approx(
        metrics.ece(shares.argmax(axis=1) == truth, likeliest)
    )


@pytest.mark.parametrize(
    ("truth", "shares", "message"),
    [
        ([0, 1], [[0.5, 0.5]], r"shapes \(2,\) and \(1, 2\)"),
        ([2], [[0.5, 0.5]], "shapes"),
        ([0], [[0.5, 0.6]], "do not add up to 1"),
        ([0], [[np.nan, 1.0]], "do not add up to 1"),
    ],
)
def test_shares_that_are_none_are_refused(truth, shares, message):
    with pytest.raises(ModelError, match=message):
        metrics.log_loss_of_classes(truth, np.array(shares))
    with pytest.raises(ModelError, match=message):
        metrics.ece_of_classes(truth, np.array(shares))
