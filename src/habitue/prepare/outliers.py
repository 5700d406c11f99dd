"""Numbers that lie far out: drawn in to what was usual before, or their rows left out of what is learnt from.

`apply` draws in and drops nothing, since every row must be answered; `kept` says which rows to learn from.
"""

from __future__ import annotations

import datetime as dt
import warnings
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import polars as pl

from habitue.core.errors import SettingsError, did_you_mean
from habitue.core.metrics import Floats
from habitue.prepare.leakage import check_times
from habitue.prepare.numbers import matrix, numbers, present, put

METHODS = ("winsorise", "iqr", "isolation")


@dataclass(frozen=True)
class Config:
    """What counts as far out."""

    method: str = "winsorise"
    share: float = 0.01  # winsorise: this share of the known values at either end is drawn in
    fences: float = 1.5  # iqr: so many interquartile ranges beyond the quartiles
    rows: float = 0.02  # isolation: this share of the rows fitted on is left out
    seed: int = 0  # isolation


@dataclass(frozen=True)
class State:
    """What was learnt."""

    config: Config
    columns: tuple[str, ...]
    low: Floats  # [C]
    high: Floats
    forest: Any = None
    middle: Floats = field(default_factory=lambda: np.zeros(0))  # [C] stands for the unknown in the forest


def fit(rows: pl.DataFrame, config: Config | None = None, *, until: dt.datetime | None = None) -> State:
    """Learn where far out begins in each Float64 column of `rows`; O(rows log rows x columns).

    winsorise: quantiles `share` and 1 - `share` (Dixon 1960). iqr: Q1 - k IQR and Q3 + k IQR (Tukey 1977). isolation:
    whole rows, by how few random cuts set them apart (Liu, Ting and Zhou 2008; scikit-learn's IsolationForest).
    `until`: raise LeakageError when a moment in `rows` is not strictly before it. Raises SettingsError.
    """
    config = config or Config()
    _check(config)
    if until is not None:
        check_times(rows, as_of=until)
    names = numbers(rows)
    table = matrix(rows, names)
    low, high = np.full(len(names), -np.inf), np.full(len(names), np.inf)
    for i in np.flatnonzero(np.isfinite(table).any(axis=0)):
        values = table[:, i][np.isfinite(table[:, i])]
        if config.method == "winsorise":
            low[i], high[i] = np.quantile(values, [config.share, 1 - config.share])
        elif config.method == "iqr":
            first, third = np.quantile(values, [0.25, 0.75])
            low[i], high[i] = first - config.fences * (third - first), third + config.fences * (third - first)
    if config.method != "isolation" or not names or rows.height < 2:
        return State(config, names, low, high)
    from sklearn.ensemble import IsolationForest

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # the median of a column that is never known
        middle = np.nan_to_num(np.nanmedian(table, axis=0))
    forest = IsolationForest(contamination=config.rows, random_state=config.seed)
    return State(config, names, low, high, forest.fit(np.where(np.isnan(table), middle, table)), middle)


def apply(state: State, rows: pl.DataFrame) -> pl.DataFrame:
    """Return `rows` with every number drawn in to the fitted ends; unknown values stay unknown."""
    present(rows, state.columns, at="prepare.outliers")
    table = np.clip(matrix(rows, state.columns), state.low, state.high)
    return put(rows, dict(zip(state.columns, table.T, strict=True)))


def kept(state: State, rows: pl.DataFrame) -> pl.Series:
    """Say of each row whether it should be learnt from (bool); all of them unless the method is isolation."""
    present(rows, state.columns, at="prepare.outliers")
    if state.forest is None or not rows.height:
        return pl.Series("kept", [True] * rows.height, dtype=pl.Boolean)
    table = matrix(rows, state.columns)
    return pl.Series("kept", state.forest.predict(np.where(np.isnan(table), state.middle, table)) == 1)


def _check(config: Config) -> None:
    if config.method not in METHODS:
        raise SettingsError(
            "prepare.outliers",
            found=f"there is no method '{config.method}'",
            consequence="What lies far out would stay",
            remedy=did_you_mean(config.method, METHODS),
        )
    if not (0 <= config.share < 0.5 and config.fences >= 0 and 0 < config.rows <= 0.5):
        raise SettingsError(
            "prepare.outliers",
            found=f"share {config.share:g}, fences {config.fences:g}, rows {config.rows:g}",
            consequence="Half of the values or more would lie far out",
            remedy="Give share and rows below .5 and fences of 0 or more",
        )
