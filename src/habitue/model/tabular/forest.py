"""Random forest (Breiman 2001): many deep trees, each on rows drawn with replacement and few columns a split."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor

from habitue.core.metrics import Floats
from habitue.core.runtime import Runtime
from habitue.core.settings import tuned
from habitue.model.tabular import linear, narrow
from habitue.model.tabular.table import Clock, Table, Target

KINDS = frozenset({"binary", "classes", "number"})
AT_ONCE = 50  # trees between two looks at the clock


@dataclass(frozen=True)
class Config:
    """How many trees and how they grow."""

    trees: int = tuned(300, 50, 1000, log=True)
    rows_in_leaf: int = tuned(4, 1, 50, log=True)
    columns: float = tuned(0.35, 0.05, 1.0)  # share of the columns looked at in a split


@dataclass(frozen=True)
class State:
    """The fitted preparation and the forest."""

    narrow: narrow.State
    model: Any
    target: Target


def fit(table: Table, target: Target, config: Config, *, runtime: Runtime, clock: Clock) -> State:
    """Grow; O(trees x columns x rows (log rows)^2). Stops after the trees it has when the time is up."""
    prepared, rows = narrow.fit(table, target, runtime=runtime)
    kind = RandomForestRegressor if target.kind == "number" else RandomForestClassifier
    model = kind(
        n_estimators=0,
        min_samples_leaf=min(config.rows_in_leaf, max(1, target.values.size // 10)),
        max_features=config.columns,
        warm_start=True,
        n_jobs=runtime.threads,
        random_state=runtime.seed,
    )
    values = target.values if target.kind == "number" else target.compact()
    while model.n_estimators < config.trees and not (model.n_estimators and clock.over):
        model.n_estimators = min(model.n_estimators + AT_ONCE, config.trees)
        model.fit(rows, values)
    return State(prepared, model, target)


def answer(state: State, table: Table) -> Floats:
    """Return shares [N, classes], or numbers [N]."""
    rows = narrow.design(state.narrow, table)
    if state.target.kind == "number":
        return np.asarray(state.model.predict(rows), dtype=np.float64)
    return state.target.spread(np.asarray(state.model.predict_proba(rows), dtype=np.float64))


def importance(state: State) -> pl.DataFrame:
    """Return the share of the impurity each column takes away, averaged over trees."""
    return linear.shares(state.narrow.sources, state.model.feature_importances_)
