"""Gradient-boosted trees on the declared features: who orders no more, and what each will spend (LightGBM).

Two boosters: churn by log loss; value by the Tweedie deviance (Jorgensen, 1987; variance = mean ^ power), whose mean
is the expected money with its many zeros, so that forecasts add up. The number of trees is found on the latest moment
of training, against trees that were grown on moments whose horizon had closed by then; the trees kept are grown on
every moment. Each is the mean of a few boosters that draw other rows and features: what one of them found by chance
the others did not (bagging; Breiman, 1996).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import lightgbm as lgb
import numpy as np
import numpy.typing as npt
import polars as pl

from habitue.core.errors import ModelError
from habitue.core.runtime import Runtime
from habitue.core.schemas import FEATURES
from habitue.model.past import Past

ANSWERS = frozenset({"churn", "value"})
KEYS = ("user_key", "as_of")

LABEL = "label:"

Doubles = npt.NDArray[np.float64]


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


@dataclass(frozen=True)
class State:
    """The boosters as LightGBM's own text, and what they read."""

    features: tuple[str, ...]
    churn: tuple[str, ...]
    value: tuple[str, ...]  # () where nobody had spent anything: nothing is foretold to be spent


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
    churned = table[LABEL + "churned"].to_numpy().astype(np.float64)
    money = np.maximum(table[LABEL + "value"].to_numpy(), 0)
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
    return State(
        features=names,
        churn=_grow(table, names, churned, {**common, "objective": "binary"}, config),
        value=_grow(
            table,
            names,
            money,
            {**common, "objective": "tweedie", "tweedie_variance_power": config.tweedie_power},
            config,
        )
        if money.any()
        else (),
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
    rows = _matrix(asked, state.features)
    churn, value = (
        sum((np.asarray(lgb.Booster(model_str=text).predict(rows)) for text in texts), np.zeros(len(rows)))
        / max(len(texts), 1)
        for texts in (state.churn, state.value)
    )
    return users.with_columns(churn=churn, value=value)


def _grow(
    table: pl.DataFrame, names: tuple[str, ...], target: Doubles, settings: dict[str, Any], config: Config
) -> tuple[str, ...]:
    """Find the number of trees on the latest moment, then grow that many on every row; return the boosters' texts."""
    rows = _matrix(table, names)
    latest = table["as_of"].max()
    early = (table[LABEL + "horizon_end"] <= latest).to_numpy()
    late = (table["as_of"] == latest).to_numpy()
    searched = early.sum() >= config.least_rows and late.sum() >= config.least_rows and np.ptp(target[early]) > 0
    grown = []
    for turn in range(config.boosters):
        drawn = {**settings, "seed": settings["seed"] * config.boosters + turn}
        trees = config.usual_trees
        if searched:
            seen = lgb.Dataset(rows[early], target[early], feature_name=list(names))
            found = lgb.train(
                drawn,
                seen,
                config.most_trees,
                valid_sets=[lgb.Dataset(rows[late], target[late], reference=seen)],
                callbacks=[lgb.early_stopping(config.patience, verbose=False)],
            )
            trees = max(found.best_iteration, 1)
        booster = lgb.train(drawn, lgb.Dataset(rows, target, feature_name=list(names)), trees)
        grown.append(str(booster.model_to_string()))
    return tuple(grown)


def _matrix(table: pl.DataFrame, names: tuple[str, ...]) -> Doubles:
    """Return [rows, features] with NaN for what is unknown."""
    return table.select(pl.col(name).fill_null(float("nan")) for name in names).to_numpy()
