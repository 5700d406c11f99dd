"""Weights on planted views, the rewinding they are found by, and what the blend refuses."""

import dataclasses
import datetime as dt
import sys
import types
from dataclasses import dataclass

import numpy as np
import polars as pl
import pytest
import scipy.sparse as sp
from scipy.special import expit, logit

from habitue.core import metrics
from habitue.core.errors import ModelError
from habitue.core.runtime import Runtime
from habitue.model import behaviour, blend, fuse
from habitue.model.past import Past, next_sets

RUNTIME = Runtime(seed=1, threads=1)
MANY = blend.FEW + 1  # customers of whom one climb learns
TINY = behaviour.Config(width=8, blocks=1, steps=4, questions=64, content=4)


def test_standard_by_hand():
    scores = np.array([[1.0, 2.0, 3.0], [7.0, 7.0, 7.0]], dtype=np.float32)
    np.testing.assert_allclose(fuse.standard(scores), [[-(1.5**0.5), 0, 1.5**0.5], [0, 0, 0]], rtol=1e-6)
    assert fuse.standard(scores).dtype == np.float32


def test_rank_weights_climb_to_the_top():
    best = np.array([2.0, 0.0, 0.5])  # the largest becomes 1
    found = blend.rank_weights(lambda w: np.full(MANY, -np.square(w - best).sum()), 3)
    np.testing.assert_allclose(found, [1, 0, 0.25])


def test_rank_weights_leave_the_far_better_view_alone():
    """Every single change from equal weights makes it worse, but the second view alone is the best of all."""

    def gain(weights):
        return 0.9 if weights[1] and not weights[0] and not weights[2] else 0.5 - float(np.abs(weights - 1).sum()) / 10

    np.testing.assert_allclose(blend.rank_weights(lambda w: np.full(MANY, gain(w)), 3), [0, 1, 0])


def test_rank_weights_stay_equal_where_nothing_helps():
    np.testing.assert_allclose(blend.rank_weights(lambda w: np.zeros(MANY), 3), 1)


def test_rank_weights_of_few_are_the_mean_over_customers_drawn_anew():
    """21 customers want the first view alone, 19 the second: a climb goes over to whoever are more."""
    first = np.arange(40) < 21

    def worth(weights):
        return np.where(first, weights[0] > 2 * weights[1], weights[1] > 2 * weights[0]).astype(float)

    many = blend.rank_weights(lambda w: np.repeat(worth(w), 10), 2)
    np.testing.assert_allclose(many, [1, 1 / 3])
    few = blend.rank_weights(worth, 2)
    share = few / few.sum()  # k climbs ended at 3 : 1, the others at 0 : 1
    k = blend.BAGS * share[0] / 0.75
    assert 0 < round(k) < blend.BAGS and k == pytest.approx(round(k))
    np.testing.assert_array_equal(blend.rank_weights(worth, 2), few)
    unanimous = blend.rank_weights(lambda w: worth(w)[:1].repeat(40), 2)
    np.testing.assert_allclose(unanimous, [1, 1 / 3])


def test_worth_is_the_ndcg_that_evaluation_prints():
    rng = np.random.default_rng(0)
    views = rng.normal(size=(2, 30, 50)).astype(np.float32)
    relevant = rng.random((30, 50)) < 0.1
    relevant[4] = False
    open_to = rng.random((30, 50)) < 0.8
    worth = blend._worth(views, relevant & open_to, open_to)
    users = (relevant & open_to).any(axis=1)
    weights = np.array([0.3, 1.0])
    placed = metrics.places(
        np.tensordot(weights.astype(np.float32), views, axes=1)[users],
        sp.csr_matrix((relevant & open_to)[users].astype(np.float32)),
        masked=sp.csr_matrix(~open_to[users]).astype(np.float32),
    )
    assert worth(weights).mean() == pytest.approx(metrics.ndcg_at(placed, 10).mean(), rel=1e-6)
    assert worth(weights).shape == (30,) and not worth(weights)[~users].any()


def test_worth_of_a_slice_nobody_is_in():
    nothing = np.zeros((2, 3), dtype=bool)
    assert blend._worth(np.zeros((1, 2, 3), dtype=np.float32), nothing, ~nothing) is None


def test_churn_weights_find_the_view_that_knows():
    rng = np.random.default_rng(0)
    knows, guesses = rng.normal(size=(2, 200_000))
    churned = rng.random(200_000) < expit(knows)
    weights = blend.churn_weights({"knows": expit(knows), "guesses": expit(guesses)}, churned)
    assert weights["knows"] == pytest.approx(1, abs=0.03) and sum(weights.values()) == pytest.approx(1)


