"""Clock trouble: dates stored as midnight, and a source whose day is shifted against the others'."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import polars as pl

from habitue.core.metrics import Floats
from habitue.core.schemas import Events
from habitue.quality.ledger import Finding, Ledger, unbraced

HOURS = 24
GROUPS = ("source", "channel", "import_id")  # what may have a clock of its own


@dataclass(frozen=True)
class Config:
    """From when on a clock is doubted."""

    one_time: float = 0.2  # share of a source's days' moments at one second of the day
    least: int = 200  # moments a group must have to be judged
    nearer: float = 0.5  # a shifted day must be so much nearer to the others' than the day as it stands
    apart: float = 0.25  # and the day as it stands at least so far from theirs (total variation, 0 to 1)


def batches(events: Events, config: Config | None = None) -> pl.DataFrame:
    """Return source, time (of the day, UTC), moments, share of every source that is mostly of one second of the day.

    A moment is one user at one time; a source below `least` moments or of one day only is not judged.
    """
    config = config or Config()
    moments = events.select("source", "user_key", "at").unique()
    second = pl.col("at").dt.truncate("1s").dt.time().alias("time")
    told = (
        moments.group_by("source", second)
        .agg(moments=pl.len().cast(pl.Int64), days=pl.col("at").dt.date().n_unique())
        .with_columns(of=pl.col("moments").sum().over("source"))
        .with_columns(share=pl.col("moments") / pl.col("of"))
    )
    kept = told.filter(pl.col("share") >= config.one_time, pl.col("of") >= config.least, pl.col("days") > 1)
    return kept.select("source", "time", "moments", "share").sort("source", "time")


def shifts(events: Events, config: Config | None = None) -> pl.DataFrame:
    """Return by, group, hours, distance, shifted of every source, channel or import whose day is shifted.

    The hours of the day (UTC) of a group's moments are held against those of all others: `distance` is half the sum of
    absolute differences of the shares (total variation), `shifted` the same after moving the group's clock by `hours`
    (-11 to 12), the best of all. Two groups of a shop that differ in what they sell differ in the shape of their day;
    they do not match after a shift, so they are not told.
    """
    config = config or Config()
    moments = events.select("user_key", "at", *GROUPS).unique().with_columns(hour=pl.col("at").dt.hour())
    told = []
    for by in GROUPS:
        counts = moments.drop_nulls(by).group_by(by, "hour").len()
        groups = {name: _day(frame) for (name,), frame in counts.group_by([by], maintain_order=False)}
        total = np.sum(list(groups.values()), axis=0) if groups else np.zeros(HOURS)
        for name, day in sorted(groups.items()):
            rest = total - day
            if min(day.sum(), rest.sum()) < config.least or rest.sum() < day.sum():  # the larger part sets the clock
                continue
            hours, distance, shifted = _best(day / day.sum(), rest / rest.sum())
            if hours and distance >= config.apart and shifted <= (1 - config.nearer) * distance:
                told.append((by, name, hours, distance, shifted))
    schema = {"by": pl.String, "group": pl.String, "hours": pl.Int64, "distance": pl.Float64, "shifted": pl.Float64}
    return pl.DataFrame(told, schema=schema, orient="row")


def clocks(ledger: Ledger, config: Config | None = None) -> list[Finding]:
    """Return the findings about clocks."""
    return [one for one in _clocks(ledger, config or Config()) if one is not None]


def _clocks(ledger: Ledger, config: Config) -> Iterator[Finding | None]:
    for source, time, _, share in batches(ledger.lines, config).head(1).iter_rows():
        yield ledger.finding(
            "one_time_of_day",
            "accuracy",
            (pl.col("source") == source) & (pl.col("at").dt.truncate("1s").dt.time() == time),
            f"{share:.0%} of the moments of '{unbraced(source)}' are at {time} UTC: dates without a time, or a nightly "
            "batch. {rows} rows, {money}.",
            "kept; visits and orders of a day cannot be told apart there",
        )
    for by, group, hours, distance, shifted in shifts(ledger.lines, config).sort("distance").tail(1).iter_rows():
        yield ledger.finding(
            "shifted_clock",
            "consistency",
            pl.col(by) == group,
            f"The day of {by} '{unbraced(group)}' matches the rest of the shop when its clock is moved by {hours:+d} h "
            f"(distance {distance:.2f} before, {shifted:.2f} after): {{rows}} rows, {{money}}. Its time zone is "
            "probably wrong.",
            "kept; set time_zone in its mapping and import it again",
        )


def _day(frame: pl.DataFrame) -> Floats:
    day = np.zeros(HOURS)
    day[frame["hour"].to_numpy()] = frame["len"].to_numpy()
    return day


def _best(day: Floats, rest: Floats) -> tuple[int, float, float]:
    """Return the shift that brings `day` nearest to `rest`, and the distance before and after."""
    by = np.array([0.5 * np.abs(np.roll(day, hours) - rest).sum() for hours in range(HOURS)])
    best = int(by.argmin())
    return (best - HOURS if best > HOURS // 2 else best), float(by[0]), float(by[best])
