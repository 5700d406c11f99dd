"""The coming catalogue of the demo says no more than it may: code and description of later products."""

import datetime as dt

import polars as pl

from habitue.collect import bundled, read_mapping


def test_the_launches_are_the_products_first_sold_after_the_cut_and_nothing_else():
    coming = pl.read_csv(bundled.launches().file, schema_overrides={"StockCode": pl.String})
    assert coming.columns == ["StockCode", "Description"]
    sold = pl.read_parquet(bundled.ledger().file).filter(
        pl.col("Quantity") > 0,
        pl.col("UnitPrice") > 0,
        ~pl.col("InvoiceNo").str.starts_with("C"),
        pl.col("StockCode").str.contains(r"^\d{5}"),
    )
    first = sold.group_by("StockCode").agg(pl.col("InvoiceDate").min())
    later = first.filter(pl.col("InvoiceDate") >= dt.datetime(2011, 9, 9))
    named = sold.drop_nulls("Description")
    usual = named.group_by("StockCode").agg(pl.col("Description").mode())
    assert set(coming["StockCode"]) == set(later["StockCode"])
    for code, description in coming.iter_rows():
        assert description in usual.filter(pl.col("StockCode") == code)["Description"][0]


def test_their_words_are_known_before_the_cut():
    mapping = read_mapping(bundled.launches().mapping)
    assert mapping.what == "items"
    assert mapping.valid_from is not None
    assert mapping.valid_from < dt.datetime(2011, 9, 8, 23, tzinfo=dt.UTC)
