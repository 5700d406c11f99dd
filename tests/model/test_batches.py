"""What a question may see, and the numbers it is given, worked by hand."""

import dataclasses
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from habitue.model import batches
from habitue.model.batches import ALIKE, GAPS, NEVER, SHORT, Batch, Questions, collate, known, sets_before
from habitue.model.past import PURCHASE, REFUND, Histories

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


@pytest.fixture(scope="module")
def make_lengths():
    """Return lengths -> a past in which user b has so many sets, a day apart."""

    def make(lengths):
        sets = sum(lengths)
        every = Histories(
            user_keys=np.arange(len(lengths)),
            set_start=np.r_[0, np.cumsum(lengths)],
            set_at=np.concatenate([100.0 - np.arange(n, 0, -1) for n in lengths] + [[]]),
            set_kind=np.zeros(sets, dtype=np.int8),
            row_start=np.arange(sets + 1),
            row_item=np.zeros(sets, dtype=np.int32),
            row_quantity=np.ones(sets, dtype=np.float32),
            row_value=np.ones(sets, dtype=np.float32),
        )
        return SimpleNamespace(histories=every, day=100.0)

    return make


def ask(past, user, days, *, window=8, users=None, ranked=None, clock=True, half_lives=HALF_LIVES):
    """Ask about the newest `window` sets of some users; every user is a stretch of its own."""
    every = past.histories if users is None else past.histories.take(users)
    user, at = np.array(user), past.day - np.array(days, dtype=float)
    mine = np.arange(len(every.user_keys))
    questions = Questions(
        user=mine,
        start=np.maximum(every.set_start[:-1], every.set_start[1:] - window),
        end=every.set_start[1:],
        of=user,
        before=sets_before(every, user, at),
        at=at,
        ranked=len(user) if ranked is None else ranked,
    )
    kinds = np.arange(len(every.kinds) + 1)
    return collate(
        known(every, season=False), questions, kinds=kinds, half_lives=half_lives, clock=clock, window=window
    )


def in_sight(batch: Batch, token: int) -> list[int]:
    """Return the sets a token sees, oldest first."""
    found = []
    for group in batch.every.groups:
        for row, place in (group.token == token).nonzero().tolist():
            back = group.back[row if len(group.back) > 1 else 0, place]
            found += [int(group.seen[row, k]) for k in (back > 0).nonzero()[:, 0]]
    return found


def test_sets_before_are_strictly_before(past):
    users, days = np.array([0, 0, 0, 0, 1, 2]), np.array([31.0, 30.0, 29.0, 0.0, 0.0, 0.0])
    assert sets_before(past.histories, users, past.day - days).tolist() == [0, 0, 1, 3, 4, 4]


def test_a_set_sees_itself_and_what_came_before_a_question_only_what_came_before(past):
    batch = ask(past, [0, 0, 1, 2], [20, 0, 0, 0])
    assert batch.sets == 4 and batch.asked.tolist() == [4, 5, 6, 7]
    assert [in_sight(batch, t) for t in range(4)] == [[0], [0, 1], [0, 1, 2], [3]]
    assert [in_sight(batch, t) for t in range(4, 8)] == [[0], [0, 1, 2], [3], []]


def test_without_a_clock_the_newest_set_in_sight_answers(past):
    batch = ask(past, [0, 0, 1], [20, 0, 0], users=[0, 1], clock=False)
    assert batch.sets == len(batch.kind) == 4 and batch.asked.tolist() == [0, 2, 3]
    assert [in_sight(batch, t) for t in range(4)] == [[0], [0, 1], [0, 1, 2], [3]]
    assert all(group.gap is None for group in batch.every.groups)


def test_questions_may_come_in_any_order(past):
    one, other = ask(past, [0, 1, 0], [20, 0, 0]), ask(past, [1, 0, 0], [0, 0, 20])
    for first, second in ((4, 6), (5, 4), (6, 5)):
        assert in_sight(one, first) == in_sight(other, second)
        assert one.numbers[first].equal(other.numbers[second])


@settings(deadline=None)
@given(lengths=st.lists(st.integers(0, 30), min_size=1, max_size=6), asked=st.integers(0, 3), clock=st.booleans())
def test_each_token_lies_in_one_group_and_finds_its_way_back(make_lengths, lengths, asked, clock):
    past = make_lengths(lengths)
    user = np.repeat([u for u, n in enumerate(lengths) if n], asked).astype(int)
    batch = ask(past, user, np.zeros(len(user)), window=64, clock=clock)
    laid = torch.cat([group.token.ravel() for group in batch.every.groups])
    tokens = len(batch.kind)
    assert laid[batch.every.order].tolist() == list(range(tokens))
    assert sorted(laid[laid < tokens].tolist()) == list(range(tokens))
    owner = np.r_[np.repeat(np.arange(len(lengths)), lengths), user if clock else []]
    for token in range(tokens):
        seen = in_sight(batch, token)
        assert len(seen) == (token - np.flatnonzero(owner == owner[token])[0] + 1 if token < batch.sets
                             else lengths[int(owner[token])])  # fmt: skip
        assert (owner[seen] == owner[token]).all()
    for group in batch.every.groups:
        sets = (group.seen < batch.sets).sum(1)
        assert group.seen.shape[1] <= max(SHORT, ALIKE * int(sets.min()))


