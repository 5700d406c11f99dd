"""Gradient-boosted trees (LightGBM; Ke et al. 2017) with native categories; an inner split finds how many."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import lightgbm as lgb
import numpy as np
import polars as pl

from habitue.core.metrics import Floats
from habitue.core.runtime import Runtime
from habitue.core.settings import tuned
from habitue.model.tabular import linear, narrow
from habitue.model.tabular.table import Clock, Table, Target, deal

KINDS = frozenset({"binary", "classes", "number"})
INNER = 5  # one of so many parts is held back to find the number of trees
FEW = 50  # rows below which none is held back
USUAL = 100  # trees when none was


@dataclass(frozen=True)
class Config:
    """Size of the trees and of their steps."""

    leaves: int = tuned(8, 2, 64, log=True)
    rows_in_leaf: int = tuned(20, 2, 200, log=True)
    learning_rate: float = tuned(0.03, 0.01, 0.3, log=True)
    columns: float = tuned(0.5, 0.2, 1.0)
    rows: float = tuned(0.8, 0.4, 1.0)
    ridge: float = tuned(5.0, 0.01, 100.0, log=True)
    most_trees: int = 1500
    patience: int = 50


@dataclass(frozen=True)
class State:
    """The fitted preparation and the booster; `trees` it was grown to."""

    narrow: narrow.State
    model: Any
    target: Target
    trees: int


def fit(table: Table, target: Target, config: Config, *, runtime: Runtime, clock: Clock) -> State:
    """Find the number of trees, then grow so many on every row; O(trees x rows x columns x classes).

    When the time is up the trees grown so far are kept.
    """
    prepared, rows = narrow.fit(table, target, runtime=runtime)
    values = target.values if target.kind == "number" else target.compact()
    settings = _settings(target, config, runtime)
    given: dict[str, Any] = {
        "feature_name": [f"c{i}" for i in range(rows.shape[1])],
        "categorical_feature": list(prepared.native),
    }
    late = [_stop_when_over(clock)]
    trees = USUAL
    units = values.size if table.group is None else np.unique(table.group).size
    if units >= FEW:
        held = deal(target, INNER, seed=runtime.seed, group=table.group) == 0
        seen = lgb.Dataset(rows[~held], values[~held], **given)
        unseen = lgb.Dataset(rows[held], values[held], reference=seen)
        patience = lgb.early_stopping(config.patience, verbose=False)
        found = lgb.train(settings, seen, config.most_trees, valid_sets=[unseen], callbacks=[patience, *late])
        trees = max(found.best_iteration, 1)
    model = lgb.train(settings, lgb.Dataset(rows, values, **given), trees, callbacks=late)
    return State(prepared, model, target, model.current_iteration())


def answer(state: State, table: Table) -> Floats:
    """Return shares [N, classes], or numbers [N]."""
    said = np.asarray(state.model.predict(narrow.design(state.narrow, table)), dtype=np.float64)
    if state.target.kind == "number":
        return said
    return state.target.spread(np.column_stack([1 - said, said]) if said.ndim == 1 else said)


def importance(state: State) -> pl.DataFrame:
    """Return the share of the gain each column brought."""
    return linear.shares(state.narrow.sources, state.model.feature_importance("gain"))


def _settings(target: Target, config: Config, runtime: Runtime) -> dict[str, Any]:
    classes = target.known.size if target.kind != "number" else 0
    objective = {0: "regression", 1: "binary", 2: "binary"}.get(classes, "multiclass")
    return {
        "objective": objective,
        **({"num_class": classes} if classes > 2 else {}),
        "num_leaves": config.leaves,
        "min_data_in_leaf": min(config.rows_in_leaf, max(1, target.values.size // 10)),
        "learning_rate": config.learning_rate,
        "feature_fraction": config.columns,
        "bagging_fraction": config.rows,
        "bagging_freq": 1,
        "lambda_l2": config.ridge,
        "cat_smooth": 20.0,  # levels of few rows lean to the mean: 10, LightGBM's own, trusts them too much
        "max_cat_to_onehot": 4,
        "num_threads": runtime.threads,
        "seed": runtime.seed,
        "deterministic": True,
        "force_row_wise": True,
        "verbosity": -1,
    }


def _stop_when_over(clock: Clock) -> Any:
    def look(env: Any) -> None:
        if clock.over:
            raise lgb.callback.EarlyStopException(env.iteration, env.evaluation_result_list or [])

    return look
