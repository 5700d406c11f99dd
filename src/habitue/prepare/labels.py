"""What each user did in the days after a moment."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Sequence

import polars as pl

from habitue.core.errors import UsageError
from habitue.core.schemas import EVENTS, LABELS, PURCHASE, REFUND, Events, Labels, check
from habitue.prepare.split import aware


def labels(
    events: Events,
    *,
    as_of: dt.datetime | Sequence[dt.datetime],
    horizon_days: int,
    users: Iterable[int] | None = None,
    until: dt.datetime | None = None,
) -> Labels:
    """Return LABELS of every user with an event before `as_of`, for each moment; sorted by as_of, user_key.

    churned: no purchase in [as_of, as_of + horizon_days). orders: distinct order_id (a purchase without one counts as
    an order of its own event). value: net money, refunds subtracted. `events` after quality.clean, later rows
    included; `users`: keys to hold (default everyone). `until`: the moment up to which `events` are complete; default
    the end of the UTC day of the last event. Raises UsageError when a horizon does not close by then, for a naive
    moment, and for a horizon that is not positive. O(rows x moments).
    """
    check(events, EVENTS, at="prepare.labels")
    moments = distinct(as_of, at="prepare.labels")
    if horizon_days <= 0:
        raise UsageError(
            "prepare.labels",
            found=f"the horizon is {horizon_days} days",
            consequence="Nothing can happen in it",
            remedy="Give a number of days above 0, e.g. 92",
        )
    horizon = dt.timedelta(days=horizon_days)
    if events.height and moments:
        _closed(events, moments[-1], horizon, until)
    lines = events.select(
        "user_key", "at", "kind", "event_id", "line", "value", order=pl.coalesce("order_id", "event_id")
    )
    if users is not None:
        lines = lines.filter(pl.col("user_key").is_in(pl.Series(users, dtype=pl.Int64).implode()))
    lines = lines.sort("user_key", "at", "event_id", "line")
    found = [LABELS.empty(), *(_label(lines, moment, moment + horizon) for moment in moments)]
    return pl.concat(found)


def distinct(as_of: dt.datetime | Sequence[dt.datetime], *, at: str) -> list[dt.datetime]:
    """Return the moments in UTC, ascending, each once. Raises UsageError for a naive one."""
    every = [as_of] if isinstance(as_of, dt.datetime) else as_of
    return sorted({aware(moment, at=at) for moment in every})


def _closed(events: Events, last: dt.datetime, horizon: dt.timedelta, until: dt.datetime | None) -> None:
    end = (
        events["at"].dt.truncate("1d").dt.offset_by("1d").max() if until is None else aware(until, at="prepare.labels")
    )
    if not isinstance(end, dt.datetime) or last + horizon <= end:
        return
    raise UsageError(
        "prepare.labels",
        found=f"the horizon of {horizon.days} days from {last.isoformat()} closes on {(last + horizon).isoformat()}, "
        f"and the data end on {end.isoformat()}",
        consequence="A customer whose next order is not in the data yet would be labelled as lost",
        remedy=f"Ask for a moment up to {(end - horizon).isoformat()}, or a shorter horizon",
    )


def _label(lines: pl.DataFrame, moment: dt.datetime, end: dt.datetime) -> pl.DataFrame:
    known = lines.filter(pl.col("at") < moment).select("user_key").unique().sort("user_key")
    after = lines.filter(pl.col("at") >= moment, pl.col("at") < end, pl.col("kind").is_in([PURCHASE, REFUND]))
    done = after.group_by("user_key", maintain_order=True).agg(
        orders=pl.col("order").filter(pl.col("kind") == PURCHASE).n_unique().cast(pl.Int64),
        value=pl.col("value").drop_nulls().cum_sum().last(),
    )
    labelled = known.join(done, on="user_key", how="left", maintain_order="left").with_columns(
        pl.col("orders").fill_null(0),
        pl.col("value").fill_null(0.0),
        as_of=pl.lit(moment, dtype=pl.Datetime("us", "UTC")),
        horizon_end=pl.lit(end, dtype=pl.Datetime("us", "UTC")),
    )
    return LABELS.shape(labelled.with_columns(churned=pl.col("orders") == 0))
