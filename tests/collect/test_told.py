"""What is said beside events: nobody's name or number, consents under our purposes, products as of a moment."""

import datetime as dt
import json

import pytest

from habitue.collect import told
from habitue.collect.wires.body import Described

NOW = dt.datetime(2026, 5, 1, 12, tzinfo=dt.UTC)


def test_attributes_keep_nothing_that_may_name_somebody():
    said = {"tier": "gold", "age": 31, "newsletter": True, "first_name": "Ann", "email": "a@b.de", "Phone": "1"}
    said |= {"address": {"street": "x"}, "note": "call +49 171 2345678", "tags": ["a"], "long": "x" * 300, "blank": " "}
    kept = json.loads(told.attributes(said))
    assert kept == {"tier": "gold", "age": "31", "newsletter": "true", "note": "call [phone]"}
    assert told.attributes({"email": "a@b.de"}) is None
    assert len(json.loads(told.attributes({f"k{n}": n for n in range(1_000)}))) == told.MOST


def test_consents_come_under_our_purposes_and_of_two_answers_the_no_counts():
    said = {"Analytics": True, "Advertising": True, "marketing": False, "Functional": True, "own": False, "odd": "yes"}
    assert told.consents(said) == [("analytics", True), ("marketing", False), ("own", False), ("personalisation", True)]


@pytest.mark.parametrize(
    ("more", "code"),
    [
        ({"item_id": None}, "missing_item"),
        ({"at": "soon"}, "bad_time"),
        ({"at": "9999-01-01T00:00:00Z"}, "far_time"),
        ({"known": {"price": "cheap"}}, "bad_price"),
        ({"known": {"title": "x" * 9_000}}, "too_long"),
        ({"attributes": {str(n): "x" * 200 for n in range(100)}}, "too_long"),
    ],
)
def test_why_a_product_is_refused(more, code):
    said = Described(**{"item_id": "A", "at": NOW, "known": {}, "attributes": {}} | more)
    assert told.item(said, source="s", received=NOW, currency="EUR") == code


def test_a_product_is_a_row_of_items():
    said = Described("A", "2026-05-01", {"title": "Mug", "price": "12 GBP", "currency": None}, {"colour": "blue"})
    row = told.item(said, source="gorse", received=NOW, currency="EUR")
    assert (row["item_id"], row["title"], row["price"], row["currency"]) == ("A", "Mug", 12.0, "EUR")
    assert row["valid_from"] == dt.datetime(2026, 5, 1, tzinfo=dt.UTC)
    assert json.loads(row["attributes"]) == {"colour": "blue"}
