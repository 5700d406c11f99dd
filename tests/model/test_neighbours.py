"""The table, against loops over dictionaries and against another implementation."""

import collections
import math

import numpy as np
import pytest
import scipy.sparse as sp

from habitue.core.errors import SettingsError
from habitue.core.runtime import Runtime
from habitue.core.schemas import REFUND
from habitue.model import neighbours

ITEMS = "ABCDEF"


def sets(seed: int = 0, users: int = 9) -> list[tuple]:
    rng = np.random.default_rng(seed)
    made = []
    for user in range(users):
        for day in sorted(rng.choice(np.arange(1, 90), size=rng.integers(1, 6), replace=False).tolist(), reverse=True):
            made.append((user, day, "".join(rng.choice(list(ITEMS[:5]), size=rng.integers(1, 4), replace=False))))
    return [*made, (0, 2, "F", REFUND)]  # what was given back was not bought


def by_loops(made, config) -> dict[tuple[str, str], float]:
    """row item, column item -> score; nothing is cut off."""
    bought = [s for s in made if len(s) == 3]
    per_user = collections.defaultdict(lambda: collections.defaultdict(float))
    for user, day, items in bought:
        for item in items:
            per_user[user][item] += 0.5 ** (day / config.half_life_days)
    rows = {u: {i: min(w, 1.0) for i, w in of.items()} for u, of in per_user.items()}
    rows = {u: {i: w / math.sqrt(1 + sum(of.values())) for i, w in of.items()} for u, of in rows.items()}
    dot = {(i, j): sum(of.get(i, 0) * of.get(j, 0) for of in rows.values()) for i in ITEMS for j in ITEMS}
    table = collections.defaultdict(float)
    for i in ITEMS:
        for j in ITEMS:
            if i != j and dot[i, j]:
                length = math.sqrt((dot[i, i] + config.shrink) * (dot[j, j] + config.shrink))
                table[i, j] += config.people * (dot[i, j] / length) ** config.sharpen
    recent, ever = collections.Counter(), collections.Counter()
    for _, day, items in bought:
        ever.update(items)
        recent.update(items if day <= config.window_days else "")
    return {(i, j): w * ((recent[j] + 1) / (ever[j] + 5)) ** config.trend for (i, j), w in table.items()}


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"shrink": 0.0, "sharpen": 1.0, "trend": 0.0},
        {"people": 3.0, "half_life_days": 20.0},
    ],
)
def test_the_table_is_that_of_the_loops(make_past, settings):
    config = neighbours.Config(**settings)
    made = sets()
    state = neighbours.fit(make_past(*made, items=ITEMS), config, runtime=Runtime())
    expected = np.zeros((len(ITEMS), len(ITEMS)))
    for (i, j), weight in by_loops(made, config).items():
        expected[ITEMS.index(i), ITEMS.index(j)] = weight
    assert expected[:5, :5].min() >= 0 and not expected[5].any()
    np.testing.assert_allclose(state.table.toarray(), expected, rtol=2e-5, atol=1e-7)


def test_only_the_nearest_are_kept(make_past):
    past = make_past(*sets(), items=ITEMS)
    every = neighbours.fit(past, neighbours.Config(), runtime=Runtime()).table.toarray()
    kept = neighbours.fit(past, neighbours.Config(neighbours=2, trend=0.0), runtime=Runtime()).table.toarray()
    plain = neighbours.fit(past, neighbours.Config(trend=0.0), runtime=Runtime()).table.toarray()
    assert (every > 0).sum() > (kept > 0).sum() == 10
    for row, all_of_them in zip(kept[:5], plain[:5], strict=True):
        assert sorted(row[row > 0]) == sorted(all_of_them)[-2:]


def test_the_largest_of_each_row():
    table = np.random.default_rng(0).permutation(60).reshape(3, 20).astype(np.float32) + 1
    expected = np.where(table >= np.sort(table, axis=1)[:, -4, None], table, 0)
    np.testing.assert_array_equal(neighbours.largest(neighbours.sp.csr_matrix(table), 4).toarray(), expected)
    np.testing.assert_array_equal(neighbours.largest(neighbours.sp.csr_matrix(table), 20).toarray(), table)


