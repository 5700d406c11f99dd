"""The table is a ridge regression of each set on what was bought before it; rows are built by loops here."""

import tracemalloc

import numpy as np
import pytest

from habitue.core.errors import ModelError
from habitue.core.runtime import Runtime
from habitue.core.schemas import PURCHASE, REFUND
from habitue.model import slist

ITEMS = "ABCDEF"  # nobody buys F


@pytest.fixture
def sets() -> list[tuple]:
    rng = np.random.default_rng(8)
    made = []
    for user in range(25):
        for day in sorted(rng.choice(np.arange(1, 120), size=rng.integers(0, 7), replace=False).tolist(), reverse=True):
            made.append((user, day, "".join(rng.choice(list(ITEMS[:5]), size=rng.integers(1, 4), replace=False))))
    return [*made, (3, 2, "F", REFUND), (4, 50, "F", "Product Viewed")]


def by_regression(sets, config, words=None) -> np.ndarray:
    before, following, worth, around = [], [], [], np.zeros((25, len(ITEMS)))
    purchases = [s for s in sets if len(s) == 3]
    for user in range(25):
        mine = [s for s in purchases if s[0] == user]
        for _, day, items in mine:
            around[user, [ITEMS.index(i) for i in items]] += 0.5 ** (day / config.half_life_days)
        for t in range(1, len(mine)):
            row, wanted = np.zeros(len(ITEMS)), np.zeros(len(ITEMS))
            for _, day, items in mine[max(t - config.window, 0) : t]:
                row[[ITEMS.index(i) for i in items]] += 0.5 ** ((day - mine[t][1]) / config.history_half_life_days)
            for ahead, (_, _, items) in enumerate(mine[t : t + config.ahead]):
                wanted[[ITEMS.index(i) for i in items]] += config.fade**ahead
            before.append(np.minimum(row, 1))
            following.append(np.minimum(wanted, 1))
            worth.append(0.5 ** (mine[t][1] / config.half_life_days))
    x, y, w = np.array(before), np.array(following), np.array(worth)[:, None]
    everyone = np.minimum(around, 1)
    joined = config.around * everyone.T @ everyone
    if words is not None:
        joined += config.words * words @ words.T
    table = np.linalg.solve(x.T @ (w * x) + joined + config.ridge * np.eye(len(ITEMS)), x.T @ (w * y) + joined)
    if not config.again:
        np.fill_diagonal(table, 0)
    ever = np.array([sum(letter in s[2] for s in purchases) for letter in ITEMS])
    lately = np.array([sum(letter in s[2] for s in purchases if s[1] <= config.window_days) for letter in ITEMS])
    return table * ((lately + 1) / (ever + 5)) ** config.trend


@pytest.fixture(params=[0.0, 2.0], ids=["dense", "sparse"])
def pairs(request, monkeypatch) -> None:
    """As where many pairs of products occur, and as where few do; blocks end inside the table."""
    monkeypatch.setattr(slist, "DENSE", request.param)
    monkeypatch.setattr(slist, "ROWS_A_BLOCK", 4)


AHEAD = {"around": 0.0, "words": 0.0}


@pytest.mark.parametrize(
    "more",
    [AHEAD, {**AHEAD, "ridge": 1.0, "half_life_days": 30, "history_half_life_days": 20, "trend": 0.0}],
)
@pytest.mark.usefixtures("pairs")
def test_the_table_foretells_each_set_from_those_before(make_past, sets, more):
    config = slist.Config(**more)
    state = slist.fit(make_past(*sets, items=ITEMS, users=range(25)), config, runtime=Runtime())
    expected = by_regression(sets, config)
    np.testing.assert_allclose(state.table, expected, rtol=1e-4, atol=1e-6)
    assert state.table.dtype == np.float32
    assert state.table.diagonal()[:5].all()  # a product may foretell itself
    assert not state.table[5].any() and not state.table[:, 5].any()


WORDS = np.array([[1, 0], [0.6, 0.8], [0, 1], [0, 0], [1, 0], [0, 1]])


@pytest.mark.parametrize(
    "more",
    [
        {"around": 0.5},
        {"words": 3.0},
        {"around": 0.3, "words": 2.0, "ahead": 3, "fade": 0.5, "again": False},
        {"window": 1, "ahead": 2},
    ],
)
@pytest.mark.usefixtures("pairs")
def test_both_halves_and_the_words_are_one_regression(make_past, sets, more):
    config = slist.Config(ridge=20.0, **more)
    state = slist.fit(make_past(*sets, items=ITEMS, users=range(25), words=WORDS), config, runtime=Runtime())
    np.testing.assert_allclose(state.table, by_regression(sets, config, WORDS), rtol=1e-3, atol=2e-5)


def test_one_set_each_teaches_nothing(make_past):
    past = make_past((1, 3, "AB"), (2, 5, "B"), items="AB")
    assert not slist.fit(past, slist.Config(**AHEAD), runtime=Runtime()).table.any()


def test_score_by_hand(make_past):
    past = make_past((1, 10, "A"), (1, 0, "AB"), (2, 20, "B"), (3, 1, "Z"), items="ABZ")
    table = np.array([[1, 2, 1], [4, 0, 0], [-1, 0, 8]], dtype=np.float32)
    state = slist.State(("A", "B", "C"), table, history_half_life_days=10)
    assert slist.score(state, past).tolist() == [[5, 2, 0], [1, 0, 0], [0, 0, 0]]


def test_a_ridge_of_nothing_is_refused_in_words(make_past, sets):
    with pytest.raises(ModelError, match=r"model.slist: the Gram matrix .*'ridge' of model.slist; it must be above 0"):
        slist.fit(make_past(*sets, items=ITEMS), slist.Config(ridge=0), runtime=Runtime())


def test_beyond_its_most_it_knows_the_products_bought_most(make_past, sets):
    past = make_past(*sets, items=ITEMS)
    few = slist.fit(past, slist.Config(most=3), runtime=Runtime())
    sold = np.bincount(past.histories.of_kind(PURCHASE).row_item, minlength=len(ITEMS))
    kept = np.sort(np.argsort(-sold, kind="stable")[:3])
    assert few.items == tuple(ITEMS[i] for i in kept) and few.table.shape == (3, 3)
    scores = slist.score(few, past)
    assert not np.delete(scores, kept, axis=1).any() and scores[:, kept].any()


def test_the_table_is_held_once(make_past):
    """It is solved where it lies; beside it stand blocks of rows, here a quarter of it each."""
    items = [f"P{n:04d}" for n in range(4096)]
    bought = [(user, 9 - n, items[(37 * user + n) % len(items)]) for user in range(300) for n in range(4)]
    past = make_past(*((user, day, (item,)) for user, day, item in bought), items=items)
    tracemalloc.start()
    try:
        state = slist.fit(past, slist.SEQUENCE, runtime=Runtime())
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert state.table.any()
    assert state.table.nbytes < peak < 2 * state.table.nbytes
