"""Gradient-boosted trees on the declared features: who orders no more, and what each will spend (LightGBM).

Two boosters: churn by log loss; value by the Tweedie deviance (Jorgensen, 1987; variance = mean ^ power), whose mean
is the expected money with its many zeros, so that forecasts add up. The number of trees is found on the latest moment
of training, against trees that were grown on moments whose horizon had closed by then; the trees kept are grown on
every moment. Each is the mean of a few boosters that draw other rows and features: what one of them found by chance
the others did not (bagging; Breiman, 1996).

`prepare` puts preparations of the features before them, learnt from the rows that the trees are grown on. Where they
balance the classes, the chances are brought back to the share of all rows: their log odds less what balancing added
(King and Zeng 2001, eq. 7).
"""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from typing import Any

import lightgbm as lgb
import numpy as np
import numpy.typing as npt
import polars as pl
from scipy.special import expit, logit

from habitue.core.errors import ModelError, SettingsError
from habitue.core.runtime import Runtime
from habitue.core.schemas import FEATURES
from habitue.core.settings import check_range
from habitue.model.past import Past
from habitue.prepare import impute, recipe

ANSWERS = frozenset({"churn", "value"})
KEYS = ("user_key", "as_of")

LABEL = "label:"

Doubles = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Config:
    """Settings, picked on Online Retail with the last 92 days before the cut as validation."""

    leaves: int = 4
    rows_in_leaf: int = 40
    learning_rate: float = 0.03
    columns: float = 0.15  # share of the features each tree may look at
    rows: float = 0.8  # share of the rows each tree is grown on
    ridge: float = 5.0
    most_trees: int = 600
    usual_trees: int = 120  # when no moment is left to find the number on
    patience: int = 60  # trees without gain before the search for their number stops
    tweedie_power: float = 1.5
    least_rows: int = 50
    boosters: int = 5  # whose mean is taken
    prepare: str = ""  # of the features, e.g. "impute=median,outliers=winsorise" (prepare/recipe.py); "" = as they are

    def __post_init__(self) -> None:
        """Refuse numbers that grow no tree, and preparations that are not there. Raises SettingsError."""
        positive = ("learning_rate", "columns", "rows", "most_trees", "usual_trees", "patience", "boosters")
        check_range(self, positive=positive, not_negative=("rows_in_leaf", "ridge"), share=("columns", "rows"))
        if self.leaves < 2 or not 1 <= self.tweedie_power < 2:
            raise SettingsError(
                "model.trees, settings 'leaves' and 'tweedie_power'",
                found=f"{self.leaves} leaves, a power of {self.tweedie_power:g}",
                consequence="No tree can be grown so",
                remedy="Write 2 leaves or more, and a power from 1 to below 2",
            )
        asked = recipe.parse(self.prepare)
        if asked.generate is not None:
            raise SettingsError(
                "model.trees, setting 'prepare'",
                found="generate",
                consequence="The trees are grown on real rows, and an invented one would be of no moment",
                remedy="Write balance=over to hear more of the rarer answer",
            )
        if asked.impute == impute.Config("interpolate"):
            raise SettingsError(
                "model.trees, setting 'prepare'",
                found="interpolate",
                consequence="Each row is the moment of a forecast of its own, and interpolation reads the row after it",
                remedy="Fill gaps by constant, mean, median or model",
            )


@dataclass(frozen=True)
class State:
    """The boosters as LightGBM's own text, and what they read."""

    features: tuple[str, ...]
    churn: tuple[str, ...]
    value: tuple[str, ...]  # () where nobody had spent anything: nothing is foretold to be spent
    prepared: recipe.State | None = None  # what is done to `features` first; None = nothing
    shift: float = 0.0  # log odds of churn that balancing added


def fit(past: Past, config: Config, *, runtime: Runtime) -> State:
    """Grow the boosters; O(boosters x trees x rows x features). Raises ModelError for too few labelled rows."""
    # A feature may be called what a label is called ("orders"): labels get names of their own.
    labels = past.train_labels.rename({c: LABEL + c for c in past.train_labels.columns if c not in KEYS})
    table = past.train_features.join(labels, on=KEYS, how="inner", maintain_order="left")
    if table.height < config.least_rows:
        raise ModelError(
            "model.trees",
            found=f"{table.height:,} labelled rows at moments whose {past.horizon_days} days had passed",
            consequence="No tree can be grown",
            remedy="Give a longer ledger or a shorter horizon, or lower 'least_rows' of model.trees",
        )
    table = table.sort(*KEYS)
    names = tuple(c for c in past.train_features.columns if c not in FEATURES.schema)
    common = {
        "num_leaves": config.leaves,
        "min_data_in_leaf": config.rows_in_leaf,
        "learning_rate": config.learning_rate,
        "feature_fraction": config.columns,
        "bagging_fraction": config.rows,
        "bagging_freq": 1,
        "lambda_l2": config.ridge,
        "num_threads": runtime.threads,
        "seed": runtime.seed,
        "deterministic": True,
        "force_row_wise": True,
        "verbosity": -1,
    }
    every = _lessons(table, names, config, until=past.as_of)
    before, late = _rehearsal(table, names, config)
    tweedie = {**common, "objective": "tweedie", "tweedie_variance_power": config.tweedie_power}
    return State(
        features=names,
        churn=_grow(every, before, late, "churned", {**common, "objective": "binary"}, config),
        value=_grow(every, before, late, "money", tweedie, config) if every.answers["money"].any() else (),
        prepared=every.prepared and recipe.answering(every.prepared),
        shift=every.shift,
    )


