import datetime as dt

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from habitue.collect import synthetic
from habitue.core.errors import UsageError
from habitue.core.schemas import EVENTS, LABELS, check
from habitue.prepare import labels

START = dt.datetime(2024, 1, 1, tzinfo=dt.UTC)


def day(n: float) -> dt.datetime:
    return START + dt.timedelta(days=n)


def test_a_hand_worked_horizon(lines):
    events = lines(
        {"user_key": 1, "day": 0.0},
        {"user_key": 1, "day": 10.0, "order_id": "a", "price": 5.0},  # the moment itself is in the horizon
        {"user_key": 1, "day": 10.0, "order_id": "a", "price": 7.0},
        {"user_key": 1, "day": 11.0, "order_id": "b", "price": 1.5},
        {"user_key": 1, "day": 12.0, "order_id": "c", "price": 4.0, "quantity": -1.0, "kind": "Order Refunded"},
        {"user_key": 1, "day": 20.0, "order_id": "d", "price": 100.0},  # the end is outside
        {"user_key": 2, "day": 9.0},
        {"user_key": 2, "day": 15.0, "order_id": "r", "quantity": -2.0, "kind": "Order Refunded"},
        {"user_key": 2, "day": 16.0, "kind": "Product Viewed", "order_id": None, "price": 9.0},
        {"user_key": 3, "day": 10.0},  # not known before the moment
        {"user_key": 4, "day": 1.0, "kind": "Product Viewed"},
        {"user_key": 4, "day": 12.0, "order_id": None, "price": None},  # orders without number and price
        {"user_key": 4, "day": 13.0, "order_id": None, "price": None},
    )
    found = labels(events, as_of=day(10), horizon_days=10)
    check(found, LABELS, at="test")
    assert found.select("user_key", "churned", "orders", "value").rows() == [
        (1, False, 2, 9.5),
        (2, True, 0, -4.0),
        (4, False, 2, 0.0),
    ]
    assert found.select("as_of", "horizon_end").unique().rows() == [(day(10), day(20))]


def test_many_moments_are_the_single_ones_one_after_another(lines):
    events = synthetic.shop(users=10, days=90)
    several = labels(events, as_of=[day(40), day(20), day(40)], horizon_days=30, users=[1, 2, 3, 77])
    single = [labels(events, as_of=day(n), horizon_days=30, users=[1, 2, 3]) for n in (20, 40)]
    assert several.equals(pl.concat(single))
    assert set(several["user_key"]) == {1, 2, 3}


def test_a_horizon_that_is_not_closed_is_refused_in_words(lines):
    events = lines({"day": 0.0}, {"day": 9.5})  # the data end with day 9, at 2024-01-11
    assert labels(events, as_of=day(5), horizon_days=5).height == 1
    message = (
        r"prepare.labels: the horizon of 5 days from 2024-01-07T00:00:00\+00:00 closes on 2024-01-12T00:00:00\+00:00, "
        r"and the data end on 2024-01-11T00:00:00\+00:00. A customer whose next order is not in the data yet would be "
        r"labelled as lost. Ask for a moment up to 2024-01-06T00:00:00\+00:00, or a shorter horizon."
    )
    with pytest.raises(UsageError, match=message):
        labels(events, as_of=[day(2), day(6)], horizon_days=5)


def test_the_end_of_the_data_may_be_given(lines):
    events = lines({"day": 0.0}, {"day": 9.5})
    assert labels(events, as_of=day(6), horizon_days=5, until=day(11)).height == 1
    with pytest.raises(UsageError, match="the data end on 2024-01-05"):
        labels(events, as_of=day(3), horizon_days=2, until=day(4))


@pytest.mark.parametrize("days", [0, -3])
def test_a_horizon_of_no_days_is_refused(lines, days):
    with pytest.raises(UsageError, match=f"the horizon is {days} days. Nothing can happen in it"):
        labels(lines({}), as_of=day(1), horizon_days=days)


def test_a_moment_without_a_zone_is_refused(lines):
    with pytest.raises(UsageError, match="prepare.labels: the moment .* has no time zone"):
        labels(lines({}), as_of=dt.datetime(2024, 1, 1), horizon_days=1)
    with pytest.raises(UsageError, match="prepare.labels: the moment .* has no time zone"):
        labels(lines({}), as_of=day(0), horizon_days=1, until=dt.datetime(2024, 3, 1))


def test_empty_table_no_moment_nobody_known_yet(lines):
    assert labels(EVENTS.empty(), as_of=day(1), horizon_days=1).equals(LABELS.empty())
    assert labels(lines({}), as_of=[], horizon_days=1).equals(LABELS.empty())
    assert labels(lines({"day": 9.0}), as_of=day(1), horizon_days=1).equals(LABELS.empty())
    assert labels(lines({}), as_of=day(0.5), horizon_days=1, users=[], until=day(9)).equals(LABELS.empty())


@settings(deadline=None, max_examples=20)
@given(st.integers(1, 60))
def test_what_comes_after_the_horizon_changes_nothing(n):
    events = synthetic.shop(users=8, days=90)
    end = day(n + 30)
    whole = labels(events, as_of=day(n), horizon_days=30, until=day(95))
    assert labels(events.filter(pl.col("at") < end), as_of=day(n), horizon_days=30, until=end).equals(whole)


def test_the_planted_lapse_of_the_toy_shop_is_seen():
    events = synthetic.shop(users=80, days=240)
    found = labels(events, as_of=day(180), horizon_days=60)
    lapsed = found.with_columns(planted=pl.col("user_key") // 4 % 2 == 0)
    assert (lapsed["churned"] == lapsed["planted"]).all()
