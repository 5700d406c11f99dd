"""Streams of different clocks and rates on one timeline: resampled, their lag found, joined as of each moment.

A stream is a frame (at, value), `at` in UTC; several persons' streams carry `user_key` beside. Nothing looks ahead: a
row gets the latest value at or before its moment, and the lag between two clocks is found on values, not on labels.
"""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl
from scipy.fft import irfft, next_fast_len, rfft

from habitue.core.errors import SchemaError, UsageError

Floats = npt.NDArray[np.float64]
UTC = pl.Datetime("us", "UTC")
TICKS = 10_000_000  # of the longest clock that is made: 80 MB
OVERLAP = 8  # ticks that two streams must share at a lag before it is believed


@dataclass(frozen=True)
class Lag:
    """By how much one stream runs behind another."""

    seconds: float  # the second stream shows at t + seconds what the first shows at t
    correlation: float  # of the two at that lag, -1..1
    overlap_s: float  # time that both have values at that lag
    second_best: float  # the highest correlation at least one period further away: near `correlation` = ambiguous


@dataclass(frozen=True)
class Joined:
    """The rows of the left stream, what was matched, and how it went."""

    frame: pl.DataFrame  # the left rows in their order; `value`, `value_at`, `age_s` of the match, null where none
    matched: float  # share of rows with a match
    lag_s: float  # taken off the right stream's clock before the join
    oldest_s: float | None  # age of the oldest value that was used


def resample(stream: pl.DataFrame, *, every: dt.timedelta, gap: dt.timedelta | None = None) -> pl.DataFrame:
    """Return (at, value) on a regular clock that begins at the first value's tick.

    A tick is the mean of the values from it up to the next; an empty tick lies on the line between its neighbours
    where those are at most `gap` apart (default: 5 ticks), else null. Rows without a finite value count as absent.
    O(rows log rows + ticks). Raises SchemaError for another frame, UsageError for more than 10 million ticks.
    """
    _is_stream(stream, "prepare.align.resample")
    gap = 5 * every if gap is None else gap
    if every <= dt.timedelta(0):
        raise UsageError(
            "prepare.align.resample",
            found=f"every is {every}",
            consequence="The clock would stand still",
            remedy="Give a time above 0",
        )
    known = stream.filter(pl.col("value").is_finite()).drop_nulls().sort("at")
    if not known.height:
        return pl.DataFrame(schema={"at": UTC, "value": pl.Float64})
    micro = known["at"].dt.epoch("us").to_numpy()
    step = every // dt.timedelta(microseconds=1)
    tick = micro // step
    length = int(tick[-1] - tick[0]) + 1
    if length > TICKS:
        raise UsageError(
            "prepare.align.resample",
            found=f"the stream spans {length:,} ticks of {every}",
            consequence=f"More than {TICKS:,} are not made",
            remedy="Give a longer `every`, or a shorter part of the stream",
        )
    some, place = np.unique(tick - tick[0], return_inverse=True)
    value = np.full(length, np.nan)
    value[some] = np.bincount(place, weights=known["value"].to_numpy()) / np.bincount(place)
    for left, right in zip(some[:-1], some[1:], strict=True):
        if 1 < right - left <= gap / every:
            value[left : right + 1] = np.linspace(value[left], value[right], int(right - left) + 1)
    at = (np.arange(length) + tick[0]) * step
    frame = pl.DataFrame({"at": pl.Series(at).cast(UTC), "value": value})
    return frame.with_columns(pl.col("value").fill_nan(None))


def lag(first: pl.DataFrame, second: pl.DataFrame, *, every: dt.timedelta, most: dt.timedelta) -> Lag:
    """Return by how much `second` runs behind `first`, to one period `every`, at most `most` either way.

    The lag with the highest correlation over the ticks that both have, each lag with its own means and spreads, all
    lags by one transform (Padfield 2012, "Masked object registration in the Fourier domain", equation 13). O(n log n)
    of the ticks. Raises SchemaError for frames that are no streams, UsageError when the two never overlap.
    """
    one, two = (resample(stream, every=every) for stream in (first, second))
    if not one.height or not two.height:
        raise _apart("one of the streams has no value")
    a, b = (frame["value"].fill_null(float("nan")).to_numpy() for frame in (one, two))
    begins = round((two["at"][0] - one["at"][0]) / every)  # ticks from the first stream's start to the second's
    found, count = _correlations(a, b)
    shifts = np.arange(found.size) - (a.size - 1) + begins
    possible = (np.abs(shifts) <= most / every) & (count >= OVERLAP) & np.isfinite(found)
    if not possible.any():
        raise _apart(f"no lag up to {most} leaves {OVERLAP} ticks of {every} that both have and that vary")
    told = np.where(possible, found, -np.inf)
    best = int(told.argmax())
    others = np.where(np.abs(np.arange(told.size) - best) > 1, told, -np.inf)
    second_best = float(others.max()) if np.isfinite(others).any() else float("nan")
    seconds = every.total_seconds()
    return Lag(float(shifts[best]) * seconds, float(told[best]), float(count[best]) * seconds, second_best)


