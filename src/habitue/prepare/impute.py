"""Unknown numbers filled with what was known before: a constant, mean, median, a line in time, or a model.

    state = fit(rows, Config("median"), until=cut)     learns from these rows and no others
    rows  = apply(state, rows)                         any rows; nothing is learnt from them

Null, NaN and infinity are unknown. Columns that are not Float64 pass as they are.
"""

from __future__ import annotations

import datetime as dt
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import polars as pl

from habitue.core.errors import LeakageError, SettingsError, did_you_mean
from habitue.core.metrics import Floats, Ints
from habitue.prepare.leakage import check_times
from habitue.prepare.numbers import matrix, numbers, present, put, seconds

METHODS = ("constant", "mean", "median", "interpolate", "model")
FLAG = " is unknown"
ROUNDS = 10  # of the model: each column from all others, in turn

Series = dict[Any, tuple[Floats, Floats]]  # group -> times, values


@dataclass(frozen=True)
class Config:
    """How the unknown is filled."""

    method: str = "median"
    value: float = 0.0  # of `constant`, and of a column that is unknown in every row it is fitted on
    flags: bool = True  # say in a column of its own where a value was unknown, when any was while fitting
    time: str | None = None  # interpolate: the column of moments
    group: str | None = None  # interpolate: whose series it is; None = one series
    seed: int = 0  # model


@dataclass(frozen=True)
class Chain:
    """Linear models in the order in which they are asked; what they need is filled by `start` at first."""

    start: Floats  # [C]
    columns: Ints  # [M] the column each model fills
    weights: Floats  # [M, C], 0 for that column itself
    intercepts: Floats  # [M]


@dataclass(frozen=True)
class State:
    """What was learnt."""

    config: Config
    columns: tuple[str, ...]
    values: Floats  # [C] what fills each column where nothing better is known
    flagged: tuple[str, ...]
    series: Mapping[str, Series] = field(default_factory=dict)  # interpolate: by column
    model: Chain | None = None


def fit(rows: pl.DataFrame, config: Config | None = None, *, until: dt.datetime | None = None) -> State:
    """Learn from `rows` what fills their Float64 columns; O(rows x columns), the model's O(rounds x rows x columns^3).

    `until`: raise LeakageError when a moment in `rows` is not strictly before it. `model` is iterative imputation by
    Bayesian ridge regression (van Buuren and Groothuis-Oudshoorn 2011, "mice"; scikit-learn's IterativeImputer).
    Raises SettingsError for a method that is not there; LeakageError for interpolation between rows with `as_of`.
    """
    config = config or Config()
    _check(rows, config)
    if until is not None:
        check_times(rows, as_of=until)
    names = numbers(rows)
    table = matrix(rows, names)
    middle = np.nanmedian if config.method in ("median", "interpolate") else np.nanmean
    values = np.full(len(names), config.value)
    if config.method != "constant":
        for i in np.flatnonzero(np.isfinite(table).any(axis=0)):
            values[i] = middle(table[:, i])
    unknown = tuple(name for i, name in enumerate(names) if np.isnan(table[:, i]).any())
    state = State(config, names, values, unknown if config.flags else ())
    if config.method == "interpolate":
        return State(config, names, values, state.flagged, _series(rows, table, names, config))
    if config.method == "model" and len(names) > 1 and rows.height:
        return State(config, names, values, state.flagged, model=_model(table, values, config))
    return state


def apply(state: State, rows: pl.DataFrame) -> pl.DataFrame:
    """Return `rows` without an unknown number, with a column `<name> is unknown` (0 or 1) for each flagged one."""
    present(rows, state.columns, at="prepare.impute")
    table = matrix(rows, state.columns)
    unknown = np.isnan(table)
    if state.model is not None:
        filled = _asked(state.model, table)
    elif state.config.method == "interpolate":
        filled = _between(state, rows, table)
    else:
        filled = table
    filled = np.where(unknown, np.where(np.isfinite(filled), filled, state.values), table)
    flags = {f"{name}{FLAG}": unknown[:, state.columns.index(name)].astype(np.float64) for name in state.flagged}
    return put(rows, dict(zip(state.columns, filled.T, strict=True)) | flags)


