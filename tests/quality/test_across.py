import datetime as dt

import polars as pl
import pytest

from habitue.core.schemas import EVENTS, ITEMS, REFUSED, USERS
from habitue.quality.across import across
from habitue.quality.ledger import ledger

NOW = dt.datetime(2024, 6, 1, tzinfo=dt.UTC)
START = dt.datetime(2024, 1, 1, tzinfo=dt.UTC)


def catalogue(*rows: dict) -> pl.DataFrame:
    ordinary = {"item_id": "10001", "valid_from": START, "source": "t", "import_id": "t"}
    schema = {c.name: c.dtype for c in ITEMS.columns}
    return ITEMS.shape(pl.DataFrame([{n: {**ordinary, **row}.get(n) for n in schema} for row in rows], schema=schema))


def found(events, items, people=(1,), **more) -> dict[tuple[str, str], dict]:
    known = pl.DataFrame({"user_key": list(people)}, schema={"user_key": pl.Int64}).with_columns(known=True)
    tables = {"events": events, "items": items, "users": USERS.empty(), "refused": REFUSED.empty(), **more}
    told = across(ledger(events, known), tables, people=known["user_key"], now=NOW)
    return {(row["code"], row["table"]): row for row in told}


def test_a_shop_that_fits_together_has_no_finding(lines):
    assert found(lines({}, {"day": 1.0, "order_id": "o2"}), catalogue({"price": 2.0, "currency": "EUR"})) == {}
    assert found(EVENTS.empty(), ITEMS.empty(), people=()) == {}


def test_rows_that_point_at_nothing(lines):
    events = lines({}, {"item_id": "nowhere", "quantity": 3.0}, {"item_id": None}, {"user_key": 9, "order_id": "o2"})
    users = pl.DataFrame(
        {
            "user_key": [1, 5],
            "valid_from": [START] * 2,
            "attributes": ["{}"] * 2,
            "source": ["t"] * 2,
            "import_id": "t",
        },
        schema=USERS.schema,
    )
    told = found(events, catalogue({}), users=users)
    assert (told["orphan_item", "events"]["rows"], told["orphan_item", "events"]["money"]) == (1, 6.0)
    assert (told["orphan_user", "events"]["rows"], told["orphan_user", "events"]["money"]) == (1, 2.0)
    assert told["orphan_user", "users"]["sentence"] == "1 of 2 rows of USERS point at nobody we know."
    assert len(told) == 3


def test_an_order_costs_what_the_catalogue_said_at_that_moment(lines):
    items = catalogue(
        {"price": 2.0, "currency": "EUR"},
        {"price": 30.0, "currency": "EUR", "valid_from": START + dt.timedelta(days=10)},
        {"item_id": "yen", "price": 300.0, "currency": "JPY"},
    )
    events = lines(
        {"price": 10.0},  # five times 2.00: not above
        {"price": 10.01, "day": 1.0},
        {"price": 0.39, "day": 2.0},  # below a fifth
        {"price": 6.0, "day": 11.0},  # a fifth of 30: not below
        {"price": 2.0, "day": 11.0},
        {"price": 2.0, "item_id": "yen"},  # another currency is not compared
        {"price": 99.0, "day": 1.0, "kind": "Product Viewed"},  # nobody paid it
        {"price": 99.0, "day": -1.0},  # the catalogue had no price yet
    )
    off = found(events, items)["price_off_catalogue", "events"]
    assert (off["rows"], off["money"]) == (3, pytest.approx(10.01 + 0.39 + 2.0))


def test_cents_taken_for_whole_units(lines):
    usual = [{"price": 3.0, "order_id": f"o{i}", "day": float(i)} for i in range(4)]
    wild = {"price": 300.0, "order_id": "wild", "day": 9.0}
    off = found(lines(*usual, wild), catalogue({}))["price_off_usual", "events"]
    assert (off["rows"], off["money"]) == (1, 300.0)
    assert found(lines(*usual[:3], wild), catalogue({})) == {}  # four lines: nothing is usual yet
    assert found(lines(*usual, {**wild, "price": 60.0}), catalogue({})) == {}
    cheap = found(lines(*usual, {**wild, "price": 0.149}), catalogue({}))
    assert cheap["price_off_usual", "events"]["rows"] == 1


def test_time_travel(lines):
    received = START + dt.timedelta(days=3)
    events = lines(
        {"day": 2.0, "received_at": received},
        {"day": 3.0, "received_at": received},  # the same moment is not earlier
        {"day": 4.0, "received_at": received, "quantity": 2.0},
        {"day": 400.0, "quantity": 5.0},
        {"day": -1.0, "quantity": 7.0},
    )
    told = found(events, catalogue({}))
    assert (told["received_before", "events"]["rows"], told["received_before", "events"]["money"]) == (1, 4.0)
    assert (told["future", "events"]["rows"], told["future", "events"]["money"]) == (1, 10.0)
    assert "after 2024-06-01 00:00 UTC, which is later than now" in told["future", "events"]["sentence"]
    assert (told["before_catalogue", "events"]["rows"], told["before_catalogue", "events"]["money"]) == (1, 14.0)


def test_an_order_of_two_customers(lines):
    events = lines({}, {"user_key": 2, "quantity": 2.0}, {"order_id": None}, {"order_id": None, "user_key": 2})
    many = found(events, catalogue({}), people=(1, 2))["order_of_many", "events"]
    assert (many["rows"], many["orders"], many["money"]) == (2, 1, 6.0)


def test_media_of_nothing(lines):
    owners = [("item", "10001"), ("item", "gone"), ("event", "e000"), ("event", "e9"), ("user", None), ("item", None)]
    media = pl.DataFrame(owners, schema={"owner": pl.String, "owner_id": pl.String}, orient="row")
    told = found(lines({}), catalogue({}), media=media)
    assert told["orphan_item", "media"]["sentence"] == "1 of 6 media belong to a product that is not there."
    assert told["orphan_event", "media"]["sentence"] == "1 of 6 media belong to an event that is not there."
    assert len(told) == 2
