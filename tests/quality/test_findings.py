import datetime as dt
import time

import polars as pl
import pytest

from habitue.core.errors import SchemaError
from habitue.core.schemas import EVENTS, FINDINGS, ITEMS, REFUSED, check
from habitue.quality import inspect


def found(events: pl.DataFrame, items: pl.DataFrame | None = None, known=(1,), **more) -> dict[str, dict]:
    people = pl.DataFrame(
        {"user_key": list(known), "known": [True] * len(known)}, schema_overrides={"user_key": pl.Int64}
    )
    findings = inspect(events, ITEMS.empty() if items is None else items, known=people, **more)
    check(findings, FINDINGS, at="test")
    return {row["code"]: row for row in findings.iter_rows(named=True)}


def test_a_clean_shop_has_no_finding(lines):
    many = [{"order_id": f"o{i}", "day": float(i)} for i in range(2000)]
    assert found(lines(*many)) == {}


def test_an_empty_table_has_no_finding():
    assert found(EVENTS.empty()) == {}


def test_money_and_shares_of_a_hand_worked_ledger(lines):
    events = lines(
        {"quantity": 10.0},  # 20.00
        {"quantity": 10.0},  # 20.00, a repeat
        {"user_key": 2, "order_id": "o2", "quantity": 5.0, "day": 1.0},  # 10.00, nobody known
        {"kind": "Order Refunded", "order_id": "c1", "quantity": -10.0, "day": 2.0},  # -20.00
        {"order_id": "o3", "price": 0.0, "title": None, "day": 3.0},
        {"order_id": "o4", "price": -5.0, "day": 3.0},
        {"order_id": "o5", "quantity": -3.0, "price": 0.0, "day": 3.0},
    )
    seen = found(events)
    net = 20 + 20 + 10 - 20 - 5
    numbers = {code: (row["rows"], row["orders"], row["money"]) for code, row in seen.items()}
    assert numbers["no_customer"] == (1, 1, 10.0)
    assert numbers["exact_repeat"] == (1, 1, 20.0)
    assert numbers["cancelled"] == (1, 1, -20.0)
    assert numbers["zero_price"] == (2, 2, 0.0)
    assert numbers["negative_price"] == (1, 1, -5.0)
    assert numbers["negative_quantity"] == (1, 1, 0.0)
    assert numbers["no_title"] == (1, 1, 0.0)
    assert seen["no_customer"]["share"] == pytest.approx(10 / net)
    assert seen["no_customer"]["sentence"] == "1 rows name no customer: EUR 10.00, 40.0 % of the net money."
    assert seen["exact_repeat"]["sentence"] == "1 rows repeat an earlier row exactly: EUR 20.00."
    assert "cancelled_uncovered" not in seen
    assert "1 (100.0 %) match an earlier purchase" in seen["cancelled"]["sentence"]


def test_a_refund_of_part_of_a_purchase_is_covered_and_not_matched(lines):
    seen = found(lines({"quantity": 5.0}, {"kind": "Order Refunded", "quantity": -2.0, "day": 1.0}))
    assert "0 (0.0 %) match an earlier purchase" in seen["cancelled"]["sentence"]
    assert "1 (100.0 %) are covered by earlier purchases" in seen["cancelled"]["sentence"]
    assert "cancelled_uncovered" not in seen


def test_words_and_codes(lines):
    events = lines(
        {"title": "red mug"},
        {"title": "red cup", "day": 1.0},
        {"item_id": "10002", "title": "bowl"},
        {"item_id": "10002", "title": None, "day": 1.0},
        {"item_id": "10003", "title": None, "day": 1.0},
        {"item_id": "10004a", "title": "plate"},
        {"item_id": "10004A", "title": "plate"},
        {"item_id": "POST", "title": "POSTAGE {express}", "price": 7.0},
        *({"item_id": f"200{i:02d}", "title": f"thing {i}"} for i in range(40)),
    )
    items = ITEMS.shape(
        events.group_by("item_id", "title")
        .agg(valid_from=pl.col("at").min())
        .with_columns(source=pl.lit("t"), import_id=pl.lit("t"))
    )
    seen = found(events, items)
    assert seen["several_titles"]["sentence"].startswith(
        "1 codes have more than one description (2 when a missing description counts as one): 2 rows, EUR 4.00"
    )
    assert (seen["code_case"]["rows"], seen["code_case"]["money"]) == (2, 4.0)
    assert (seen["item_without_words"]["rows"], seen["item_without_words"]["money"]) == (1, 2.0)
    assert (seen["no_product"]["rows"], seen["no_product"]["money"]) == (1, 7.0)
    assert "POST (POSTAGE {express})" in seen["no_product"]["sentence"]


