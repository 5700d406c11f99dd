import datetime as dt
import math

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from habitue.collect import synthetic
from habitue.core.errors import SchemaError, UsageError
from habitue.core.schemas import EVENTS, FEATURES, check
from habitue.prepare import features
from habitue.prepare.declared import LEDGER, Feature

START = dt.datetime(2024, 1, 1, tzinfo=dt.UTC)
VIEW, REFUND = "Product Viewed", "Order Refunded"


def day(n: float) -> dt.datetime:
    return START + dt.timedelta(days=n)


def value(events: pl.DataFrame, at: float, kind: str, column: str | None = None, **more) -> float | None:
    """One feature of user 1."""
    declared = Feature("f", kind, column, **more)
    return features(events, as_of=day(at), declared=[declared], users=[1])["f"].item()


@pytest.fixture(scope="module")
def orders(lines) -> pl.DataFrame:
    """Three orders of user 1 at days 0, 4 and 10, a refund at day 6, a view at day 11; user 2 once."""
    return lines(
        {"order_id": "o1", "item_id": "a", "quantity": 2.0, "price": 3.0},  # 6
        {"order_id": "o1", "item_id": "b", "quantity": 1.0, "price": 4.0},  # 4
        {"order_id": "o2", "item_id": "a", "quantity": 5.0, "price": 3.0, "day": 4.0},  # 15
        {"order_id": "o3", "item_id": "a", "quantity": 1.0, "price": 3.0, "day": 10.0},  # 3
        {"order_id": "o3", "item_id": "c", "quantity": 1.0, "price": None, "day": 10.0},
        {"order_id": "o3", "item_id": "a", "quantity": 4.0, "price": 3.0, "day": 10.0},  # 12
        {"order_id": "r1", "item_id": "a", "quantity": -2.0, "price": 3.0, "day": 6.0, "kind": REFUND},  # -6
        {"order_id": None, "item_id": None, "quantity": None, "price": None, "day": 11.0, "kind": VIEW},
        {"order_id": "p1", "item_id": "a", "user_key": 2, "day": 5.0},
    )


def test_counts_sums_and_distinct_values(orders):
    assert value(orders, 12, "count") == 6
    assert value(orders, 12, "count", where=(("quantity", ">=", 2.0),)) == 3
    assert value(orders, 12, "count", where=(("price", "!=", 4.0), ("quantity", "<", 5.0))) == 3  # null price: no match
    assert value(orders, 12, "sum", "value") == 40
    assert value(orders, 12, "sum", "value", kinds=(REFUND,)) == -6
    assert value(orders, 12, "sum", "quantity", kinds=("Order Completed", REFUND)) == 12
    assert value(orders, 12, "distinct", per=("order_id",)) == 3
    assert value(orders, 12, "distinct", per=("item_id",)) == 3
    assert value(orders, 12, "distinct", per=("order_id", "item_id")) == 5
    assert value(orders, 12, "distinct", per=("order_id",), kinds=(VIEW,)) == 0


def test_only_what_is_strictly_before_counts(orders):
    assert value(orders, 4, "count") == 2
    assert value(orders, 4 + 1e-9, "count") == 3
    assert value(orders, 4, "days_since_last") == 4


def test_windows_hold_their_first_moment_and_not_their_last(orders):
    assert value(orders, 10, "count", window_days=6) == 1  # day 4 is in, day 10 is not
    assert value(orders, 10, "count", window_days=5.999) == 0
    assert value(orders, 12, "sum", "value", window_days=9) == 30
    assert value(orders, 12, "distinct", per=("item_id",), window_days=9) == 2  # a was bought before the window too
    assert value(orders, 12, "distinct", per=("item_id",), window_days=8) == 2  # a at the first moment and again: once
    assert value(orders, 12, "distinct", per=("item_id",), window_days=1) == 0
    assert value(orders, 40, "count", window_days=5) == 0  # no event at all in the window


def test_decayed_sums(orders):
    assert value(orders, 12, "decayed_sum", half_life_days=2) == pytest.approx(2 * 2**-6 + 2**-4 + 3 * 2**-1)
    each_once = value(orders, 12, "decayed_sum", per=("order_id",), half_life_days=2)
    assert each_once == pytest.approx(2**-6 + 2**-4 + 2**-1)
    spend = value(orders, 12, "decayed_sum", "value", half_life_days=4)
    assert spend == pytest.approx(10 * 2**-3 + 15 * 2**-2 + 15 * 2**-0.5)
    assert value(orders, 12, "decayed_sum", kinds=("Wishlisted",), half_life_days=4) == 0


def test_times_and_gaps(orders):
    assert value(orders, 12, "days_since_first") == 12
    assert value(orders, 12, "days_since_last") == 2
    assert value(orders, 12, "days_since_last", kinds=(REFUND,)) == 6
    assert value(orders, 5, "days_since_last", kinds=(REFUND,)) is None
    assert value(orders, 12, "gap_mean") == 5  # 4 and 6 days
    assert value(orders, 12, "gap_std") == pytest.approx(1)
    assert value(orders, 5, "gap_std") == 0  # one gap
    assert value(orders, 4, "gap_mean") is None


