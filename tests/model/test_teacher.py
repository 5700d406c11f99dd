"""What the teacher expects, by hand, and how it is mixed into a target."""

import dataclasses

import numpy as np
import pytest
import torch

from habitue.core.runtime import Runtime
from habitue.core.schemas import REFUND
from habitue.model import slist, teacher
from habitue.model.losses import Sparse

TABLE = np.array(
    [  # a     b     c     d     e
        [0.0, 0.4, 0.2, 0.1, -0.3],
        [0.0, 0.0, 0.3, 0.0, 0.5],
        [0.0, 0.0, 0.0, 0.0, 0.0],
        [-0.1, -0.2, -0.3, 0.0, -0.5],
        [0.9, 0.0, 0.0, 0.0, 0.0],
    ],
    dtype=np.float32,
)
TEACHER = slist.State(tuple("abcde"), TABLE, history_half_life_days=10.0)


def expected(past, target, window=9) -> np.ndarray:
    """Return what is told of the sets `target` as a matrix [L, I]."""
    told = teacher.told(past.histories, np.array(target), TEACHER, items=past.items, taught=1.0, window=window)
    assert told.item.dtype == np.int32 and told.share.dtype == np.float32
    found = np.zeros((len(target), 5))
    np.put_along_axis(found, told.item.astype(np.int64), told.share, axis=1)
    return found


def test_the_best_products_and_their_shares_by_hand(make_past, monkeypatch):
    monkeypatch.setattr(teacher, "TOLD", 2)
    past = make_past((1, 30, "a"), (1, 20, "b"), (1, 10, "e"), (2, 9, "c"), (2, 5, "a"), items="abcde")
    shares = expected(past, [0, 1, 2, 4])
    second = np.array([0, 0.4, 0.2, 0, 0]) / 0.6  # ten days after a: half its row, scaled away
    b, c, e = 0.25 * 0.4, 0.25 * 0.2 + 0.5 * 0.3, 0.25 * -0.3 + 0.5 * 0.5  # ten days after b, twenty after a
    np.testing.assert_allclose(shares[1], second, rtol=1e-6)
    np.testing.assert_allclose(shares[2], np.array([0, 0, c, 0, e]) / (c + e), rtol=1e-6)
    assert b < c and not shares[0].any() and not shares[3].any()  # nothing before it, and c foretells nothing


def test_it_says_nothing_rather_than_what_it_holds_unlikely(make_past):
    past = make_past((1, 30, "d"), (1, 20, "b"), items="abcde")
    assert not expected(past, [1]).any()


def test_only_purchases_in_the_window_that_are_not_too_old_are_reasons(make_past, monkeypatch):
    monkeypatch.setattr(teacher, "LITTLE", 0.2)
    sets = [(1, 60, "e"), (1, 30, "a"), (1, 25, "e", REFUND), (1, 24, "b"), (1, 20, "d")]
    of_a_and_b = expected(make_past(*sets[1:2], *sets[3:], items="abcde"), [2])
    assert of_a_and_b[0, 1] > 0
    np.testing.assert_array_equal(expected(make_past(*sets, items="abcde"), [4]), of_a_and_b)  # 40 days are too old
    of_b = expected(make_past(*sets[3:], items="abcde"), [1])
    np.testing.assert_array_equal(expected(make_past(*sets, items="abcde"), [4], window=2), of_b)


def test_it_answers_as_slist_scores(make_past):
    rng = np.random.default_rng(3)
    sets = [(u, d, "".join(rng.choice(list("abcde"), 2, replace=False))) for u in range(9) for d in (9, 6, 4, 2)]
    past = make_past(*sets, items="abcde")
    last = past.histories.set_start[1:] - 1
    kept = past.histories.keep_sets(~np.isin(np.arange(len(past.histories.set_at)), last))
    moment = dataclasses.replace(past, histories=kept).rewind(past.as_of.replace(month=6, day=29))  # two days ago
    scores = np.maximum(slist.score(TEACHER, moment), 0)
    shares = expected(past, last)
    np.testing.assert_allclose(shares, scores / scores.sum(axis=1, keepdims=True), rtol=1e-5)


def test_calls_of_few_lessons_give_the_same(make_past, monkeypatch):
    past = make_past(*((u, d, "abcde"[(u + d) % 5]) for u in range(7) for d in range(5, 0, -1)), items="abcde")
    at_once = expected(past, range(35))
    monkeypatch.setattr(teacher, "LESSONS_A_CALL", 4)
    np.testing.assert_array_equal(expected(past, range(35)), at_once)


def test_a_target_keeps_its_sum_and_gets_the_teachers_part():
    told = teacher.Told(
        np.array([[9, 9], [2, 0], [3, 4], [1, 2]], dtype=np.int32),
        np.array([[9, 9], [0.3, 0.1], [0, 0], [0.2, 0.2]], dtype=np.float32),
    )
    own = Sparse(torch.tensor([0, 0, 1, 2]), torch.tensor([2, 3, 0, 4]), torch.tensor([0.5, 0.5, 1.0, 1.0]))
    both = teacher.mixed(own, told, np.array([1, 2, 3]), items=5)
    dense = torch.zeros(3, 5).index_put((both.row, both.column), both.value)
    wanted = [[0.1, 0, 0.6, 0.3, 0], [1.0, 0, 0, 0, 0], [0, 0.2, 0.2, 0, 0.6]]  # the second has nothing to be told
    torch.testing.assert_close(dense, torch.tensor(wanted))
    assert both.row.tolist() == [0, 0, 0, 1, 2, 2, 2] and both.column.tolist() == [0, 2, 3, 0, 1, 2, 4]


@pytest.mark.parametrize("items", ["a", "ab"])
def test_a_small_catalogue(make_past, items):
    past = make_past(*((u, d, items) for u in range(4) for d in (3, 2, 1)), items=items)
    state = slist.fit(past, slist.Config(), runtime=Runtime())
    told = teacher.told(past.histories, np.arange(12), state, items=past.items, taught=0.25, window=4)
    assert told.item.shape == (12, len(items)) and np.isfinite(told.share).all()
    np.testing.assert_allclose(told.share.sum(axis=1), np.tile([0, 0.25, 0.25], 4), rtol=1e-6)


def test_a_teacher_of_fewer_products_foretells_those(make_past):
    """It knows b and d of a to e: what others had is no reason, and what it expects stands at their places."""
    table = np.array([[0.2, 0.6], [0.5, 0.1]], dtype=np.float32)
    knows = slist.State(("b", "d"), table, history_half_life_days=10.0)
    past = make_past((1, 30, "a"), (1, 20, "bc"), (1, 10, "e"), items="abcde")
    told = teacher.told(past.histories, np.arange(3), knows, items=past.items, taught=1.0, window=9)
    assert not told.share[:2].any()
    assert dict(zip(told.item[2].tolist(), told.share[2].tolist(), strict=True)) == pytest.approx({1: 0.25, 3: 0.75})