def _check(rows: pl.DataFrame, config: Config) -> None:
    if config.method not in METHODS:
        raise SettingsError(
            "prepare.impute",
            found=f"there is no method '{config.method}'",
            consequence="Unknown values would stay",
            remedy=did_you_mean(config.method, METHODS),
        )
    if config.method != "interpolate":
        return
    if config.time is None:
        raise SettingsError(
            "prepare.impute",
            found="interpolate has no time",
            consequence="Nobody knows which row is before which",
            remedy="Name the column of moments: time = ...",
        )
    present(rows, (config.time, *([config.group] if config.group else [])), at="prepare.impute")
    if config.time == "as_of":
        raise LeakageError(
            "column 'as_of'",
            found="each row is the moment of a forecast of its own, and interpolation reads the row after it",
            consequence="Every forecast tested with it would look better than it is",
            remedy="Interpolate the series the rows are made from, before the cut, or use median",
        )


def _series(rows: pl.DataFrame, table: Floats, names: tuple[str, ...], config: Config) -> dict[str, Series]:
    """Return the known values of each group in time, by column; values of one moment are averaged."""
    assert config.time is not None
    group = rows[config.group] if config.group else pl.Series("group", [0] * rows.height, dtype=pl.Int64)
    frame = pl.DataFrame({"group": group, "time": seconds(rows[config.time])})
    found: dict[str, Series] = {}
    for i, name in enumerate(names):
        known = frame.with_columns(value=pl.Series(table[:, i])).filter(
            pl.col("value").is_finite(), pl.col("time").is_not_nan()
        )
        means = known.group_by("group", "time").agg(pl.col("value").mean()).sort("group", "time")
        parts = means.partition_by("group", as_dict=True, include_key=False) if means.height else {}
        found[name] = {key: (part["time"].to_numpy(), part["value"].to_numpy()) for (key,), part in parts.items()}
    return found


def _between(state: State, rows: pl.DataFrame, table: Floats) -> Floats:
    """Return the line between the fitted values beside each moment; after the last (before the first) that value."""
    assert state.config.time is not None
    present(rows, (state.config.time, *([state.config.group] if state.config.group else [])), at="prepare.impute")
    times = seconds(rows[state.config.time]).to_numpy()
    group = rows[state.config.group].to_list() if state.config.group else [0] * rows.height
    places: dict[Any, list[int]] = {}
    for place, key in enumerate(group):
        places.setdefault(key, []).append(place)
    filled = table.copy()
    for i, name in enumerate(state.columns):
        for key, at in places.items():
            if key in state.series[name]:
                filled[at, i] = np.interp(times[at], *state.series[name][key])
    return filled


def _model(table: Floats, values: Floats, config: Config) -> Chain:
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.experimental import enable_iterative_imputer  # noqa: F401
    from sklearn.impute import IterativeImputer

    known = np.where(np.isfinite(table).any(axis=0), table, values)
    middle, spread = np.nanmean(known, axis=0), np.nanstd(known, axis=0)
    spread = np.where(spread > 0, spread, 1.0)  # Bayesian ridge finds nothing in a column of tens of thousands
    model = IterativeImputer(max_iter=ROUNDS, random_state=config.seed, keep_empty_features=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # the number of rounds is a setting here
        model.fit((known - middle) / spread)
    asked = model.imputation_sequence_
    columns = np.array([one.feat_idx for one in asked], dtype=np.int64)
    weights, intercepts = np.zeros((len(asked), table.shape[1])), np.zeros(len(asked))
    for i, one in enumerate(asked):
        weights[i, one.neighbor_feat_idx] = one.estimator.coef_ * spread[columns[i]] / spread[one.neighbor_feat_idx]
        intercepts[i] = middle[columns[i]] + spread[columns[i]] * one.estimator.intercept_ - weights[i] @ middle
    return Chain(middle, columns, weights, intercepts)


def _asked(chain: Chain, table: Floats) -> Floats:
    """Fill what is unknown by one model after the other; a row comes out the same in any company."""
    unknown = np.isnan(table)
    filled = np.where(unknown, chain.start, table)
    for column, weights, intercept in zip(chain.columns, chain.weights, chain.intercepts, strict=True):
        gaps = unknown[:, column]
        if gaps.any():
            filled[gaps, column] = (filled[gaps] * weights).sum(axis=1) + intercept
    return filled
