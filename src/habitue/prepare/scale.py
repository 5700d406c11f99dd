"""Numbers on one scale: by mean and deviation, by median and quartiles, or by rank."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass

import numpy as np
import polars as pl
from scipy.stats import norm

from habitue.core.errors import SettingsError, did_you_mean
from habitue.core.metrics import Floats
from habitue.prepare.leakage import check_times
from habitue.prepare.numbers import matrix, numbers, present, put

METHODS = ("standard", "robust", "quantile")
KNOTS = 1_000  # quantiles kept of a column
FURTHEST = 5.199  # the normal quantile of 1e-7: what lies beyond the fitted values stands there


@dataclass(frozen=True)
class Config:
    """Which scale."""

    method: str = "standard"


@dataclass(frozen=True)
class State:
    """What was learnt."""

    config: Config
    columns: tuple[str, ...]
    middle: Floats  # [C]
    spread: Floats  # [C], 1 for a column that is the same in every row
    quantiles: tuple[Floats, ...] = ()  # quantile: the fitted values of each column at equal steps of rank


def fit(rows: pl.DataFrame, config: Config | None = None, *, until: dt.datetime | None = None) -> State:
    """Learn the scale of each Float64 column of `rows`; O(rows log rows x columns).

    standard: (x - mean) / standard deviation. robust: (x - median) / (Q3 - Q1). quantile: the standard normal quantile
    of x's rank among the fitted values, between them by a line (Conover 1999, 5.10, van der Waerden's scores).
    `until`: raise LeakageError when a moment in `rows` is not strictly before it. Raises SettingsError.
    """
    config = config or Config()
    if config.method not in METHODS:
        raise SettingsError(
            "prepare.scale",
            found=f"there is no method '{config.method}'",
            consequence="Columns would stay on scales of their own",
            remedy=did_you_mean(config.method, METHODS),
        )
    if until is not None:
        check_times(rows, as_of=until)
    names = numbers(rows)
    table = matrix(rows, names)
    middle, spread, quantiles = np.zeros(len(names)), np.ones(len(names)), []
    for i in range(len(names)):
        values = table[:, i][np.isfinite(table[:, i])]
        quantiles.append(np.quantile(values, np.linspace(0, 1, KNOTS)) if values.size else np.zeros(1))
        if not values.size:
            continue
        if config.method == "standard":
            middle[i], wide = values.mean(), values.std()
        else:
            first, middle[i], third = np.quantile(values, [0.25, 0.5, 0.75])
            wide = third - first
        tiny = 1e-12 * max(abs(float(middle[i])), 1e-300)
        spread[i] = wide if wide > tiny else 1.0
    return State(config, names, middle, spread, tuple(quantiles) if config.method == "quantile" else ())


def apply(state: State, rows: pl.DataFrame) -> pl.DataFrame:
    """Return `rows` with every fitted column on its scale; unknown values stay unknown."""
    present(rows, state.columns, at="prepare.scale")
    table = matrix(rows, state.columns)
    if state.config.method == "quantile":
        scaled = np.column_stack(
            [_normal(table[:, i], state.quantiles[i]) for i in range(len(state.columns))] or [table]
        )
    else:
        scaled = (table - state.middle) / state.spread
    return put(rows, dict(zip(state.columns, scaled.T, strict=True)))


def _normal(values: Floats, quantiles: Floats) -> Floats:
    """The normal quantile of the rank of each value; a value that many rows share has the middle of its ranks."""
    if quantiles[0] == quantiles[-1]:
        return np.where(np.isnan(values), np.nan, 0.0)
    steps = np.linspace(0, 1, quantiles.size)
    up = np.interp(values, quantiles, steps)
    down = 1 - np.interp(-values, -quantiles[::-1], steps)
    return np.asarray(np.clip(norm.ppf((up + down) / 2), -FURTHEST, FURTHEST))
