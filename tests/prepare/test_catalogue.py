import datetime as dt

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from habitue.collect import synthetic
from habitue.core.errors import UsageError
from habitue.core.schemas import EVENTS, ITEMS
from habitue.prepare import attributes, catalogue, facts

START = dt.datetime(2024, 1, 1, tzinfo=dt.UTC)


def day(n: float) -> dt.datetime:
    return START + dt.timedelta(days=n)


def listed(*rows: tuple[str, float, str | None]) -> pl.DataFrame:
    named = [{"item_id": i, "valid_from": day(d), "title": t, "source": "s", "import_id": "i"} for i, d, t in rows]
    schema = {c.name: c.dtype for c in ITEMS.columns}
    return ITEMS.shape(pl.DataFrame([{n: r.get(n) for n in schema} for r in named], schema=schema))


def test_the_most_frequent_title_before_the_moment(lines):
    events = lines(
        {"item_id": "a", "title": "red mug"},
        {"item_id": "a", "title": "mug, red", "day": 1.0},
        {"item_id": "a", "title": "mug, red", "day": 2.0},
        {"item_id": "a", "title": "broken", "kind": "Order Refunded", "quantity": -1.0, "day": 1.0},
        {"item_id": "a", "title": "broken", "kind": "Order Refunded", "quantity": -1.0, "day": 1.0},
        {"item_id": "b", "title": None, "day": 1.0},
        {"item_id": "c", "title": "later", "day": 3.0},
    )
    assert catalogue(events, ITEMS.empty(), as_of=day(1)).rows() == [("a", "red mug")]
    assert catalogue(events, ITEMS.empty(), as_of=day(2)).rows() == [("a", "mug, red"), ("b", None)]  # a tie
    assert catalogue(events, ITEMS.empty(), as_of=day(3)).rows() == [("a", "mug, red"), ("b", None)]


def test_the_list_of_products_fills_in_and_adds_launches(lines):
    events = lines({"item_id": "a", "title": "red mug"}, {"item_id": "b", "title": None})
    items = listed(("a", 0, "listed"), ("b", 0, "old bowl"), ("b", 1, "bowl"), ("b", 1.5, None), ("n", 1, "new jug"))
    assert catalogue(events, items, as_of=day(1)).rows() == [("a", "red mug"), ("b", "old bowl")]
    assert catalogue(events, items, as_of=day(2)).rows() == [("a", "red mug"), ("b", "bowl"), ("n", "new jug")]


def test_empty_tables_and_lines_without_a_product(lines):
    assert catalogue(EVENTS.empty(), ITEMS.empty(), as_of=day(1)).rows() == []
    assert catalogue(lines({"item_id": None}), ITEMS.empty(), as_of=day(1)).rows() == []


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 90))
def test_cutting_the_events_changes_no_word(n):
    events = synthetic.shop(users=8, days=90)
    past = events.filter(pl.col("at") < day(n))
    whole = catalogue(events, ITEMS.empty(), as_of=day(n))
    assert catalogue(past, ITEMS.empty(), as_of=day(n)).equals(whole)


def test_a_moment_without_a_zone_is_refused():
    with pytest.raises(UsageError, match="prepare.catalogue: the moment 2024-01-01T00:00:00 has no time zone"):
        catalogue(EVENTS.empty(), ITEMS.empty(), as_of=START.replace(tzinfo=None))


def test_attributes_are_the_latest_that_were_said_before_the_moment():
    told = [("a", 0, "Home", "Acme"), ("a", 1, None, "Bolt"), ("a", 2, "Later", None), ("b", 1.5, None, None)]
    rows = [
        {"item_id": i, "valid_from": day(d), "category": c, "brand": b, "source": "s", "import_id": "i"}
        for i, d, c, b in told
    ]
    items = ITEMS.shape(pl.DataFrame(rows, schema_overrides={"category": pl.String, "brand": pl.String}))
    assert attributes(items, as_of=day(2)).rows() == [("a", "Home", "Bolt"), ("b", None, None)]
    assert attributes(items, as_of=day(1)).rows() == [("a", "Home", "Acme")]
    assert attributes(ITEMS.empty(), as_of=day(1)).rows() == []
    with pytest.raises(UsageError, match="prepare.attributes: the moment"):
        attributes(items, as_of=START.replace(tzinfo=None))


def test_facts_are_what_was_said_first_before_the_moment():
    told = [("a", 1, "Home > Cups", None, 4.0), ("a", 2, "Sale", "Bolt", 1.0), ("b", 1.5, None, None, None)]
    rows = [
        {"item_id": i, "valid_from": day(d), "category": c, "brand": b, "price": p, "source": "s", "import_id": "i"}
        for i, d, c, b, p in told
    ]
    items = ITEMS.shape(pl.DataFrame(rows, schema_overrides={"category": pl.String, "brand": pl.String}))
    named = pl.DataFrame({"item_id": ["b", "never listed", "a"], "title": [None, "x", "y"]})
    first = day(1).timestamp() / 86_400
    found = facts(items, catalogue=named, as_of=day(3))
    assert found.columns == ["department", "category", "brand", "price", "listed"]
    assert found.rows() == [
        (None, None, None, None, first + 0.5),
        (None,) * 5,
        ("Home", "Home > Cups", "Bolt", 4.0, first),
    ]
    assert facts(items, catalogue=named, as_of=day(2)).row(2) == ("Home", "Home > Cups", None, 4.0, first)
    assert facts(ITEMS.empty(), catalogue=named, as_of=day(1)).rows() == [(None,) * 5] * 3
    with pytest.raises(UsageError, match="prepare.facts: the moment"):
        facts(items, catalogue=named, as_of=START.replace(tzinfo=None))
