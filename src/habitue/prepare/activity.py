"""What each user did, in one row: visits and totals."""

from __future__ import annotations

import datetime as dt

import polars as pl

from habitue.core.errors import SchemaError, UsageError

COLUMNS = ("user_key", "at", "item_id", "value")


def activity(events: pl.DataFrame, *, gap: dt.timedelta) -> pl.DataFrame:
    """Return user_key, events, sessions, items, money, first, last: one row a user, by user_key.

    `events`: EVENTS, or only its columns COLUMNS, in any order. sessions: visits, a pause longer than `gap` starts the
    next one. items: different products. money: sum of value. One sort and one pass: O(n log n). Raises SchemaError for
    a missing column, UsageError for a gap that is not positive.
    """
    for name in COLUMNS:
        if name not in events.columns:
            raise SchemaError(
                "prepare.activity",
                found=f"column '{name}' is missing",
                consequence="Visits and totals are counted from it",
                remedy=f"Give EVENTS, or a frame with {', '.join(COLUMNS)}",
            )
    if gap <= dt.timedelta(0):
        raise UsageError(
            "prepare.activity",
            found=f"the gap is {gap}",
            consequence="Every event would be a visit of its own",
            remedy="Give a positive timedelta, e.g. timedelta(minutes=30)",
        )
    lines = events.select(COLUMNS).sort("user_key", "at")
    same = pl.col("user_key") == pl.col("user_key").shift()
    late = (same & (pl.col("at").diff() > gap)).fill_null(False)
    return (
        lines.with_columns(late=late)
        .group_by("user_key", maintain_order=True)
        .agg(
            events=pl.len().cast(pl.Int64),
            sessions=pl.col("late").sum().cast(pl.Int64) + 1,
            items=pl.col("item_id").drop_nulls().n_unique().cast(pl.Int64),
            money=pl.col("value").sum(),
            first=pl.col("at").first(),
            last=pl.col("at").last(),
        )
    )
