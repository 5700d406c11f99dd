"""The cut: what is past, what is future."""

from __future__ import annotations

import datetime as dt

import polars as pl

from habitue.core.errors import UsageError
from habitue.core.schemas import EVENTS, Events, check


def split(events: Events, cut: dt.datetime) -> tuple[Events, Events]:
    """Return (events strictly before `cut`, events at or after it), row order kept.

    Raises UsageError for a `cut` without a time zone.
    """
    check(events, EVENTS, at="prepare.split")
    cut = aware(cut, at="prepare.split")
    return events.filter(pl.col("at") < cut), events.filter(pl.col("at") >= cut)


def aware(moment: dt.datetime, *, at: str) -> dt.datetime:
    """Return `moment` in UTC. Raises UsageError when it has no time zone; `at` is the function that asks."""
    if moment.tzinfo is None:
        raise UsageError(
            at,
            found=f"the moment {moment.isoformat()} has no time zone",
            consequence="What lies before it would depend on the machine's clock",
            remedy="Give a UTC datetime, e.g. datetime(2011, 9, 9, tzinfo=UTC)",
        )
    return moment.astimezone(dt.UTC)
