"""The words of every product as they were known at one moment."""

from __future__ import annotations

import datetime as dt

import polars as pl

from habitue.core.schemas import EVENTS, ITEMS, PURCHASE, Events, Items, check
from habitue.prepare.split import aware
from habitue.quality.products import titles


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