def test_churn_weights_of_two_views_that_know_half_each():
    rng = np.random.default_rng(0)
    one, two = rng.normal(size=(2, 50_000))
    churned = rng.random(50_000) < expit(0.7 * one + 0.3 * two)
    weights = blend.churn_weights({"one": expit(one), "two": expit(two)}, churned)
    assert weights["one"] == pytest.approx(0.7, abs=0.03) and weights["two"] == pytest.approx(0.3, abs=0.03)


def test_a_view_that_is_wrong_gets_no_weight_rather_than_a_negative_one():
    rng = np.random.default_rng(0)
    wrong, knows = rng.normal(size=(2, 200_000))
    churned = rng.random(200_000) < expit(knows - wrong)
    weights = blend.churn_weights({"wrong": expit(wrong), "knows": expit(knows)}, churned)
    assert weights["wrong"] == pytest.approx(0, abs=1e-6) and weights["knows"] == pytest.approx(1)


def test_few_customers_hardly_move_the_plain_mean():
    """What 30 customers say of two views may be chance; what 300,000 say the same way is not."""
    rng = np.random.default_rng(0)
    found = []
    for count in (30, 300, 300_000):
        knows, guesses = rng.normal(size=(2, count))
        churned = rng.random(count) < expit(knows)
        found.append(blend.churn_weights({"knows": expit(knows), "guesses": expit(guesses)}, churned)["knows"])
    assert 0.5 < found[0] < 0.55 and 0.53 < found[1] < 0.75 and found[2] > 0.95


def test_value_weights_find_the_view_that_knows():
    rng = np.random.default_rng(0)
    level = rng.normal(4, 1, size=20_000)
    money = (rng.random(20_000) < 0.5) * 2 * np.exp(level) * rng.lognormal(-0.125, 0.5, size=20_000)
    noise = np.exp(rng.normal(4, 1, size=20_000))
    weights = blend.value_weights({"knows": np.exp(level), "noise": noise}, money)
    assert weights["knows"] > 0.9 and sum(weights.values()) == pytest.approx(1)


def test_value_weights_do_not_depend_on_the_currency():
    rng = np.random.default_rng(0)
    views = {"one": rng.lognormal(4, 1, 500), "two": rng.lognormal(4, 1, 500)}
    money = views["one"] * rng.lognormal(0, 1, 500)
    cheap = blend.value_weights({n: v * 1000 for n, v in views.items()}, money * 1000)
    assert cheap == pytest.approx(blend.value_weights(views, money), abs=1e-3)


def test_value_weights_of_customers_who_all_spent_nothing():
    weights = blend.value_weights({"one": np.array([1.0, 2.0, 0.0]), "two": np.zeros(3)}, np.zeros(3))
    assert sum(weights.values()) == pytest.approx(1)


# A shop with planted views: user b next buys product b % ITEMS, which only the view `oracle` knows ---------------

USERS, ITEMS, DAY = 60, 12, 30


@dataclass(frozen=True)
class Settings:
    pass


@dataclass(frozen=True)
class Table:
    scores: np.ndarray  # [USERS, ITEMS]


def planted(name: str, scores: np.ndarray, fits: list[Past], monkeypatch) -> str:
    module = types.ModuleType(f"toys.{name}")
    module.Config, module.State, module.ANSWERS = Settings, Table, frozenset({"rank"})

    def fit(past, config, *, runtime):
        fits.append(past)
        return Table(scores.astype(np.float32))

    module.fit = fit
    module.score = lambda state, past: state.scores[past.histories.user_keys]
    monkeypatch.setitem(sys.modules, module.__name__, module)
    return module.__name__


@pytest.fixture
def shop(make_past):
    """Everybody buys something long ago, and product b % ITEMS in the last horizon."""
    letters = "abcdefghijkl"
    first = [(b, DAY + 5, letters[(b + 3) % ITEMS]) for b in range(USERS)]
    second = [(b, DAY / 2, letters[b % ITEMS]) for b in range(USERS)]
    return make_past(*first, *second, items=letters, horizon_days=DAY)


@pytest.fixture
def views(monkeypatch):
    rng = np.random.default_rng(0)
    oracle = rng.normal(size=(USERS, ITEMS))
    oracle[np.arange(USERS), np.arange(USERS) % ITEMS] += 3
    fits: list[Past] = []
    names = (
        planted("noise", rng.normal(size=(USERS, ITEMS)), fits, monkeypatch),
        planted("oracle", oracle, fits, monkeypatch),
    )
    return names, fits


def test_the_view_that_knows_gets_the_weight(shop, views):
    names, _ = views
    state = blend.fit(shop, blend.Config(views=names), runtime=RUNTIME)
    assert state.judged["rank"] == USERS
    assert state.weights["toys.oracle"] == 1 and state.weights["toys.noise"] <= 0.2
    scores = blend.score(state, shop)
    assert scores.dtype == np.float32 and scores.shape == (USERS, ITEMS)
    expected = sum(state.weights[name] * fuse.standard(state.views[name].scores) for name in names)
    np.testing.assert_allclose(scores, expected, rtol=1e-5, atol=1e-6)