def test_values_currencies_and_one_huge_line(lines):
    events = lines(
        {"price": 2.0, "quantity": 3.0, "value": 6.005},  # within half a cent
        {"price": 2.0, "quantity": 3.0, "value": 6.02},
        {"currency": "USD"},
        *({"order_id": f"s{i}", "day": float(i), "price": 1.0} for i in range(2000)),
        {"price": 50.0},
    )
    seen = found(events)
    assert (seen["value_mismatch"]["rows"], seen["value_mismatch"]["money"]) == (1, 6.02)
    assert "2 currencies in one table (EUR, USD)" in seen["several_currencies"]["sentence"]
    assert seen["huge_line"]["money"] == pytest.approx(62.03, abs=0.01)  # above 2.06: 6.005, 6.02 and 50


def test_refused_rows_are_counted_by_reason(lines):
    refused = pl.DataFrame(
        {
            "source": ["s"] * 3,
            "import_id": ["i"] * 3,
            "row": [1, 2, 3],
            "raw": ["{}"] * 3,
            "code": ["no_time", "no_time", "price_not_finite"],
            "sentence": ["-"] * 3,
        },
        schema=REFUSED.schema,
    )
    row = found(lines({}), refused=refused)["refused"]
    assert row["rows"] == 3
    assert "2 no_time, 1 price_not_finite" in row["sentence"]


def test_a_person_the_key_table_lacks_is_unknown(lines):
    assert found(lines({"user_key": 9}), known=(1,))["no_customer"]["rows"] == 1


def test_browsing_touches_no_money(lines):
    seen = found(lines({}, {"kind": "Product Viewed", "user_key": 7, "order_id": None, "value": 99.0}))
    assert (seen["no_customer"]["rows"], seen["no_customer"]["money"], seen["no_customer"]["orders"]) == (1, 0.0, 0)


def test_tables_that_break_their_contract_are_refused(lines):
    with pytest.raises(SchemaError, match="quality.inspect: EVENTS"):
        inspect(ITEMS.empty(), ITEMS.empty(), known=pl.DataFrame({"user_key": [1], "known": [True]}))
    with pytest.raises(SchemaError, match="quality.inspect: ITEMS"):
        inspect(EVENTS.empty(), EVENTS.empty(), known=pl.DataFrame({"user_key": [1], "known": [True]}))


def matched_one_by_one(events: pl.DataFrame) -> int:
    """The plain way: for each refund in time, look for a purchase strictly earlier that is not taken yet."""
    free: dict[tuple, list[dt.datetime]] = {}
    hits = 0
    columns = events.select("user_key", "item_id", "quantity", "at", "kind")
    for user, item, quantity, at, kind in columns.sort("at").iter_rows():
        if kind == "Order Completed" and quantity > 0:
            free.setdefault((user, item, quantity), []).append(at)
    for user, item, quantity, at, kind in columns.sort("at").iter_rows():
        mine = free.get((user, item, -quantity), [])
        if kind == "Order Refunded" and mine and mine[0] < at:
            mine.pop(0)
            hits += 1
    return hits


def test_the_real_ledger(ledger):
    start = time.perf_counter()
    findings = inspect(ledger.events, ledger.items, known=ledger.known)
    assert time.perf_counter() - start < 30  # 1.5 s alone; room for a busy machine
    seen = {row["code"]: row for row in findings.iter_rows(named=True)}
    numbers = {code: (row["rows"], row["orders"], row["money"]) for code, row in seen.items()}
    assert numbers["no_customer"] == (135_080, 3_710, 1_447_682.12)
    assert seen["no_customer"]["share"] == pytest.approx(1_447_682.12 / 9_747_747.934, abs=1e-9)
    assert numbers["exact_repeat"] == (5_268, 1_933, 21_740.98)
    assert numbers["negative_quantity"] == (1_336, 1_336, 0.0)
    assert numbers["negative_price"] == (2, 2, -22_124.12)
    assert numbers["zero_price"] == (2_515, 2_155, 0.0)
    assert numbers["cancelled"] == (9_288, 3_836, -896_812.49)
    assert numbers["cancelled_uncovered"] == (1_774, 951, -428_101.30)
    whole = matched_one_by_one(ledger.events)
    assert f"{whole:,} ({100 * whole / 9_288:.1f} %) match an earlier purchase" in seen["cancelled"]["sentence"]
    assert "650 codes have more than one description (1,324 when a missing" in seen["several_titles"]["sentence"]
    assert numbers["no_title"] == (1_454, 1_454, 0.0)
    assert "18 codes are no products" in seen["no_product"]["sentence"]
    assert numbers["no_product"][0] == 3_044
    assert set(seen) == {
        *("no_customer", "exact_repeat", "negative_quantity", "negative_price", "zero_price", "huge_line"),
        *("cancelled", "cancelled_uncovered", "several_titles", "no_title", "code_case", "no_product"),
        "item_without_words",
    }
