"""What was sensed of a person over time, a pulse or a glance, as numbers that have names: SIGNALS -> one row an id.

Each signal is brought onto a regular clock, spikes are replaced (Hampel 1974), what is faster than `cutoff_hz` is
taken out, and windows are told apart: level, unrest, slope. A vector holds how those lie over the whole recording. A
pause longer than `gap_s` stays a pause: nothing is drawn through it.
"""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import polars as pl
from scipy.signal import butter, medfilt, sosfiltfilt

from habitue.core.errors import SchemaError, SettingsError
from habitue.core.schemas import SIGNALS, Signals, check
from habitue.encode.vectors import Dense, Encoder, Refusal, Vectors, collected

Floats = npt.NDArray[np.float64]
SERIES = pl.List(pl.Struct({"signal": pl.String, "at": pl.Datetime("us", "UTC"), "value": pl.Float64}))
STATISTICS = (  # of one signal; `level` is in the signal's own unit
    "there",
    "length (log2 of seconds)",
    "share covered",
    "level",
    "level, spread between windows",
    "level, lowest window",
    "level, highest window",
    "unrest (spread within a window)",
    "jumps (root mean square of steps)",
    "slope of windows (a minute)",
    "trend (a minute)",
)
SPIKE = 3.0  # times 1.4826 the median deviation from the median: Hampel's limit of a spike
LARGEST = 1e18  # of a value that any sensor could mean: squares of larger ones leave float32
AROUND = 7  # samples of the clock that a spike is judged by


@dataclass(frozen=True)
class Config:
    """Which signals, on which clock. Raises SettingsError for settings that make no sense."""

    signals: tuple[str, ...] = ("heart_rate", "attention", "touch", "emotion")
    rate_hz: float = 1.0  # of the clock all signals are brought to
    cutoff_hz: float = 0.2  # what is faster is noise; at least half of rate_hz = nothing is taken out
    window_s: float = 30.0
    step_s: float = 15.0  # from window to window
    gap_s: float = 10.0  # a longer pause between two values stays a pause
    longest_s: float = 24 * 3600.0  # of a longer recording only the latest part is read

    def __post_init__(self) -> None:
        """Refuse settings that would tell nothing."""
        positive = min(self.rate_hz, self.cutoff_hz, self.window_s, self.step_s, self.gap_s, self.longest_s) > 0
        if not positive or not self.signals or self.window_s * self.rate_hz < 4:
            raise SettingsError(
                "encode.signals.Config",
                found=f"{len(self.signals)} signals, rate_hz {self.rate_hz}, cutoff_hz {self.cutoff_hz}, window_s "
                f"{self.window_s}, step_s {self.step_s}, gap_s {self.gap_s}, longest_s {self.longest_s}",
                consequence="No window could be told",
                remedy="Name signals, give numbers above 0 and windows of at least 4 values",
            )


def series(signals: Signals, *, by: str = "user_key", until: dt.datetime | None = None) -> pl.DataFrame:
    """Return (id, series): what was sensed strictly before `until`, a row a person, or a visit by="session_id".

    Of a visit the id is `user_key/session_id`; rows without a visit are left out then. Values lie in the order of
    time. O(rows log rows).
    """
    check(signals, SIGNALS, at="encode.signals")
    if by not in ("user_key", "session_id"):
        raise SettingsError(
            "encode.signals.series",
            found=f"by is '{by}'",
            consequence="It is not known whose a value is",
            remedy="Give user_key or session_id",
        )
    name = pl.col("user_key").cast(pl.String)
    if by == "session_id":
        name = name + "/" + pl.col("session_id")
    rows = signals if until is None else signals.filter(pl.col("at") < until)
    rows = rows.with_columns(id=name).drop_nulls("id").sort("id", "at", "signal", "signal_id")
    return rows.group_by("id", maintain_order=True).agg(series=pl.struct("signal", "at", "value"))


def names(config: Config | None = None) -> tuple[str, ...]:
    """Return what the numbers of a vector are, in their order."""
    return tuple(f"{signal}: {what}" for signal in (config or Config()).signals for what in STATISTICS)


def encode(things: pl.DataFrame, config: Config | None = None) -> Vectors:
    """Return one row per thing (id and series) with the numbers of `names`; float32[I, 11 a signal], not of length 1.

    A signal that an id lacks has zeros, its `there` among them. An id with none of the signals gets a reason, not a
    row. O(values + seconds x rate_hz). Raises SchemaError when `things` is not what `series` returns.
    """
    config = config or Config()
    check_series(things)
    settings = {key: value for key, value in vars(config).items()} | {"signals": list(config.signals)}
    by = Encoder("signals.windows@1", len(names(config)), settings)
    told = {
        place: {signal: describe(at, value, config) for signal, (at, value) in some.items()}
        for place, some in parts(things, config).items()
    }
    return collected(things["id"].to_list(), by, [(n, _row(told.get(n), config)) for n in range(things.height)])


def check_series(things: pl.DataFrame) -> None:
    """Raise SchemaError when `things` is not what `series` returns."""
    if dict(things.schema) != {"id": pl.String, "series": SERIES} or things["id"].null_count():
        raise SchemaError(
            "encode.signals",
            found=f"the columns are {', '.join(f'{k} {v}' for k, v in things.schema.items())}",
            consequence="There is no series to encode",
            remedy="Make the things with encode.signals.series(SIGNALS)",
        )