def test_weights_are_found_on_views_that_saw_nothing_of_the_last_horizon(shop, views):
    names, fits = views
    blend.fit(shop, blend.Config(views=names), runtime=RUNTIME)
    early, late = fits[:2], fits[2:]
    assert [p.as_of for p in early] == [shop.as_of - dt.timedelta(days=DAY)] * 2
    assert all((p.histories.set_at < p.day).all() for p in early)
    assert [p.as_of for p in late] == [shop.as_of] * 2
    assert all(len(p.histories.set_at) == 2 * USERS for p in late)


def test_weights_that_are_named_are_taken_and_nothing_is_fitted_twice(shop, views):
    names, fits = views
    state = blend.fit(shop, blend.Config(views=names, weights=(0.25, 2.0)), runtime=RUNTIME)
    assert state.weights == {"toys.noise": 0.25, "toys.oracle": 2.0} and state.judged["rank"] == 0
    assert [p.as_of for p in fits] == [shop.as_of] * 2


@pytest.mark.parametrize(("words", "counts"), [(True, 1.25), (False, 0.125)])
def test_where_data_are_few_the_named_weights_change(shop, views, words, counts):
    names, _ = views
    few = behaviour.Config(width=40)  # 120 rows to foretell, 480 numbers in the table
    config = blend.Config(views=names, weights=(0.5, 1.0), scarce=(1.0, 0.0), scarce_ids=(-0.5, 0.0), behaviour=few)
    shop = dataclasses.replace(
        shop, words=sp.identity(len(shop.items), dtype=np.float32, format="csr") if words else None
    )
    assert blend.fit(shop, config, runtime=RUNTIME).weights == {"toys.noise": counts, "toys.oracle": 1.0}
    many = dataclasses.replace(config, behaviour=behaviour.Config(width=8))
    assert blend.fit(shop, many, runtime=RUNTIME).weights == {"toys.noise": 0.5, "toys.oracle": 1.0}
    unread = dataclasses.replace(config, behaviour=behaviour.Config(width=40, content=0))
    assert blend.fit(shop, unread, runtime=RUNTIME).weights == {"toys.noise": 0.125, "toys.oracle": 1.0}


@pytest.mark.parametrize("scarce", [(1.0,), (0.0, -2.0)])
def test_what_is_added_to_weights_is_one_number_a_view(shop, views, scarce):
    config = blend.Config(views=("toys.noise", "toys.oracle"), weights=(1.0, 1.0), scarce_ids=scarce)
    with pytest.raises(ModelError, match="'weights' or 'scarce_ids'.*toys.noise, toys.oracle.*one number a view"):
        blend.fit(dataclasses.replace(shop, words=None), config, runtime=RUNTIME)


@pytest.mark.parametrize("weights", [(1.0,), (1.0, -1.0), (0.0, 0.0)])
def test_weights_that_are_not_one_a_view_are_refused(shop, views, weights):
    config = blend.Config(views=("toys.noise", "toys.oracle"), weights=weights)
    with pytest.raises(ModelError, match="toys.noise, toys.oracle.*one number a view"):
        blend.fit(shop, config, runtime=RUNTIME)


def test_only_known_users_with_a_history_and_an_order_are_judged(make_past):
    past = make_past(
        (1, 40, "a"), (1, 5, "b"), (2, 40, "a"), (3, 5, "b"), (4, 40, "a"), (4, 5, "a"),
        items="ab", guests=[4],
    )  # fmt: skip
    earlier = past.rewind(past.as_of - dt.timedelta(days=30))
    target = next_sets(past.histories, after=earlier.day, until=past.day)
    assert past.histories.user_keys[blend.judged(earlier, target, 0)].tolist() == [1]


def test_with_few_users_every_view_counts_the_same(shop, views):
    names, fits = views
    state = blend.fit(shop, blend.Config(views=names, least_users=USERS + 1), runtime=RUNTIME)
    assert set(state.weights.values()) == {1.0} and state.judged == {"rank": 0, "churn": 0}
    assert [p.as_of for p in fits] == [shop.as_of] * 2  # nothing was fitted on the rewound past


def test_the_steps_of_both_fits_are_counted_as_one_row(shop):
    seen = []
    settings = blend.Config(views=("popular", "behaviour"), behaviour=TINY)
    blend.fit(shop, settings, runtime=RUNTIME, progress=lambda done, steps, _: seen.append((done, steps)))
    assert seen == [(done, 8) for done in range(1, 9)]


