"""Which questions are asked, about whom, and that each comes once a pass."""

import dataclasses
import datetime as dt

import numpy as np
import polars as pl
import pytest

from habitue.core.errors import ModelError
from habitue.core.schemas import LABELS
from habitue.model.lessons import _repeats, drawn, hold_back, lessons
from habitue.model.past import PURCHASE, REFUND


@pytest.mark.parametrize("clock", [True, False])
def test_every_lesson_is_taken_once_a_pass(make_past, clock):
    rng = np.random.default_rng(0)
    sets = ((user, 0.5 + n, "abc"[rng.integers(3)]) for user in range(40) for n in range(1 + rng.integers(25)))
    given = lessons(make_past(*sets, items="abc"), clock=clock)
    every = given.known.every
    a_pass, stretches = drawn(given, window=5, questions=60, clock=clock, seed=1)
    assert a_pass == int(np.ceil(len(given.target) / 60)) > 3
    taken = [stretches(step) for step in range(2 * a_pass)]
    for first in (0, a_pass):
        found = []
        for some in taken[first : first + a_pass]:
            asked, of = some.about(given.key)
            target = given.target[asked]
            assert len(asked) and (some.end - some.start).max() <= 5
            assert (every.set_user[target] == some.user[of]).all()
            assert ((target > some.start[of]) | (target == every.set_start[some.user[of]])).all()
            assert (target <= some.end[of]).all()
            found.append(target)
        assert np.sort(np.concatenate(found)).tolist() == given.target.tolist()
    places = [np.sort(np.concatenate([s.start for s in taken[f : f + a_pass]])).tolist() for f in (0, a_pass)]
    assert places[0] != places[1]  # histories are cut elsewhere
    assert stretches(0).start.tolist() == taken[0].start.tolist()  # and a step is the same whenever it is asked for


def test_repeats_are_counted_among_what_is_to_be_foretold(make_past):
    past = make_past((1, 30, "ab"), (1, 20, "bc"), (1, 10, "a", REFUND), (2, 5, "a"), items="abc")
    given = lessons(past, clock=True)
    assert _repeats(past.histories, given.target) == pytest.approx(1 / 5)
    assert given.again and not lessons(make_past((1, 30, "ab"), (1, 20, "c"), items="abc"), clock=True).again


def test_purchases_alone_are_targets(make_past):
    past = make_past((1, 20, "a"), (1, 10, "b", REFUND), (1, 5, "c"), items="abc")
    given = lessons(past, clock=True)
    assert past.histories.set_kind[given.target].tolist() == [past.histories.kinds.index(PURCHASE)] * 2
    np.testing.assert_allclose(past.day - given.after, [20, 20])  # the pause began with the last purchase


def test_what_is_held_back_is_the_last_horizon_of_some_who_bought_in_it(make_past):
    """Users 1 to 4 bought in the last 30 days and before; 5 only before, 6 only lately."""
    orders = [(user, 40 + user, "a") for user in range(1, 6)]
    late = [(user, days, items) for user in range(1, 5) for days, items in ((30, "bc"), (10, "a"), (3, "c"))]
    past = make_past(*orders, *late, (6, 5, "b"), (2, 29, "b", REFUND), items="abcd", horizon_days=30)
    rows = [
        (u, past.as_of - dt.timedelta(days=d), past.as_of - dt.timedelta(days=d - 30)) for u in (1, 2) for d in (70, 45)
    ]
    labels = pl.DataFrame(rows, schema=["user_key", "as_of", "horizon_end"], orient="row")
    rest = pl.DataFrame(
        {c: [None] * 4 for c in LABELS.schema if c not in labels.columns}, schema_overrides=LABELS.schema
    )
    held = hold_back(
        dataclasses.replace(past, train_labels=pl.concat([labels, rest.select(rest.columns)], how="horizontal"))
    )
    users = held.asked.histories.user_keys.tolist()
    assert users == [1, 4]  # half of the four, evenly spaced
    assert held.asked.day == past.day - 30 and (held.asked.histories.set_at < held.asked.day).all()
    assert (
        held.target.toarray().tolist() == [[0, 1, 1, 0]] * 2
    )  # the first set at or after that moment, all products wide
    every, seen = past.histories, held.past.histories
    hidden = np.isin(every.user_keys[every.set_user], users) & (every.set_at >= held.asked.day)
    assert hidden.sum() == 6 and len(seen.set_at) == len(every.set_at) - 6
    assert seen.user_keys.tolist() == every.user_keys.tolist() and held.past.day == past.day
    kept = held.past.train_labels.select("user_key", (past.as_of - pl.col("as_of")).dt.total_days()).rows()
    assert kept == [(1, 70), (2, 70), (2, 45)]  # user 1's second label looks into what is hidden
    scores = np.array([[0, 3, 2, 1], [3, 2, 1, 0]], dtype=np.float32)
    second = (1 / np.log2(3) + 1 / np.log2(4)) / (1 + 1 / np.log2(3))
    assert held.ndcg(scores) == pytest.approx((1 + second) / 2)


def test_a_shop_in_which_nobody_came_back_has_nothing_to_hold(make_past):
    past = make_past((1, 50, "a"), (1, 10, "b"), (2, 20, "a"), items="ab", horizon_days=30)
    with pytest.raises(
        ModelError, match="setting 'patience'.*1 customers bought before and in the last 30 days.*patience = 0"
    ):
        hold_back(past)


def test_of_many_one_in_twenty_is_held(make_past):
    past = make_past(*((user, days, "a") for user in range(5_000) for days in (50, 10)), items="a", horizon_days=30)
    assert len(hold_back(past).asked.known) == 250
    few = past.take(np.arange(1_000))
    assert len(hold_back(few).asked.known) == 200
    guests = dataclasses.replace(few, known=np.arange(1_000) < 100)
    assert len(hold_back(guests).asked.known) == 50 and hold_back(guests).asked.histories.user_keys.max() < 100


def test_what_came_after_a_label_was_asked(make_past):
    """Ten days' horizon; days before as_of. A refund is no purchase but it is the next kind."""
    orders = [(1, 60, "a"), (1, 50, "a", REFUND), (1, 20, "b"), (2, 55, "a"), (3, 40, "a"), (3, 35.5, "b")]
    past = make_past(*orders, items="ab", horizon_days=10)
    asked_at = [(1, 59), (1, 45), (2, 54), (3, 55), (3, 40), (3, 35.5)]
    rows = [
        (user, past.as_of - dt.timedelta(days=day), past.as_of - dt.timedelta(days=day - 10)) for user, day in asked_at
    ]
    labels = pl.DataFrame(rows, schema=["user_key", "as_of", "horizon_end"], orient="row").with_columns(
        churned=pl.lit(False), orders=pl.lit(0, pl.Int64), value=pl.lit(0.0)
    )
    given = lessons(dataclasses.replace(past, train_labels=labels), clock=True)
    order = [given.label_at.tolist().index(past.day - day) for _, day in asked_at]
    assert given.wait[order].tolist() == [39, 25, np.inf, 15, 0, 0]  # what lies at the moment itself comes after it
    assert given.seen[order].tolist() == [59, 45, 54, 55, 40, 35.5]
    kinds = past.histories.kinds
    assert given.next_kind[order].tolist() == [
        kinds.index(REFUND),
        -1,
        -1,
        -1,
        kinds.index(PURCHASE),
        kinds.index(PURCHASE),
    ]
