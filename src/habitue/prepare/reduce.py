"""Many numbers as few: the directions of most variance (PCA), or those that set the classes apart (LDA)."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl

from habitue.core.errors import SettingsError, UsageError, did_you_mean
from habitue.core.metrics import Floats
from habitue.prepare import scale
from habitue.prepare.leakage import check_times
from habitue.prepare.numbers import known, numbers, present

METHODS = ("pca", "lda")


@dataclass(frozen=True)
class Config:
    """Which directions, and how many."""

    method: str = "pca"
    count: int | None = None  # directions; None = pca: as many as hold `variance`; lda: classes - 1
    variance: float = 0.95
    keep: bool = False  # the columns they were made from stay beside them


@dataclass(frozen=True)
class State:
    """What was learnt."""

    config: Config
    scaled: scale.State
    directions: Floats  # [C, D]
    names: tuple[str, ...]  # pc1, pc2, ... or ld1, ...


def fit(
    rows: pl.DataFrame,
    config: Config | None = None,
    *,
    classes: npt.ArrayLike | None = None,
    until: dt.datetime | None = None,
) -> State:
    """Learn directions in the Float64 columns of `rows`, each column scaled to mean 0 and deviation 1 first.

    pca: Hotelling 1933, by singular values. lda: Fisher 1936 for two classes, Rao 1948 for more, with the shrinkage of
    Ledoit and Wolf 2004; `classes` [N] are those of `rows`. Signs are fixed: the largest entry of a direction is
    positive. O(rows x columns^2). `until`: raise LeakageError when a moment in `rows` is not strictly before it.
    Raises SettingsError, and UsageError for an unknown value, no column, and lda without two classes.
    """
    config = config or Config()
    if config.method not in METHODS:
        raise SettingsError(
            "prepare.reduce",
            found=f"there is no method '{config.method}'",
            consequence="No direction can be found",
            remedy=did_you_mean(config.method, METHODS),
        )
    if until is not None:
        check_times(rows, as_of=until)
    names = numbers(rows)
    if not names or rows.height < 2:
        raise _too_little(f"{len(names)} columns of numbers in {rows.height} rows", "Give two rows and a number")
    known(rows, names, at="prepare.reduce")
    scaled = scale.fit(rows)
    table = known(scale.apply(scaled, rows), names, at="prepare.reduce")
    found = _pca(table, config) if config.method == "pca" else _lda(table, classes, config)
    largest = np.abs(found).argmax(axis=0)
    found = found * np.where(found[largest, np.arange(found.shape[1])] < 0, -1.0, 1.0)
    short = "pc" if config.method == "pca" else "ld"
    return State(config, scaled, found, tuple(f"{short}{i + 1}" for i in range(found.shape[1])))


def apply(state: State, rows: pl.DataFrame) -> pl.DataFrame:
    """Return `rows` with the directions in the place of their columns. Raises UsageError for an unknown value."""
    columns = state.scaled.columns
    present(rows, columns, at="prepare.reduce")
    told = known(scale.apply(state.scaled, rows), columns, at="prepare.reduce") @ state.directions
    kept = rows if state.config.keep else rows.drop(columns)
    return kept.hstack([pl.Series(name, np.ascontiguousarray(told[:, i])) for i, name in enumerate(state.names)])


def _pca(table: Floats, config: Config) -> Floats:
    _, singular, rows = np.linalg.svd(table - table.mean(axis=0), full_matrices=False)
    variance = singular**2
    if config.count is not None:
        count = min(max(config.count, 1), len(variance))
    else:
        held = np.cumsum(variance) / variance.sum() if variance.sum() > 0 else np.ones(len(variance))
        count = int(np.searchsorted(held, min(config.variance, 1.0) - 1e-12)) + 1
    return np.asarray(rows[:count].T)


def _lda(table: Floats, classes: npt.ArrayLike | None, config: Config) -> Floats:
    from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

    told = np.zeros(0) if classes is None else np.asarray(classes)
    if told.size != len(table) or np.unique(told).size < 2:
        found = "no classes" if classes is None else f"{np.unique(told).size} class for {len(table):,} rows"
        raise _too_little(found, "Give a class to every row, two at least, or use pca")
    model = LinearDiscriminantAnalysis(solver="eigen", shrinkage="auto").fit(table, told)
    most = min(np.unique(told).size - 1, table.shape[1])
    return np.asarray(model.scalings_[:, : min(config.count or most, most)])


def _too_little(found: str, remedy: str) -> UsageError:
    return UsageError("prepare.reduce", found=found, consequence="There is no direction to find", remedy=remedy)