def test_checkpoints_of_the_two_fits_lie_apart(shop, tmp_path):
    settings = blend.Config(views=("behaviour",), behaviour=TINY)
    first = blend.fit(shop, settings, runtime=RUNTIME, folder=tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["rewound", "whole"]
    again = blend.fit(shop, settings, runtime=RUNTIME, folder=tmp_path, progress=lambda *_: pytest.fail("trained"))
    np.testing.assert_array_equal(blend.score(first, shop), blend.score(again, shop))


def test_behaviour_enters_as_a_probability(shop):
    state = behaviour.fit(shop, TINY, runtime=RUNTIME)
    probability = np.exp(behaviour.score(state, shop).astype(np.float64))
    probability /= probability.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(
        blend._view("behaviour", behaviour, state, shop), fuse.standard(probability), rtol=1e-3, atol=1e-4
    )


def test_without_a_closed_horizon_it_ranks_but_does_not_foretell(shop):
    state = blend.fit(shop, blend.Config(behaviour=TINY), runtime=RUNTIME)
    assert set(state.views) == {"popular", "neighbours", "rules", "ease", "slist", "behaviour"}
    with pytest.raises(ModelError, match="no horizon had closed.*longer ledger or a shorter horizon"):
        blend.predict(state, shop)


def test_a_row_of_scores_does_not_depend_on_how_many_are_asked(shop, views, monkeypatch):
    names, _ = views
    state = blend.fit(shop, blend.Config(views=names), runtime=RUNTIME)
    whole, asked = blend.score(state, shop), []
    of_view = vars(blend)["_view"]
    monkeypatch.setattr(blend, "_view", lambda *a: asked.append(len(a[-1].known)) or of_view(*a))
    monkeypatch.setattr(blend, "USERS_A_CALL", 7)
    assert blend.score(state, shop).tobytes() == whole.tobytes() and max(asked) == 7
    monkeypatch.setattr(blend, "SCORES_A_CALL", 3 * len(shop.items) + 1)  # three people's scores fit into memory
    asked.clear()
    assert blend.score(state, shop).tobytes() == whole.tobytes() and max(asked) == 3


def test_predictions_are_the_weighted_logits_and_logs(shop, monkeypatch):
    """Two views of churn and money, by hand."""
    told = {
        "one": pl.DataFrame({"user_key": [1, 2], "churn": [0.5, 0.9], "value": [10.0, 0.0]}),
        "two": pl.DataFrame({"user_key": [1, 2], "churn": [0.2, 0.5], "value": [1000.0, 1.0]}),
    }
    for name, table in told.items():
        module = types.ModuleType(f"toys.{name}")
        module.Config, module.ANSWERS, module.fit = Settings, frozenset({"churn", "value"}), None
        module.predict = lambda state, past, table=table: table
        monkeypatch.setitem(sys.modules, module.__name__, module)
    state = blend.State(
        views={"toys.one": None, "toys.two": None},
        weights={},
        churn={"toys.one": 0.75, "toys.two": 0.25},
        value={"toys.one": 0.5, "toys.two": 0.5},
        judged={},
    )
    two = dataclasses.replace(shop, histories=histories_of_two(shop))
    said = blend.predict(state, two)
    np.testing.assert_allclose(said["churn"], expit([0.25 * logit(0.2), 0.75 * logit(0.9)]))
    np.testing.assert_allclose(said["value"], [100, blend.LITTLE_MONEY**0.5])


def histories_of_two(shop):
    return dataclasses.replace(shop.histories.take([1, 2]), user_keys=np.array([1, 2]))


def test_the_closed_form_that_was_fitted_as_a_view_teaches_behaviour(shop, monkeypatch):
    """On each past once, and the flagship is the one that the same closed form would have taught alone."""
    fits, fit = [], blend.slist.fit

    def counted(past, config, *, runtime):
        fits.append(past)
        return fit(past, config, runtime=runtime)

    monkeypatch.setattr(blend.slist, "fit", counted)
    taught = dataclasses.replace(TINY, taught=0.5, width=32)  # a wide table: little to foretell per number of it
    settings = blend.Config(views=("slist", "behaviour"), behaviour=taught, slist=blend.slist.Config(ridge=1.0))
    state = blend.fit(shop, settings, runtime=RUNTIME)
    assert len(fits) == 2
    alone = behaviour.fit(shop, taught, runtime=RUNTIME, closed_form=state.views["slist"])
    for name, weight in alone.weights.items():
        assert weight.equal(state.views["behaviour"].weights[name])
    untold = behaviour.fit(shop, dataclasses.replace(taught, taught=0.0), runtime=RUNTIME)
    assert not untold.weights["items"].equal(alone.weights["items"])
