"""The words of every product as they were known at one moment."""

from __future__ import annotations

import datetime as dt

import polars as pl

from habitue.core.schemas import EVENTS, ITEMS, PURCHASE, Events, Items, check
from habitue.prepare.split import aware
from habitue.quality.products import titles

DAY_US = 86_400_000_000


def catalogue(events: Events, items: Items, *, as_of: dt.datetime) -> pl.DataFrame:
    """Return item_id, title (null = no words yet), sorted by item_id: products known strictly before `as_of`.

    A product's title is its most frequent one on purchase lines before `as_of` (alphabetically first on a tie); where
    those have none, its latest title in ITEMS with `valid_from` before `as_of`. A product that only ITEMS knows by
    then (a launch nobody has bought) is in. `events` after quality.clean. Raises UsageError for a naive `as_of`.
    """
    check(events, EVENTS, at="prepare.catalogue")
    check(items, ITEMS, at="prepare.catalogue")
    as_of = aware(as_of, at="prepare.catalogue")
    before = events.filter(pl.col("at") < as_of, pl.col("item_id").is_not_null())
    sold = titles(before.filter(pl.col("kind") == PURCHASE))
    listed = items.filter(pl.col("valid_from") < as_of)
    named = (
        listed.drop_nulls("title")
        .sort("item_id", "valid_from", "title")
        .group_by("item_id", maintain_order=True)
        .agg(listed=pl.col("title").last())
    )
    every = pl.concat([before.select("item_id"), listed.select("item_id")]).unique().sort("item_id")
    words = every.join(sold, on="item_id", how="left", maintain_order="left")
    words = words.join(named, on="item_id", how="left", maintain_order="left")
    return words.select("item_id", title=pl.coalesce("title", "listed"))


def attributes(items: Items, *, as_of: dt.datetime) -> pl.DataFrame:
    """Return item_id, category, brand of what ITEMS held strictly before `as_of`, the latest that was said of each.

    Sorted by item_id. Raises UsageError for a naive `as_of`.
    """
    check(items, ITEMS, at="prepare.attributes")
    as_of = aware(as_of, at="prepare.attributes")
    listed = items.filter(pl.col("valid_from") < as_of).sort("item_id", "valid_from")
    return listed.group_by("item_id", maintain_order=True).agg(pl.col("category", "brand").drop_nulls().last())


def facts(items: Items, *, catalogue: pl.DataFrame, as_of: dt.datetime) -> pl.DataFrame:
    """Return department, category, brand, price, listed of each product of `catalogue`, in its order; null = unknown.

    What ITEMS said first of each, strictly before `as_of`: a price that fell since, because nobody bought, tells what
    came after the first day. `listed`: days since 1970-01-01 UTC; `department`: the first part of the category. Raises
    UsageError for a naive `as_of`.
    """
    check(items, ITEMS, at="prepare.facts")
    as_of = aware(as_of, at="prepare.facts")
    listed = items.filter(pl.col("valid_from") < as_of).sort("item_id", "valid_from")
    first = listed.group_by("item_id", maintain_order=True).agg(
        pl.col("category", "brand", "price").drop_nulls().first(),
        listed=pl.col("valid_from").first().dt.epoch("us") / DAY_US,
    )
    found = catalogue.select("item_id").join(first, on="item_id", how="left", maintain_order="left")
    department = pl.col("category").str.split(" > ").list.first()
    return found.select(department.alias("department"), "category", "brand", pl.col("price").cast(pl.Float64), "listed")