def join(
    left: pl.DataFrame, right: pl.DataFrame, *, tolerance: dt.timedelta, lag_s: float = 0.0, by: str | None = None
) -> Joined:
    """Give each row of `left` (at, ...) the latest value of `right` (at, value) at or before it, not older than that.

    `lag_s` is taken off the clock of `right` first; `by` names a column of both that must agree, such as user_key. Of
    right rows of one moment the last counts. Row order is kept. O(n log n). Raises SchemaError for frames that are no
    streams, UsageError for a tolerance below 0.
    """
    _is_stream(right, "prepare.align.join")
    if left.schema.get("at") != UTC or left["at"].null_count():
        raise _no_stream("prepare.align.join", "the left frame has no column 'at' of moments in UTC without nulls")
    if by is not None and (by not in left.columns or by not in right.columns):
        raise _no_stream("prepare.align.join", f"column '{by}' is not in both frames")
    if tolerance < dt.timedelta(0):
        raise UsageError(
            "prepare.align.join",
            found=f"the tolerance is {tolerance}",
            consequence="No value could be old enough",
            remedy="Give 0 or more",
        )
    keys = [] if by is None else [by]
    moved = pl.col("at") - dt.timedelta(seconds=lag_s)
    known = right.drop_nulls(["at", "value", *keys]).with_columns(at=moved, value_at=moved)
    known = known.select(*keys, "at", "value", "value_at").sort("at", maintain_order=True)
    rows = left.with_row_index("row?").sort("at", maintain_order=True)
    got = rows.join_asof(known, on="at", by=by, strategy="backward", tolerance=tolerance, check_sortedness=False)
    age = (pl.col("at") - pl.col("value_at")).dt.total_microseconds() / 1e6
    frame = got.with_columns(age_s=age).sort("row?").drop("row?")
    matched = 1 - frame["value"].null_count() / frame.height if frame.height else 0.0
    oldest = frame["age_s"].max()
    return Joined(frame, matched, lag_s, None if oldest is None else float(oldest))  # type: ignore[arg-type]


def _correlations(a: Floats, b: Floats) -> tuple[Floats, Floats]:
    """Return Pearson's correlation of b moved by each of 1 - len(a) .. len(b) - 1 ticks with a, and how many it is of.

    NaN where one of the two does not vary. Ticks that are NaN count for nothing.
    """
    there = [np.isfinite(x).astype(np.float64) for x in (a, b)]
    # around their means, so that large levels do not eat the digits of small changes
    value = [np.where(t > 0, x - x[t > 0].mean(), 0.0) for x, t in zip((a, b), there, strict=True)]
    size = next_fast_len(a.size + b.size, real=True)

    def across(x: Floats, y: Floats) -> Floats:
        """Sum over t of x[t] y[t + shift], for every shift."""
        moved: Floats = irfft(np.conj(rfft(x, size)) * rfft(y, size), size)
        ordered: Floats = np.r_[moved[size - a.size + 1 :], moved[: b.size]]
        return ordered

    count = np.round(across(there[0], there[1]))
    sums = across(value[0], there[1]), across(there[0], value[1])
    squares = across(value[0] ** 2, there[1]), across(there[0], value[1] ** 2)
    with np.errstate(divide="ignore", invalid="ignore"):
        spread = [np.maximum(q - s**2 / count, 0.0) for q, s in zip(squares, sums, strict=True)]
        together = across(value[0], value[1]) - sums[0] * sums[1] / count
        limit = [1e-9 * max(q.max(initial=0.0), 1e-300) for q in squares]
        varies = (spread[0] > limit[0]) & (spread[1] > limit[1])
        told: Floats = np.where(varies, np.clip(together / np.sqrt(spread[0] * spread[1]), -1, 1), np.nan)
    return told, count


def _is_stream(frame: pl.DataFrame, where: str) -> None:
    if frame.schema.get("at") != UTC or frame.schema.get("value") != pl.Float64:
        told = ", ".join(f"{name} {dtype}" for name, dtype in frame.schema.items())
        raise _no_stream(where, f"the columns are {told or 'none'}")


def _no_stream(where: str, found: str) -> SchemaError:
    return SchemaError(
        where,
        found=found,
        consequence="What was when cannot be told",
        remedy="Give `at` (Datetime in microseconds, UTC) and `value` (Float64)",
    )


def _apart(found: str) -> UsageError:
    return UsageError(
        "prepare.align.lag",
        found=found,
        consequence="No lag can be told",
        remedy="Give streams of the same time, a longer `most` or a shorter `every`",
    )
