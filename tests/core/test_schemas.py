import datetime as dt

import polars as pl
import pytest

from habitue.core.errors import SchemaError
from habitue.core.schemas import EVENTS, FEATURES, ITEMS, TABLES, TIMELINE, check, to_markdown

NOW = dt.datetime(2024, 1, 1, tzinfo=dt.UTC)


@pytest.fixture
def item() -> pl.DataFrame:
    return ITEMS.shape(
        pl.DataFrame({"item_id": ["a"], "valid_from": [NOW], "price": [1.5], "source": ["s"], "import_id": ["i"]})
    )


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.name)
def test_an_empty_table_keeps_its_own_contract(table):
    check(table.empty(), table, at="test")
    assert set(table.key) <= set(table.schema)


def test_shape_adds_what_may_be_null_and_casts(item):
    assert item.schema == ITEMS.schema
    assert item["title"].to_list() == [None]
    check(item, ITEMS, at="test")


def test_shape_keeps_further_columns_where_the_contract_allows_them():
    frame = FEATURES.shape(pl.DataFrame({"orders": [1.0], "as_of": [NOW], "user_key": [1]}))
    assert frame.columns == ["user_key", "as_of", "orders"]
    check(frame, FEATURES, at="test")


def test_shape_drops_what_the_contract_does_not_name(item):
    assert ITEMS.shape(item.with_columns(more=pl.lit(1))).columns == list(ITEMS.schema)


def test_a_missing_column(item):
    with pytest.raises(SchemaError, match=r"^quality\.x: ITEMS: column 'source' is missing.*TABLE\.shape"):
        check(item.drop("source"), ITEMS, at="quality.x")


def test_an_unknown_column(item):
    with pytest.raises(SchemaError, match="column 'more' is not in the contract.*JSON column"):
        check(item.with_columns(more=pl.lit(1)), ITEMS, at="x")


def test_a_further_column_of_the_wrong_type():
    frame = pl.DataFrame(
        {"user_key": [1], "as_of": [NOW], "orders": ["many"]}, schema_overrides={"as_of": pl.Datetime("us", "UTC")}
    )
    with pytest.raises(SchemaError, match=r"column 'orders' is String, not f64\?.*Cast it"):
        check(frame, FEATURES, at="x")


def test_a_wrong_type(item):
    with pytest.raises(SchemaError, match=r"column 'price' is Int64, not f64\? \(Float64\).*Cast it"):
        check(item.with_columns(pl.col("price").cast(pl.Int64)), ITEMS, at="x")


def test_a_moment_without_a_zone_is_a_wrong_type(item):
    with pytest.raises(SchemaError, match="column 'valid_from' is Datetime.*not utc"):
        check(item.with_columns(pl.col("valid_from").dt.replace_time_zone(None)), ITEMS, at="x")


def test_a_null_where_none_may_be(item):
    with pytest.raises(SchemaError, match="column 'item_id' has 1 nulls and may have none.*Fill them"):
        check(item.with_columns(item_id=pl.lit(None, dtype=pl.String)), ITEMS, at="x")


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
def test_a_float_that_is_no_number(item, bad):
    with pytest.raises(SchemaError, match="column 'price' has 1 NaN or infinite values.*Make them null"):
        check(item.with_columns(price=pl.lit(bad)), ITEMS, at="x")


def test_a_null_float_is_fine(item):
    check(item.with_columns(price=pl.lit(None, dtype=pl.Float64)), ITEMS, at="x")


def test_a_negative_user_key():
    frame = FEATURES.shape(pl.DataFrame({"user_key": [-1], "as_of": [NOW]}))
    with pytest.raises(SchemaError, match="column 'user_key' has negative keys.*protect.identities"):
        check(frame, FEATURES, at="x")


def test_types_of_the_contract():
    assert EVENTS.schema["at"] == pl.Datetime("us", "UTC")
    assert EVENTS.schema["line"] == pl.Int32
    assert TIMELINE.schema["item_ids"] == pl.List(pl.String)
    assert {c.name for c in EVENTS.columns if not c.nullable} >= {"event_id", "at", "user_key", "kind", "source"}


def test_no_two_tables_share_a_name():
    assert len({table.name for table in TABLES}) == len(TABLES)


def test_the_generated_page_names_every_table_and_column():
    page = to_markdown()
    for table in TABLES:
        assert f"## {table.name.upper()} (version {table.version})" in page
        for column in table.columns:
            assert f"| {column.name} | {column.type} | {column.meaning} |" in page
    assert "| ... | f64? | one further column per declared name |" in page
