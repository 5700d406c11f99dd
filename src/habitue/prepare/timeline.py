"""One user's events as a row of sets: what happened together has no order."""

from __future__ import annotations

import polars as pl

from habitue.core.schemas import EVENTS, TIMELINE, Events, Timeline, check


def timeline(events: Events) -> Timeline:
    """Return TIMELINE: lines of one user with the same time and kind are one set, steps from 0 in order of (at, kind).

    Quantities and values of an item met twice in a set are added, in the order of event_id and line; an item without
    any quantity or value has null there. A line without an item counts in `order_ids` and the `has_` columns only.
    Cutting the events at t leaves every step before t as it was. O(n log n).
    """
    check(events, EVENTS, at="prepare.timeline")
    key = ["user_key", "at", "kind"]
    lines = events.sort(*key, "item_id", "event_id", "line")
    items = (
        lines.drop_nulls("item_id")
        .group_by(*key, "item_id", maintain_order=True)
        .agg(quantities=_total("quantity"), values=_total("value"))
        .group_by(key, maintain_order=True)
        .agg(item_ids=pl.col("item_id"), quantities=pl.col("quantities"), values=pl.col("values"))
    )
    sets = lines.group_by(key, maintain_order=True).agg(
        order_ids=pl.col("order_id").drop_nulls().unique().sort(),
        has_item=pl.col("item_id").is_not_null().any(),
        has_words=pl.any_horizontal(pl.col("title", "query", "text").is_not_null()).any(),
        has_money=pl.col("value").is_not_null().any(),
    )
    sets = sets.join(items, on=key, how="left", maintain_order="left").with_columns(
        pl.col("item_ids", "quantities", "values").fill_null([]),
        step=pl.int_range(pl.len(), dtype=pl.Int32).over("user_key"),
    )
    return TIMELINE.shape(sets)


def _total(column: str) -> pl.Expr:
    return pl.when(pl.col(column).count() > 0).then(pl.col(column).sum())