def predict(state: State, past: Past) -> pl.DataFrame:
    """Return user_key, churn (probability) and value (money >= 0), one row a user of `past.histories`.

    A user without a row in `past.features`, and a feature the table lacks, are unknown to the trees, not zero.
    """
    users = pl.DataFrame({"user_key": past.histories.user_keys})
    asked = users.join(past.features, on="user_key", how="left", maintain_order="left")
    asked = asked.with_columns(
        pl.lit(None, dtype=pl.Float64).alias(name) for name in state.features if name not in asked.columns
    )
    rows, _ = _ready(state.prepared, asked, state.features)
    churn, value = (
        sum((np.asarray(lgb.Booster(model_str=text).predict(rows)) for text in texts), np.zeros(len(rows)))
        / max(len(texts), 1)
        for texts in (state.churn, state.value)
    )
    if state.shift:
        churn = expit(logit(churn) - state.shift)
    return users.with_columns(churn=churn, value=value)


@dataclass(frozen=True)
class _Lessons:
    """Rows as the trees see them, and their answers."""

    names: tuple[str, ...]  # [F] the features after what was done to them
    rows: Doubles  # [N, F]
    answers: dict[str, Doubles]  # "churned" (0, 1), "money" (>= 0): [N]
    places: dict[str, Ints]  # which rows to learn that answer from; after balancing, those of churn alone
    shift: float = 0.0  # log odds of churn that balancing added
    prepared: recipe.State | None = None


def _lessons(table: pl.DataFrame, names: tuple[str, ...], config: Config, *, until: dt.datetime) -> _Lessons:
    """Learn the preparations from `table`, all of it before `until`, and do them."""
    churned = table[LABEL + "churned"].to_numpy().astype(np.float64)
    answers = {"churned": churned, "money": np.maximum(table[LABEL + "value"].to_numpy(), 0)}
    prepared, kept = None, np.arange(table.height)
    balanced = kept
    if config.prepare:
        told = table.select("as_of", *names)
        prepared = recipe.fit(told, recipe.parse(config.prepare), classes=churned, until=until)
        kept, balanced = (recipe.learnt_from(prepared, told, classes) for classes in (None, churned))
    rows, seen = _ready(prepared, table, names)
    shift = (
        0.0 if np.array_equal(kept, balanced) else float(logit(churned[balanced].mean()) - logit(churned[kept].mean()))
    )
    return _Lessons(seen, rows, answers, {"churned": balanced, "money": kept}, shift, prepared)


def _rehearsal(table: pl.DataFrame, names: tuple[str, ...], config: Config) -> tuple[_Lessons | None, _Lessons | None]:
    """Return the rows whose horizon had closed by the latest moment, and those of that moment; none when too few."""
    latest = table["as_of"].max()
    assert isinstance(latest, dt.datetime)
    early = table.filter(pl.col(LABEL + "horizon_end") <= latest)
    late = table.filter(pl.col("as_of") == latest)
    alike = config.prepare and early[LABEL + "churned"].n_unique() < 2  # LDA and balancing need both
    if min(early.height, late.height) < config.least_rows or alike:
        return None, None
    before = _lessons(early, names, config, until=latest)
    rows, seen = _ready(before.prepared, late, names)
    churned = late[LABEL + "churned"].to_numpy().astype(np.float64)
    return before, _Lessons(
        seen, rows, {"churned": churned, "money": np.maximum(late[LABEL + "value"].to_numpy(), 0)}, {}
    )


def _grow(
    every: _Lessons,
    before: _Lessons | None,
    late: _Lessons | None,
    answer: str,
    settings: dict[str, Any],
    config: Config,
) -> tuple[str, ...]:
    """Find the number of trees on the latest moment, then grow that many on every row; return the boosters' texts."""
    grown = []
    for turn in range(config.boosters):
        drawn = {**settings, "seed": settings["seed"] * config.boosters + turn}
        trees = config.usual_trees
        if before is not None and late is not None and np.ptp(before.answers[answer]) > 0:
            seen = _dataset(before, answer)
            balanced = answer == "churned" and before.shift
            start = np.full(len(late.rows), -before.shift) if balanced else None  # the late rows are not balanced
            found = lgb.train(
                drawn,
                seen,
                config.most_trees,
                valid_sets=[lgb.Dataset(late.rows, late.answers[answer], reference=seen, init_score=start)],
                callbacks=[lgb.early_stopping(config.patience, verbose=False)],
            )
            trees = max(found.best_iteration, 1)
        booster = lgb.train(drawn, _dataset(every, answer), trees)
        grown.append(str(booster.model_to_string()))
    return tuple(grown)


def _dataset(lessons: _Lessons, answer: str) -> Any:
    places = lessons.places[answer]
    return lgb.Dataset(lessons.rows[places], lessons.answers[answer][places], feature_name=list(lessons.names))


def _ready(
    prepared: recipe.State | None, table: pl.DataFrame, names: tuple[str, ...]
) -> tuple[Doubles, tuple[str, ...]]:
    """Return the features after what was learnt to be done to them [rows, F], and their names."""
    features = table.select(names)
    if prepared is not None:
        features = recipe.apply(prepared, features)
    return _matrix(features, tuple(features.columns)), tuple(features.columns)


def _matrix(table: pl.DataFrame, names: tuple[str, ...]) -> Doubles:
    """Return [rows, features] with NaN for what is unknown."""
    return table.select(pl.col(name).fill_null(float("nan")) for name in names).to_numpy()
