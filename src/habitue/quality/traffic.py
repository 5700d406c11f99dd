"""Who is no shopper, and when the shop saw more than it can have seen: bots and bursts.

Lines of one user at one moment are one *moment*: an order of a hundred lines is no hundred clicks.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import polars as pl

from habitue.core.schemas import Events
from habitue.quality.ledger import Finding, Ledger

MINUTE, DAY = "1m", "1d"
MAD_TO_SIGMA = 0.6745  # the median absolute deviation of a normal variable, in standard deviations


@dataclass(frozen=True)
class Config:
    """From when on a user is a program, and an hour is a burst."""

    per_minute: int = 60  # moments within one clock minute: a moment a second, for a minute
    awake_hours: int = 22  # of the 24 hours of one day with a moment in them
    awake_moments: int = 200  # in that day, so that two sleepless shoppers with one key are none
    steady_gaps: int = 50  # gaps between moments from which a user may be called a metronome
    steady: float = 0.05  # standard deviation / mean of the gaps
    burst: float = 20.0  # modified z-score of an hour of the shop
    burst_times: float = 10.0  # and so many times the usual hour


def bots(events: Events, config: Config | None = None) -> pl.DataFrame:
    """Return user_key, reason, moments of every user who behaves like a program; sorted by user_key. O(n log n).

    reason, the first that holds: fast (`per_minute` moments in a minute), sleepless (moments in `awake_hours` hours of
    a day), steady (gaps between moments all alike, below an hour).
    """
    config = config or Config()
    moments = events.select("user_key", "at").unique().sort("user_key", "at")
    per_minute = moments.group_by("user_key", pl.col("at").dt.truncate(MINUTE)).len()
    fast = per_minute.filter(pl.col("len") >= config.per_minute).select("user_key").unique()
    per_day = moments.group_by("user_key", day=pl.col("at").dt.truncate(DAY)).agg(
        hours=pl.col("at").dt.hour().n_unique(), moments=pl.len()
    )
    awake = (pl.col("hours") >= config.awake_hours) & (pl.col("moments") >= config.awake_moments)
    sleepless = per_day.filter(awake).select("user_key").unique()
    gap = pl.col("at").diff().dt.total_microseconds().over("user_key") / 1e6
    gaps = (
        moments.with_columns(gap=gap)
        .drop_nulls("gap")
        .group_by("user_key")
        .agg(n=pl.len(), mean=pl.col("gap").mean(), deviation=pl.col("gap").std(), longest=pl.col("gap").max())
    )
    alike = (pl.col("deviation") <= config.steady * pl.col("mean")) & (pl.col("longest") < 3_600)
    steady = gaps.filter(pl.col("n") >= config.steady_gaps, alike).select("user_key")
    reasons = pl.concat(
        [
            frame.with_columns(reason=pl.lit(name))
            for name, frame in (("fast", fast), ("sleepless", sleepless), ("steady", steady))
        ]
    ).unique("user_key", keep="first", maintain_order=True)
    counted = moments.group_by("user_key").agg(moments=pl.len().cast(pl.Int64))
    return reasons.join(counted, on="user_key", how="left").sort("user_key")


def bursts(events: Events, config: Config | None = None) -> pl.DataFrame:
    """Return hour (UTC, its start), moments, usual, z of every hour with far more moments than the shop's others.

    z = .6745 (x - median) / MAD over the hours that have any (Iglewicz and Hoaglin 1993, the modified z-score); the MAD
    is never taken below the square root of the median, the deviation of a count that only chance moves.
    """
    config = config or Config()
    hours = events.select("user_key", "at").unique().group_by(hour=pl.col("at").dt.truncate("1h")).agg(moments=pl.len())
    usual = pl.col("moments").cast(pl.Float64).median()
    spread = pl.max_horizontal((pl.col("moments") - usual).abs().median(), MAD_TO_SIGMA * usual.sqrt())
    told = hours.with_columns(usual=usual, z=MAD_TO_SIGMA * (pl.col("moments") - usual) / spread)
    far = (pl.col("z") >= config.burst) & (pl.col("moments") >= config.burst_times * pl.col("usual"))
    return told.filter(far).sort("hour").with_columns(pl.col("moments").cast(pl.Int64))


def traffic(ledger: Ledger, config: Config | None = None) -> list[Finding]:
    """Return the findings about bots and bursts."""
    return [one for one in _traffic(ledger, config or Config()) if one is not None]


def _traffic(ledger: Ledger, config: Config) -> Iterator[Finding | None]:
    found = bots(ledger.lines, config)
    by_reason = found.group_by("reason").len().sort("len", "reason", descending=[True, False])
    words = ", ".join(f"{count:,} {reason}" for reason, count in by_reason.iter_rows())
    yield ledger.finding(
        "bots",
        "accuracy",
        pl.col("user_key").is_in(found["user_key"].implode()),
        f"{found.height:,} users behave like programs ({words}): {{rows}} rows, {{money}}.",
        "kept; the repair drop_bots leaves them out",
    )
    hours = bursts(ledger.lines, config)
    most = hours.sort("moments", "hour", descending=[True, False]).head(1)
    example = "".join(
        f", the largest from {hour:%Y-%m-%d %H:%M} UTC with {moments:,} where {usual:,.0f} are usual"
        for hour, moments, usual in most.select("hour", "moments", "usual").iter_rows()
    )
    yield ledger.finding(
        "bursts",
        "accuracy",
        pl.col("at").dt.truncate("1h").is_in(hours["hour"].implode()),
        f"{hours.height:,} hours hold far more than the shop's others{example}: {{rows}} rows, {{money}}.",
        "kept; look whether a file came twice or a campaign ran",
    )