def test_a_table_in_blocks_is_the_table_at_once():
    rng, size, count = np.random.default_rng(1), neighbours.ROWS_A_BLOCK + 40, 6
    left = sp.random_array((size, 30), density=0.2, rng=rng, dtype=np.float32, data_sampler=rng.standard_normal)
    left.data = left.data.round(0)  # many are equal, some below 0
    whole = (left @ left.T).toarray()
    np.fill_diagonal(whole, 0)
    last = np.maximum(np.sort(whole, axis=1)[:, -count, None], 0)
    expected = np.where((whole >= last) & (whole > 0), whole, 0)
    found = neighbours.largest_of_rows(neighbours.product(left, left.T), size, count)
    assert (np.diff(found.indptr) > count).any() and found.has_sorted_indices and found.data.all()
    np.testing.assert_array_equal(found.toarray(), expected)


def test_score_by_hand(make_past):
    past = make_past((1, 10, "A"), (1, 0, "AB"), (2, 20, "B"), (3, 1, "Z"), items="ABZ")
    table = neighbours.sp.csr_matrix(np.array([[0, 2, 1], [4, 0, 0], [0, 0, 8]], dtype=np.float32))
    state = neighbours.State(("A", "B", "C"), table, history_half_life_days=10)
    # A is worth 1 (1.5, capped) and B 1 to user 1, B a quarter to user 2; Z is unknown to the state, C to the past.
    assert neighbours.score(state, past).tolist() == [[4, 2, 0], [1, 0, 0], [0, 0, 0]]


def test_nobody_ever_bought_a_thing(make_past):
    past = make_past((1, 1, "A", REFUND), items="AB")
    state = neighbours.fit(past, neighbours.Config(), runtime=Runtime())
    assert neighbours.score(state, past).tolist() == [[0, 0]]


@pytest.mark.filterwarnings("ignore:Method expects CSR input")  # the package's own, about its own call
@pytest.mark.parametrize("count", [2, 6])
def test_bm25_is_that_of_implicit(make_past, count):
    recommender = pytest.importorskip("implicit.nearest_neighbours")
    past = make_past(*sets(users=30), items=ITEMS)
    config = neighbours.Config(weighting="bm25", trend=0.0, neighbours=count, half_life_days=1e9)
    state = neighbours.fit(past, config, runtime=Runtime())
    people = neighbours.purchases(past, past.items, half_life_days=1e9, cap=1)
    theirs = recommender.BM25Recommender(K=len(ITEMS), K1=1.2, B=0.75, num_threads=1)
    theirs.fit(people.astype(float), show_progress=False)
    expected = theirs.similarity.toarray()
    np.fill_diagonal(expected, 0)
    kept = np.sort(expected, axis=1)[:, -count, None]
    expected = np.where((expected >= kept) & (expected > 0), expected, 0)
    np.testing.assert_allclose(state.table.toarray(), expected / expected.max(), rtol=2e-5)


def test_words_join_the_people(make_past):
    words = np.array([[1, 0], [0.6, 0.8], [0, 1], [0, 0], [1, 0], [0, 1]])
    past = make_past(*sets(), items=ITEMS, words=words)
    alone = neighbours.fit(past, neighbours.Config(people=0.0, words=2.0, trend=0.0), runtime=Runtime()).table.toarray()
    expected = 2 * words @ words.T
    np.fill_diagonal(expected, 0)
    np.testing.assert_allclose(alone, expected, atol=1e-6)
    people = neighbours.fit(past, neighbours.Config(trend=0.0), runtime=Runtime()).table.toarray()
    both = neighbours.fit(past, neighbours.Config(words=2.0, trend=0.0), runtime=Runtime()).table.toarray()
    np.testing.assert_allclose(both, people + alone, atol=1e-6)
    without = neighbours.fit(
        make_past(*sets(), items=ITEMS), neighbours.Config(words=2.0, trend=0.0), runtime=Runtime()
    )
    np.testing.assert_array_equal(without.table.toarray(), people)


def test_blocks_of_rows_make_the_same_table(make_past, monkeypatch):
    past = make_past(*sets(), items=ITEMS)
    whole = neighbours.fit(past, neighbours.Config(), runtime=Runtime()).table.toarray()
    monkeypatch.setattr(neighbours, "ROWS_A_BLOCK", 4)
    np.testing.assert_array_equal(neighbours.fit(past, neighbours.Config(), runtime=Runtime()).table.toarray(), whole)


def test_a_weighting_that_does_not_exist_is_refused_in_words():
    with pytest.raises(SettingsError, match="weighting: 'tfidf' is not known"):
        neighbours.Config(weighting="tfidf")
