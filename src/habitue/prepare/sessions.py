"""A user's visits."""

from __future__ import annotations

import datetime as dt

import polars as pl

from habitue.core.errors import UsageError
from habitue.core.schemas import EVENTS, Events, check


def sessions(events: Events, *, gap: dt.timedelta) -> pl.DataFrame:
    """Number each user's visits; a pause longer than `gap` starts the next one.

    Adds `session` (i64, from 0 per user) and keeps the row order. Sorts once: O(n log n). Raises UsageError when
    `gap` is not positive.
    """
    check(events, EVENTS, at="prepare.sessions")
    if gap <= dt.timedelta(0):
        raise UsageError(
            "prepare.sessions",
            found=f"the gap is {gap}",
            consequence="Every event would be a visit of its own",
            remedy="Give a positive timedelta, e.g. timedelta(minutes=30)",
        )
    late = (pl.col("at").diff() > gap).fill_null(False).cast(pl.Int64).cum_sum().over("user_key")
    rows = events.select("user_key", "at").with_row_index("row").sort("user_key", "at", "row")
    numbered = rows.with_columns(session=late).sort("row")
    return events.with_columns(numbered["session"])
