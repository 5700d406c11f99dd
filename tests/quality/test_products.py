import polars as pl
import pytest

from habitue.collect import synthetic
from habitue.core.errors import SchemaError
from habitue.core.schemas import EVENTS
from habitue.quality import clean, products
from habitue.quality.products import Rule, judge, titles


def catalogue(*rows: tuple[str | None, str | None]) -> pl.DataFrame:
    return pl.DataFrame(rows, schema={"item_id": pl.String, "title": pl.String}, orient="row")


GOODS = tuple((f"{10000 + i}", f"blue cup {i}") for i in range(60)) + tuple((f"{10000 + i}B", "cup") for i in range(20))


def test_an_unusual_code_with_a_service_word_is_no_product():
    lines = catalogue(*GOODS, ("POST", "DOTCOM POSTAGE"), ("C2", "Carriage"), ("BANK CHARGES", "Bank Charges"))
    assert products(lines) == {code for code, _ in GOODS}


def test_an_unusual_code_without_a_service_word_is_a_product():
    lines = catalogue(*GOODS, ("DCGSGIRL", "girls party bag"), ("PADS", "pads to match all cushions"), ("X", None))
    assert {"DCGSGIRL", "PADS", "X"} <= products(lines)


def test_a_usual_code_needs_nothing_but_service_words():
    lines = catalogue(
        *GOODS, ("23444", "Next Day Carriage"), ("23099", "FRENCH CARRIAGE LANTERN"), ("23100", "next day")
    )
    assert products(lines) & {"23444", "23099", "23100"} == {"23099", "23100"}


def test_the_shape_of_codes_is_the_shops_own():
    lines = catalogue(*((f"SKU-{i}", "sample jar") for i in range(40)), ("7", "sample jar"))
    assert judge(lines, Rule()).filter(~pl.col("product"))["item_id"].to_list() == ["7"]


def test_the_shop_has_the_last_word():
    lines = catalogue(*GOODS, ("POST", "post card sample"), ("10000", "blue cup 0"))
    rule = Rule(always=("POST",), never=("10000",))
    assert "POST" in products(lines, rule)
    assert "10000" not in products(lines, rule)


def test_a_title_is_the_most_frequent_then_the_alphabetically_first():
    lines = catalogue(("a", "x"), ("a", "y"), ("a", "y"), ("b", "z"), ("b", "y"), ("c", None), ("d", None), ("d", "w"))
    more = catalogue(("d", None), ("d", None), (None, "lost"))
    assert titles(pl.concat([lines, more])).rows() == [("a", "y"), ("b", "y"), ("c", None), ("d", "w")]


def test_one_item_and_no_item():
    assert products(catalogue(("a", "mug"))) == {"a"}
    assert products(EVENTS.empty()) == frozenset()


def test_the_toy_shop_sells_products_only():
    assert len(products(synthetic.shop())) == 40


def test_a_frame_without_words_is_refused():
    with pytest.raises(SchemaError, match="quality.products: column 'title' is missing"):
        products(pl.DataFrame({"item_id": ["a"]}))


def test_the_real_ledger(ledger):
    events, _ = clean(ledger.events)
    services = set(events["item_id"]) - products(events)
    vouchers = {f"gift_0001_{pounds}" for pounds in (10, 20, 30, 40, 50)}
    assert services == {
        *("POST", "DOT", "C2", "M", "m", "D", "S", "B", "BANK CHARGES", "AMAZONFEE", "CRUK", "23444", "23574"),
        *vouchers,
    }