def test_equal_gaps_have_no_spread(lines):
    events = lines(*({"day": 0.1 * i} for i in range(50)))
    assert value(events, 9, "gap_std") == 0
    assert value(events, 9, "gap_mean") == pytest.approx(0.1)


def test_the_last_set_is_the_whole_last_moment(orders):
    assert value(orders, 12, "last", "value") == 15
    assert value(orders, 10, "last", "quantity") == 5
    assert value(orders, 12, "last", "value", kinds=(VIEW,)) == 0
    assert value(orders, 5, "last", "value", kinds=(REFUND,)) is None


def test_ratios_and_the_calendar(orders):
    declared = [
        Feature("spend", "sum", "value"),
        Feature("orders", "distinct", per=("order_id",)),
        Feature("refunds", "count", kinds=(REFUND,)),
        Feature("per_order", "ratio", of=("spend", "orders")),
        Feature("per_refund", "ratio", of=("spend", "refunds")),
        Feature("month", "calendar", "month"),
        Feature("weekday", "calendar", "weekday"),
    ]
    table = features(orders, as_of=[day(5), day(40)], declared=declared, users=[1])
    assert table["per_order"].to_list() == [12.5, pytest.approx(40 / 3)]
    assert table["per_refund"].to_list() == [None, 40]
    assert table["month"].to_list() == [1, 2]
    assert table["weekday"].to_list() == [6, 6]  # 6 January and 10 February 2024 are Saturdays


def test_rows_are_the_customers_known_by_then(orders):
    table = features(orders, as_of=[day(5), day(20), day(0)], declared=[Feature("n", "count")])
    assert table.rows() == [(1, day(5), 3.0), (1, day(20), 6.0), (2, day(20), 1.0)]
    assert features(orders, as_of=day(20), users=[2, 9], declared=[Feature("n", "count")])["user_key"].to_list() == [2]


def test_many_moments_are_the_single_ones():
    events = synthetic.shop(users=12, days=120)
    moments = [day(n) for n in (1, 30, 77, 119, 300)]
    single = [features(events, as_of=moment) for moment in moments]
    assert features(events, as_of=moments[::-1]).equals(pl.concat(single))


def test_a_decayed_sum_over_thousands_of_half_lives_stays_finite(lines):
    days = [0.0, 9.9, 10.0, 10.1, 500.0, 9_999.99]
    events = lines(*({"day": d, "price": 1.0 + i} for i, d in enumerate(days)))
    for at in (10.05, 10.2, 501.0, 10_000.0):
        past = [(d, 1.0 + i) for i, d in enumerate(days) if d < at]
        expected = math.fsum(price * 2.0 ** (-(at - d) / 0.02) for d, price in past)  # 500 half-lives in 10 days
        assert value(events, at, "decayed_sum", "value", half_life_days=0.02) == pytest.approx(expected, rel=1e-9)


@settings(deadline=None, max_examples=30)
@given(st.floats(0.1, 100), st.integers(0, 5))
def test_cutting_the_events_leaves_the_features_bit_for_bit(n, seed):
    events = synthetic.shop(users=8, days=90, seed=seed).with_columns(pl.col("value") / 3)
    past = events.filter(pl.col("at") < day(n)).sample(fraction=1.0, shuffle=True, seed=seed)
    whole = features(events, as_of=[day(n / 2), day(n)])
    assert features(past, as_of=[day(n / 2), day(n)]).equals(whole)


def test_empty_one_line_and_one_moment(lines):
    empty = features(EVENTS.empty(), as_of=day(1))
    assert empty.height == 0
    assert empty.columns == ["user_key", "as_of", *(f.name for f in LEDGER)]
    assert features(lines({}), as_of=[]).height == 0
    one = features(lines({}), as_of=day(1))
    check(one, FEATURES, at="test")
    assert one["gap_mean"].item() is None
    together = features(lines(*({"item_id": str(i)} for i in range(9))), as_of=day(1))
    assert together.select("lines", "items", "order_count", "gap_mean").row(0) == (9, 9, 1, None)


def test_nothing_is_nan_when_everything_is_missing(lines):
    bare = {"item_id": None, "title": None, "order_id": None, "price": None, "quantity": None}
    table = features(lines(bare, {**bare, "day": 1.0}), as_of=day(3))
    check(table, FEATURES, at="test")
    assert table.select("lines", "spend", "order_count", "price_per_unit").row(0) == (2, 0, 0, None)


def test_a_moment_without_a_zone_and_a_table_that_is_no_events_are_refused(lines):
    with pytest.raises(UsageError, match="prepare.features: the moment 2024-01-01T00:00:00 has no time zone"):
        features(lines({}), as_of=dt.datetime(2024, 1, 1))
    with pytest.raises(SchemaError, match="prepare.features: EVENTS"):
        features(FEATURES.empty(), as_of=day(1))