def parts(things: pl.DataFrame, config: Config) -> dict[int, dict[str, tuple[Floats, Floats]]]:
    """Return place -> signal -> (seconds ascending, values) of the signals asked for; a place with none is not there.

    What is not finite, or beyond LARGEST, counts as not sensed.
    """
    long = things.select("id", "series").with_row_index("place").explode("series").unnest("series").drop_nulls("value")
    long = long.filter(pl.col("value").abs() <= LARGEST, pl.col("signal").is_in(list(config.signals)))
    found: dict[int, dict[str, tuple[Floats, Floats]]] = {}
    for (place, signal), part in long.group_by(["place", "signal"]):
        at = part.sort("at").select(pl.col("at").dt.epoch("us").cast(pl.Float64) / 1e6, "value").to_numpy()
        found.setdefault(int(place), {})[str(signal)] = (at[:, 0], at[:, 1])
    return found


def describe(at: Floats, value: Floats, config: Config) -> Floats:
    """Return STATISTICS of one signal: `value` at the seconds `at`, ascending, finite, at least one."""
    clock, where = steady(at, value, config)
    there = np.isfinite(clock)
    width, step = round(config.window_s * config.rate_hz), max(1, round(config.step_s * config.rate_hz))
    starts = range(0, max(clock.size - width, 0) + 1, step)
    parts = [clock[s : s + width] for s in starts]
    parts = [part for part in parts if np.isfinite(part).sum() >= min(4, there.sum())] or [clock]
    level = np.array([np.nanmean(part) for part in parts])
    within = np.array([np.nanstd(part) for part in parts])
    slope = np.array([_slope(np.arange(part.size) / config.rate_hz, part) for part in parts])
    steps = np.diff(clock)
    steps = steps[np.isfinite(steps)]
    return np.array(
        [
            1.0,
            np.log2(1 + at[-1] - max(at[0], at[-1] - config.longest_s)),
            there.mean(),
            level.mean(),
            level.std(),
            level.min(),
            level.max(),
            within.mean(),
            np.sqrt((steps**2).mean()) if steps.size else 0.0,
            60 * np.abs(slope).mean(),
            60 * _slope(where, clock),
        ]
    )


def steady(at: Floats, value: Floats, config: Config) -> tuple[Floats, Floats]:
    """Return the signal on the clock, NaN in pauses, and the seconds of the clock; spikes and fast noise taken out.

    A tick is the mean of what falls into it; an empty tick lies on the line between its neighbours, where those are
    at most `gap_s` apart.
    """
    kept = at >= at[-1] - config.longest_s
    at, value = at[kept], value[kept]
    tick = np.floor((at - at[0]) * config.rate_hz).astype(np.int64)
    some, place = np.unique(tick, return_inverse=True)
    mean = np.bincount(place, weights=value) / np.bincount(place)
    clock = np.full(int(tick[-1]) + 1, np.nan)
    clock[some] = _without_spikes(mean)
    for left, right in pairwise(some):
        if 1 < right - left <= config.gap_s * config.rate_hz:
            clock[left : right + 1] = np.linspace(clock[left], clock[right], right - left + 1)
    if config.cutoff_hz < config.rate_hz / 2:
        clock = _smoothed(clock, config)
    return clock, np.arange(clock.size) / config.rate_hz


def _without_spikes(values: Floats) -> Floats:
    """Replace what lies more than SPIKE deviations from the median of its neighbours by that median."""
    if values.size < AROUND:
        return values
    wide = np.pad(values, AROUND // 2, mode="edge")
    middle = medfilt(wide, AROUND)[AROUND // 2 : -(AROUND // 2)]
    near = np.lib.stride_tricks.sliding_window_view(wide, AROUND)
    apart = 1.4826 * np.median(np.abs(near - middle[:, None]), axis=1)
    return np.where(np.abs(values - middle) > np.maximum(SPIKE * apart, 1e-12), middle, values)


def _smoothed(clock: Floats, config: Config) -> Floats:
    """Return every stretch between pauses through a Butterworth low-pass of order 2, there and back: no lag."""
    sections = butter(2, config.cutoff_hz, fs=config.rate_hz, output="sos")
    there = np.isfinite(clock)
    edges = np.flatnonzero(np.diff(np.r_[False, there, False].astype(np.int8)))
    smooth = clock.copy()
    for start, end in edges.reshape(-1, 2):
        if end - start > 9:  # what the filter needs to begin
            smooth[start:end] = sosfiltfilt(sections, clock[start:end])
    return smooth


def _slope(x: Floats, y: Floats) -> float:
    """Return the slope of the line through the finite points; 0 below three of them."""
    there = np.isfinite(y)
    if there.sum() < 3:
        return 0.0
    x = x[there] - x[there].mean()
    return float((x * y[there]).sum() / (x**2).sum())


def _row(told: dict[str, Floats] | None, config: Config) -> Dense | Refusal:
    if told is None:
        return Refusal("no_signal", f"None of {', '.join(config.signals)} was sensed.")
    none = np.zeros(len(STATISTICS))
    return np.concatenate([told.get(signal, none) for signal in config.signals]).astype(np.float32)
