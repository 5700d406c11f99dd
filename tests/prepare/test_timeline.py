import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from habitue.collect import synthetic
from habitue.core.errors import SchemaError
from habitue.core.schemas import EVENTS, TIMELINE, check
from habitue.prepare import timeline

VIEW = "Product Viewed"


def test_one_moment_is_one_set_and_its_items_are_added_up(lines):
    events = lines(
        {"item_id": "b", "quantity": 2.0, "order_id": "o2"},
        {"item_id": "a", "quantity": 1.0, "order_id": "o1"},
        {"item_id": "b", "quantity": 3.0, "order_id": "o1"},
        {"item_id": "c", "day": 1.0},
        {"item_id": "c", "user_key": 0, "day": 1.0},
    )
    sets = timeline(events)
    check(sets, TIMELINE, at="test")
    assert sets.select("user_key", "step", "item_ids", "quantities", "values", "order_ids").rows() == [
        (0, 0, ["c"], [1.0], [2.0], ["o1"]),
        (1, 0, ["a", "b"], [1.0, 5.0], [2.0, 10.0], ["o1", "o2"]),
        (1, 1, ["c"], [1.0], [2.0], ["o1"]),
    ]
    assert sets["kind"].unique().to_list() == ["Order Completed"]


def test_kinds_of_one_moment_are_sets_of_their_own_in_order_of_name(lines):
    events = lines({"kind": VIEW}, {"kind": "Order Refunded", "quantity": -1.0}, {})
    assert timeline(events).select("step", "kind").rows() == [
        (0, "Order Completed"),
        (1, "Order Refunded"),
        (2, VIEW),
    ]


def test_what_is_absent_is_said(lines):
    events = lines(
        {
            "item_id": None,
            "title": None,
            "price": None,
            "quantity": None,
            "order_id": None,
            "kind": "Products Searched",
        },
        {"item_id": "a", "title": None, "price": None, "quantity": None, "day": 1.0},
        {"item_id": "a", "title": None, "price": None, "quantity": 2.0, "day": 2.0},
        {"item_id": None, "title": None, "order_id": None, "query": "mugs", "price": None, "day": 3.0},
    )
    told = timeline(events).select(
        "item_ids", "quantities", "values", "order_ids", "has_item", "has_words", "has_money"
    )
    assert told.rows() == [
        ([], [], [], [], False, False, False),
        (["a"], [None], [None], ["o1"], True, False, False),
        (["a"], [2.0], [None], ["o1"], True, False, False),
        ([], [], [], [], False, True, False),
    ]


def test_every_row_lands_in_exactly_one_set_of_the_toy_shop():
    events = synthetic.shop(users=20, days=120)
    sets = timeline(events)
    assert sets.height == events.select("user_key", "at", "kind").n_unique()
    assert sets["values"].list.sum().sum() == pytest.approx(events["value"].sum())
    assert (sets["item_ids"].list.len() == sets["quantities"].list.len()).all()
    steps = sets.group_by("user_key", maintain_order=True).agg("step", "at")
    assert all(s == list(range(len(s))) and a == sorted(a) for _, s, a in steps.iter_rows())


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 90), st.randoms())
def test_cutting_the_events_leaves_every_step_before_the_cut(day, random):
    events = synthetic.shop(users=8, days=90).with_columns(value=pl.col("value") / 3)
    twice = pl.concat([events, events.with_columns(event_id="x" + pl.col("event_id"), value=pl.col("value") / 7)])
    cut = events["at"].min() + pl.select(pl.duration(days=day)).item()
    shuffled = twice.sample(fraction=1.0, shuffle=True, seed=random.randint(0, 9))
    assert timeline(shuffled.filter(pl.col("at") < cut)).equals(timeline(twice).filter(pl.col("at") < cut))


def test_empty_and_one_line(lines):
    assert timeline(EVENTS.empty()).equals(TIMELINE.empty())
    assert timeline(lines({})).height == 1


def test_all_at_one_moment_is_one_set(lines):
    sets = timeline(lines(*({"item_id": f"{i:02d}"} for i in range(30))))
    assert sets["item_ids"].to_list() == [[f"{i:02d}" for i in range(30)]]


def test_a_table_that_is_no_events_is_refused():
    with pytest.raises(SchemaError, match="prepare.timeline: EVENTS"):
        timeline(TIMELINE.empty())