def test_the_window_keeps_the_newest_sets(past):
    batch = ask(past, [0], [0], window=2)
    assert in_sight(batch, 1) == [0, 1] and in_sight(batch, 3) == [0, 1]  # of sets 20 and 10 days ago
    assert batch.numbers[0, 2] == np.log(2).astype(np.float32)  # the purchase before them is known all the same
    assert batch.met_item.tolist() == [0, 1, 2]  # a and c were given back, b was bought in the newer purchase


def test_distance_is_counted_from_the_newest_set_and_time_in_classes(past):
    batch = ask(past, [0], [0], users=[0])
    (group,) = batch.every.groups
    assert group.token.tolist() == [[0, 1, 2, 3]]
    assert group.back[0].tolist() == [[1, 0, 0], [2, 1, 0], [3, 2, 1], [3, 2, 1]]
    assert group.gap[0, 3].tolist() == [int(2 * np.log1p(d)) for d in (30, 20, 10)]
    assert ask(past, [0], [-1e9]).every.groups[0].gap.max() == GAPS - 1


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
    assert first.numbers.equal(whole.numbers)
    assert not len(ask(past, [0, 1], [0, 0], half_lives=()).met)


def test_no_set_at_all(make_past):
    batch = ask(make_past(items="a", users=[4]), [0], [0])
    assert batch.sets == 0 and in_sight(batch, 0) == [] and len(batch.met) == 0


def test_those_who_answer_look_as_they_do_among_all(past):
    """The last block computes nothing else; where most tokens answer, there is nothing to leave out."""
    for clock, user, days in ((True, [0, 1, 0], [15, 0, 0]), (False, [1, 0], [0, 0])):
        batch = ask(past, user, days, users=[0, 1], clock=clock)
        whole = {}
        for group in batch.every.groups:
            for row, place in (group.token < len(batch.kind)).nonzero().tolist():
                back = group.back[row if len(group.back) > 1 else 0, place]
                gap = back if group.gap is None else group.gap[row, place]
                near = [(int(s), int(b), int(g)) for s, b, g in zip(group.seen[row], back, gap, strict=True) if b]
                whole[int(group.token[row, place])] = near
        found = {}
        for group in batch.last.groups:
            for row, place in (group.token < len(user)).nonzero().tolist():
                back, gap = group.back[row, place], (group.back if group.gap is None else group.gap)[row, place]
                near = [(int(s), int(b), int(g)) for s, b, g in zip(group.seen[row], back, gap, strict=True) if b]
                found[int(group.token[row, place])] = near
            assert group.asks is None if not clock else group.asks.all()
        assert found == {question: whole[token] for question, token in enumerate(batch.asked.tolist())}
        laid = torch.cat([group.token.ravel() for group in batch.last.groups])
        assert laid[batch.last.order].tolist() == list(range(len(user)))
    assert ask(past, [0, 0, 1], [20, 0, 0], users=[0, 1], clock=False).last is None


def test_the_pause_before_a_token_is_in_days(past):
    batch = ask(past, [0, 1, 2], [0, 0, 0])
    np.testing.assert_allclose(batch.every.pause, [NEVER, 10, 10, NEVER, 10, 5, NEVER], rtol=1e-5)
    assert batch.last.pause.equal(batch.every.pause) and batch.last.sets == batch.every.sets == 4
    assert not ask(past, [0, 1], [0, 0], users=[0, 1], clock=False).every.pause.any()


def test_a_batch_moves_as_a_whole(past):
    batch = ask(past, [0], [0])
    moved = batch.to("meta")
    assert moved.sets == batch.sets and (moved.length == batch.length).all()
    tensors = [f.name for f in dataclasses.fields(Batch) if isinstance(getattr(batch, f.name), torch.Tensor)]
    assert len(tensors) == 12 and all(getattr(moved, name).is_meta for name in tensors)
    for sight in (moved.every, moved.last):
        assert sight.pause.is_meta and sight.order.is_meta
        for group in sight.groups:
            assert all(part.is_meta for part in (group.token, group.seen, group.back, group.gap, group.asks))
    assert ask(past, [0], [0], clock=False).to("meta").every.groups[0].gap is None


def test_the_first_set_in_sight_is_the_same_of_one_token_and_of_many():
    counts = np.arange(400)
    for window in (1, 2, 7, 64):
        one = [batches.first_in_sight_of(count, window) for count in counts.tolist()]
        assert one == batches.first_in_sight(counts, window).tolist() and one[window] == 0 < one[window + 1]
