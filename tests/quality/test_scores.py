import math
from collections import Counter

import polars as pl
import pytest

from habitue.core.errors import SchemaError
from habitue.core.schemas import EVENTS, ITEMS, QUALITY, USERS, check
from habitue.quality import scores


def taken(events, items=None, users=None, known=(1,)) -> dict[tuple[str, str], float]:
    people = pl.DataFrame(
        {"user_key": list(known), "known": [True] * len(known)}, schema_overrides={"user_key": pl.Int64}
    )
    empty = ITEMS.empty() if items is None else items, USERS.empty() if users is None else users
    table = scores(events, *empty, known=people)
    check(table, QUALITY, at="test")
    assert table["score"].is_between(0, 1).all()
    assert table.select("table", "dimension", "measure").is_unique().all()
    return {(table_, measure): score for table_, _, measure, score, _ in table.iter_rows()}


def attributes(*rows: tuple[int, str]) -> pl.DataFrame:
    frame = pl.DataFrame(rows, schema={"user_key": pl.Int64, "attributes": pl.String}, orient="row")
    at = pl.lit("2024-01-01").str.to_datetime(time_zone="UTC")
    return USERS.shape(frame.with_columns(valid_from=at, source=pl.lit("t"), import_id=pl.lit("t")))


def test_completeness(lines):
    events = lines(
        {"value": 30.0},
        {"item_id": None, "title": None, "order_id": "o2"},
        {"user_key": 2, "price": None, "quantity": None, "value": -10.0},
        {"user_key": 3, "value": None},
    )
    items = ITEMS.shape(
        pl.DataFrame({"item_id": ["a", "a", "b"], "title": ["mug", None, None]}).with_columns(
            valid_from=pl.lit("2024-01-01").str.to_datetime(time_zone="UTC"), source=pl.lit("t"), import_id=pl.lit("t")
        )
    )
    found = taken(events, items, attributes((1, '{"country": "France"}'), (3, "{}")), known=(1, 3))
    assert found["events", "code present"] == 3 / 4
    assert found["events", "words present"] == 3 / 4
    assert found["events", "price present"] == 3 / 4
    assert found["events", "quantity present"] == 3 / 4
    assert found["events", "customer named"] == 3 / 4
    assert found["events", "money with a customer"] == pytest.approx(32 / 42)
    assert found["items", "words known"] == 1 / 2
    assert found["users", "attributes known"] == 1 / 2


def test_consistency(lines):
    events = lines(
        {"item_id": "a", "title": "mug", "quantity": -1.0},
        {"item_id": "A", "title": "mug"},
        {"item_id": "A", "title": "cup", "order_id": "o2", "value": 2.02},
        {"item_id": "b", "title": None, "user_key": 2, "currency": "USD"},
        {"item_id": "c", "title": "jug", "kind": "Order Refunded", "quantity": -1.0},
    )
    found = taken(events, users=attributes((1, "{}"), (1, '{"a": 1}'), (2, "{}")))
    assert found["events", "one title a code"] == 2 / 3
    assert found["events", "one spelling a code"] == 2 / 4
    assert found["events", "one customer an order"] == 1 / 2
    assert found["events", "value adds up"] == 4 / 5
    assert found["events", "sign fits the kind"] == 4 / 5
    assert found["events", "one currency"] == 4 / 5
    assert found["users", "attributes stay"] == 1 / 2


def test_accuracy(lines):
    events = lines(
        {},
        {},
        {"kind": "Order Refunded", "quantity": -2.0, "day": 1.0},  # two purchases of one unit
        {"kind": "Order Refunded", "quantity": -3.0, "day": 2.0},
        {"price": 0.0, "day": 3.0},
        {"item_id": "10002", "title": "postage", "day": 4.0},
    )
    found = taken(events)
    assert found["events", "no exact repeat"] == 5 / 6
    assert found["events", "price above 0"] == 5 / 6
    assert found["events", "refunds explained"] == 1 / 2
    assert found["events", "lines are products"] == 4 / 5


def test_diversity(lines):
    events = lines(
        {"item_id": "a", "price": 3.0},
        {"item_id": "a", "day": 2.0, "user_key": 2, "price": 0.5},
        {"item_id": "a", "day": 3.0, "user_key": 2, "price": 0.5},
        {
            "item_id": "b",
            "day": 7.0,
            "user_key": 5,
            "price": 99.0,
        },  # nobody known: no customer, but a product and a day
        {"item_id": "c", "day": 9.0, "quantity": -1.0},
    )
    found = taken(events, known=(1, 2))
    quarter = -(0.75 * math.log(0.75) + 0.25 * math.log(0.25)) / math.log(2)
    assert found["events", "products"] == pytest.approx(quarter)
    assert found["events", "customers"] == pytest.approx(quarter)
    assert found["events", "days"] == 4 / 8
    monday_twice = -(2 / 4 * math.log(2 / 4) + 2 * 1 / 4 * math.log(1 / 4)) / math.log(7)
    assert found["events", "weekdays"] == pytest.approx(monday_twice)


def test_what_is_not_there_has_no_score(lines):
    assert taken(EVENTS.empty()) == {}
    one = taken(lines({"currency": None}))
    assert ("events", "refunds explained") not in one
    assert ("events", "one currency") not in one
    assert ("events", "products") not in one  # one product has no evenness
    assert one["events", "days"] == 1.0


def test_a_table_that_is_no_users_is_refused():
    with pytest.raises(SchemaError, match="quality.scores: USERS"):
        scores(EVENTS.empty(), ITEMS.empty(), ITEMS.empty(), known=pl.DataFrame({"user_key": [1], "known": [True]}))


def test_the_real_ledger(ledger):
    people = {key for key, known in ledger.known.iter_rows() if known}
    found = taken(ledger.events, ledger.items, known=people)
    assert found["events", "customer named"] == pytest.approx(1 - 135_080 / 541_909)
    assert found["events", "words present"] == pytest.approx(1 - 1_454 / 541_909)
    assert found["events", "one title a code"] == pytest.approx(1 - 650 / 3_958)
    assert found["events", "sign fits the kind"] == pytest.approx(1 - 1_336 / 541_909)
    assert found["events", "price above 0"] == pytest.approx(1 - 2_517 / 541_909)
    assert found["events", "no exact repeat"] == pytest.approx(1 - 5_268 / 541_909)
    assert found["events", "refunds explained"] == pytest.approx(1 - 1_774 / 9_288)
    sold = ledger.events.filter(pl.col("quantity") > 0, pl.col("price") > 0)
    counts = Counter(sold["item_id"].to_list())
    entropy = -sum(n / sold.height * math.log(n / sold.height) for n in counts.values())
    assert found["events", "products"] == pytest.approx(entropy / math.log(len(counts)), abs=1e-9)
