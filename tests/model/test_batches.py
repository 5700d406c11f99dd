"""What a question may see, and the numbers it is given, worked by hand."""

import dataclasses

import numpy as np
import pytest

from habitue.model.batches import GAPS, NEVER, Batch, collate, sets_before
from habitue.model.past import PURCHASE, REFUND

HALF_LIVES = (10.0,)


@pytest.fixture
def past(make_past):
    return make_past(
        (1, 30, "ab"),
        (1, 20, "b"),
        (1, 10, "ac", REFUND, -2.5),
        (2, 5, "c"),
        items="abc",
        users=[1, 2, 3],
    )


def ask(past, user, days, *, window=8, users=None, ranked=None):
    every = past.histories if users is None else past.histories.take(users)
    at = past.day - np.array(days, dtype=float)
    kinds = np.arange(len(every.kinds) + 1)
    return collate(
        every, np.array(user), at, kinds=kinds, window=window, half_lives=HALF_LIVES, season=False, ranked=ranked
    )


def in_sight(batch: Batch, token: int) -> list[int]:
    return batch.pair_to[batch.pair_from == token].tolist()


def test_sets_before_are_strictly_before(past):
    users, days = np.array([0, 0, 0, 0, 1, 2]), np.array([31.0, 30.0, 29.0, 0.0, 0.0, 0.0])
    assert sets_before(past.histories, users, past.day - days).tolist() == [0, 0, 1, 3, 4, 4]


def test_a_set_sees_itself_and_what_came_before_a_question_only_what_came_before(past):
    batch = ask(past, [0, 0, 1, 2], [20, 0, 0, 0])
    assert batch.sets == 4 and batch.queries == 4
    assert [in_sight(batch, t) for t in range(4)] == [[0], [0, 1], [0, 1, 2], [3]]
    assert [in_sight(batch, t) for t in range(4, 8)] == [[0, 4], [0, 1, 2, 5], [3, 6], [7]]
    assert (batch.pair_from.diff() >= 0).all()


def test_the_window_keeps_the_newest_sets(past):
    batch = ask(past, [0], [0], window=2)
    assert in_sight(batch, 2) == [1, 2] and in_sight(batch, 4) == [1, 2, 4]
    assert batch.met_item.tolist() == [0, 1, 2]  # a and c were given back, b was bought in the newer purchase


def test_distance_is_counted_from_the_newest_set_and_time_in_classes(past):
    batch = ask(past, [0], [0])
    mine = batch.pair_from == 4
    assert batch.pair_back[mine].tolist() == [3, 2, 1, 0]
    assert batch.pair_gap[mine].tolist() == [int(2 * np.log1p(d)) for d in (30, 20, 10, 0)]
    assert ask(past, [0], [-1e9]).pair_gap.max() == GAPS - 1


def test_kinds_are_told_apart_and_a_question_is_the_last(past):
    assert past.histories.kinds == (PURCHASE, REFUND)
    assert ask(past, [0], [0]).kind.tolist() == [0, 0, 1, 0, 2]


def test_the_clock_is_utc_and_monday_is_zero(past):
    batch = ask(past, [0], [0])  # 1 July 2024 was a Monday, the sets lie 30, 20, 10 and 5 days earlier
    assert batch.weekday.tolist() == [5, 1, 4, 2]
    assert batch.hour.tolist() == [0, 0, 0, 0]


def test_numbers_by_hand(past):
    batch = ask(past, [0, 2], [0, 0])
    bought, stranger = batch.numbers[4].numpy(), batch.numbers[5].numpy()
    # since the last set, tenure, orders, size, money, mean money, orders of 30 and 90 days, mean gap, any, no season
    spent = 3.0 - 5.0  # three rows of 1.0, two given back at 2.5: never below 0 on average
    expected = [np.log(11), np.log(31), np.log(3), 0, 0, np.log1p(max(spent, 0)), np.log(3), np.log(3), np.log(16), 1]
    np.testing.assert_allclose(bought[:10], expected, rtol=1e-6)
    np.testing.assert_allclose(stranger[:10], [np.log1p(NEVER), *[0] * 9], rtol=1e-6)
    assert not bought[10:].any()
    refund = batch.numbers[2].numpy()  # the set of 10 days ago knows what came before it, and its own money
    np.testing.assert_allclose(
        refund[:6], [np.log(11), np.log(21), np.log(3), np.log(3), -np.log(6), np.log(2.5)], rtol=1e-6
    )


def test_met_products_by_hand(past):
    batch = ask(past, [0, 1], [0, 0])
    assert batch.met_query.tolist() == [0, 0, 0, 1] and batch.met_item.tolist() == [0, 1, 2, 2]
    b = batch.met[1].numpy()  # bought 30 and 20 days ago, in both of two purchases, one unit each
    worth = 0.5**3 + 0.5**2
    np.testing.assert_allclose(
        b, [np.log(worth + 0.05), np.log(21) - 3, np.log(2.5), np.log(2.2 / 2.4), np.log(2) - 2], rtol=1e-6
    )
    c = batch.met[2].numpy()  # only ever given back
    np.testing.assert_allclose(c, [np.log(0.05), np.log(11) - 3, np.log(0.5), np.log(0.2 / 2.4), -2], rtol=1e-6)


def test_a_users_numbers_do_not_depend_on_the_others(past):
    together, alone = ask(past, [0, 1], [0, 0]), ask(past, [0], [0], users=[1])
    assert together.numbers[3:4].equal(alone.numbers[:1])
    assert together.numbers[5:].equal(alone.numbers[1:])
    assert together.met[together.met_query == 1].equal(alone.met)


def test_only_the_questions_that_rank_are_told_what_was_met(past):
    whole, first = ask(past, [0, 1], [0, 0]), ask(past, [0, 1], [0, 0], ranked=1)
    assert first.met_query.tolist() == [0, 0, 0] and first.met.equal(whole.met[:3])
    assert first.pair_to.equal(whole.pair_to) and first.numbers.equal(whole.numbers)


def test_no_set_at_all(make_past):
    batch = ask(make_past(items="a", users=[4]), [0], [0])
    assert batch.sets == 0 and in_sight(batch, 0) == [0] and len(batch.met) == 0


def test_a_batch_moves_as_a_whole(past):
    batch = ask(past, [0], [0])
    moved = batch.to("meta")
    assert moved.sets == batch.sets
    assert all(getattr(moved, f.name).is_meta for f in dataclasses.fields(Batch) if f.name != "sets")
