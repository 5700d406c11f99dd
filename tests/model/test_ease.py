"""EASE is a ridge regression of every product on all the others; that is how it is checked."""

import numpy as np
import pytest

from habitue.core.errors import ModelError
from habitue.core.runtime import Runtime
from habitue.core.schemas import PURCHASE, REFUND
from habitue.model import ease
from habitue.model.past import freshness, purchases

ITEMS = "ABCDEFG"  # nobody buys G
WORDS = np.array([[1, 0, 0], [0.6, 0.8, 0], [0, 1, 0], [0, 0, 1], [0, 0.6, 0.8], [0, 0, 0], [0.8, 0, 0.6]])


@pytest.fixture
def sets() -> list[tuple]:
    rng = np.random.default_rng(4)
    return [
        (user, int(day), "".join(rng.choice(list(ITEMS[:6]), size=rng.integers(1, 4), replace=False)))
        for user in range(30)
        for day in rng.choice(np.arange(1, 90), size=rng.integers(1, 4), replace=False)
    ] + [(0, 2, "G", REFUND)]


def by_regression(rows: np.ndarray, ridge: float) -> np.ndarray:
    """Column j: what predicts column j of `rows` from the other columns, each by itself."""
    table = np.zeros((rows.shape[1],) * 2)
    for j in range(rows.shape[1]):
        others = np.delete(np.arange(rows.shape[1]), j)
        x = rows[:, others]
        table[others, j] = np.linalg.solve(x.T @ x + ridge * np.eye(len(others)), x.T @ rows[:, j])
    return table


@pytest.mark.parametrize("weight", [0.0, 3.0])
@pytest.mark.parametrize("trend", [0.0, 0.5])
def test_every_column_is_a_ridge_regression(make_past, sets, weight, trend):
    past = make_past(*sets, items=ITEMS, words=WORDS)
    config = ease.Config(ridge=2.0, words=weight, trend=trend, half_life_days=40)
    state = ease.fit(past, config, runtime=Runtime())
    people = purchases(past, past.items, half_life_days=40, cap=1).toarray()
    table = by_regression(np.vstack([people, np.sqrt(weight) * WORDS.T]), 2.0)
    table *= freshness(past, window_days=config.window_days) ** trend
    np.testing.assert_allclose(state.table, table, atol=2e-6)
    assert not state.table.diagonal().any()
    assert state.table.dtype == np.float32


def test_a_product_nobody_bought_is_told_by_its_words(make_past, sets):
    past = make_past(*sets, items=ITEMS, words=WORDS)
    with_words = ease.fit(past, ease.Config(ridge=2.0), runtime=Runtime()).table
    without = ease.fit(past, ease.Config(ridge=2.0, words=0), runtime=Runtime()).table
    assert not without[:, 6].any() and not without[6].any()
    assert with_words[:6, 6].argmax() == 0  # the product whose words are nearest
    assert with_words[0, 6] > 0.05


def test_words_left_out_are_no_words(make_past, sets):
    bare = ease.fit(make_past(*sets, items=ITEMS), ease.Config(), runtime=Runtime())
    none = ease.fit(make_past(*sets, items=ITEMS, words=WORDS), ease.Config(words=0), runtime=Runtime())
    blank = ease.fit(make_past(*sets, items=ITEMS, words=np.zeros((7, 0))), ease.Config(), runtime=Runtime())
    assert bare.table.tobytes() == none.table.tobytes() == blank.table.tobytes()


def test_score_by_hand(make_past):
    past = make_past((1, 10, "A"), (1, 0, "AB"), (2, 20, "B"), (3, 1, "Z"), items="ABZ")
    table = np.array([[0, 2, 1], [4, 0, 0], [-1, 0, 8]], dtype=np.float32)
    state = ease.State(("A", "B", "C"), table, history_half_life_days=10)
    assert ease.score(state, past).tolist() == [[4, 2, 0], [1, 0, 0], [0, 0, 0]]


def test_a_ridge_of_nothing_is_refused_in_words(make_past, sets):
    past = make_past(*sets, items=ITEMS)  # G was never bought: its row of the Gram matrix is zero
    with pytest.raises(
        ModelError, match=r"model.ease: the Gram matrix of the items is not positive definite\. .*ridge"
    ):
        ease.fit(past, ease.Config(ridge=0), runtime=Runtime())


def test_a_table_of_the_products_bought_most_is_that_of_a_shop_without_the_others(make_past, sets):
    past = make_past(*sets, items=ITEMS)
    sold = np.bincount(past.histories.of_kind(PURCHASE).row_item, minlength=len(ITEMS))
    kept = np.sort(np.argsort(-sold, kind="stable")[:4])
    few = ease.fit(past, ease.Config(most=4), runtime=Runtime())
    assert few.items == tuple(ITEMS[i] for i in kept)
    alone = "".join(few.items)
    only = [(u, d, "".join(i for i in items if i in alone), *more) for u, d, items, *more in sets]
    past_of_few = make_past(*[one for one in only if one[2]], items=alone, users=past.histories.user_keys)
    np.testing.assert_allclose(few.table, ease.fit(past_of_few, ease.Config(), runtime=Runtime()).table, rtol=1e-5)
    scores = ease.score(few, past)
    assert scores.shape == (len(past.known), len(ITEMS))
    assert not np.delete(scores, kept, axis=1).any() and scores[:, kept].any()
