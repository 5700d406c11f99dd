import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from habitue.collect import synthetic
from habitue.core.errors import SchemaError
from habitue.core.schemas import EVENTS
from habitue.quality import Config, clean


def dropped_rows(dropped: pl.DataFrame) -> dict[str, tuple[int, float]]:
    return {code: (rows, money) for code, rows, money in dropped.iter_rows()}


def test_each_rule_drops_its_row_and_says_the_money(lines):
    events = lines(
        {"quantity": 3.0},
        {"quantity": 3.0},  # differs from the row before in its event_id only
        {"quantity": 3.0, "title": "green mug"},  # another title: no repeat
        {"quantity": -5.0},
        {"quantity": 0.0},
        {"price": -11.0},
        {"price": 0.0},
        {"kind": "Order Refunded", "quantity": -2.0, "order_id": "c1"},
    )
    kept, dropped = clean(events)
    assert kept["event_id"].to_list() == ["e000", "e002", "e007"]
    assert dropped_rows(dropped) == {
        "exact_repeat": (1, 6.0),
        "negative_quantity": (1, -10.0),
        "zero_quantity": (1, 0.0),
        "negative_price": (1, -11.0),
        "zero_price": (1, 0.0),
    }
    assert kept.height + dropped["rows"].sum() == events.height


def test_a_row_that_breaks_two_rules_is_counted_once_under_the_first(lines):
    free = {"price": 0.0, "quantity": -1.0}
    _, dropped = clean(lines(free, free))
    counted = dropped_rows(dropped)
    assert counted["exact_repeat"] == (1, 0.0)
    assert counted["negative_quantity"] == (1, 0.0)
    assert counted["zero_price"] == (0, 0.0)


def test_refunds_and_browsing_stay_whatever_their_price(lines):
    events = lines(
        {"kind": "Order Refunded", "quantity": -3.0},
        {"kind": "Product Viewed", "price": 0.0, "quantity": None, "order_id": None},
        {"kind": "Product Viewed", "price": -1.0, "quantity": None, "order_id": None},
        {"price": None},
    )
    assert clean(events)[0].height == 4


def test_repeats_of_another_import_or_numbering_are_repeats_but_another_moment_is_not(lines):
    events = lines({}, {"import_id": "later", "line": 3}, {"day": 1.0})
    kept, dropped = clean(events)
    assert kept["event_id"].to_list() == ["e000", "e002"]
    assert dropped_rows(dropped)["exact_repeat"] == (1, 2.0)


@pytest.mark.parametrize(
    "code", ["repeats", "negative_quantities", "zero_quantities", "negative_prices", "zero_prices"]
)
def test_every_rule_can_be_turned_off(lines, code):
    events = lines({}, {}, {"quantity": -1.0}, {"quantity": 0.0}, {"price": -1.0}, {"price": 0.0})
    kept, dropped = clean(events, Config(**{code: False}))
    assert (kept.height, dropped.height, dropped["rows"].sum()) == (2, 4, 4)


def test_order_of_arrival_does_not_matter():
    events = synthetic.shop(users=12, days=90)
    shuffled = pl.concat([events, events.head(40).with_columns(event_id="z" + pl.col("event_id"))]).sample(
        fraction=1.0, shuffle=True, seed=1
    )
    assert clean(shuffled)[0].equals(clean(events)[0])


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 90))
def test_cutting_the_events_leaves_what_is_before_the_cut(day):
    events = synthetic.shop(users=8, days=90)
    twice = pl.concat([events, events.filter(pl.col("quantity") > 2).with_columns(event_id=pl.col("event_id") + "x")])
    twice = twice.with_columns(price=pl.when(pl.col("item_id") == "P003").then(0.0).otherwise("price"))
    cut = events["at"].min() + pl.select(pl.duration(days=day)).item()
    whole = clean(twice)[0].filter(pl.col("at") < cut)
    assert clean(twice.filter(pl.col("at") < cut))[0].equals(whole)


def test_an_empty_table_stays_empty_and_drops_nothing():
    kept, dropped = clean(EVENTS.empty())
    assert kept.equals(EVENTS.empty())
    assert (dropped["rows"].sum(), dropped["money"].sum(), dropped.height) == (0, 0.0, 5)


def test_a_table_that_is_no_events_is_refused():
    with pytest.raises(SchemaError, match="quality.clean: EVENTS: column 'event_id' is missing"):
        clean(pl.DataFrame({"a": [1]}))


def test_the_real_ledger(ledger):
    kept, dropped = clean(ledger.events)
    assert dropped_rows(dropped) == {
        "exact_repeat": (5_268, 21_740.98),
        "negative_quantity": (1_336, 0.0),
        "zero_quantity": (0, 0.0),
        "negative_price": (2, -22_124.12),
        "zero_price": (1_174, 0.0),  # 2,515 less repeats and lines of negative quantity
    }
    assert kept.height == 541_909 - 5_268 - 1_336 - 2 - 1_174
    net = ledger.events["value"].sum()
    assert kept["value"].sum() == pytest.approx(net - dropped["money"].sum(), abs=0.05)
