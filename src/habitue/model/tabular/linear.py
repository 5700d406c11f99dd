"""Logistic and ridge regression on the wide table, with L1, L2 or both as regularisation (elastic net).

Logistic: min over b of sum log loss + (1 / C) (share |b|_1 + (1 - share)/2 |b|_2^2), scales fitted inside (Zou and
Hastie 2005). Many classes times many columns are answered one class against the rest, the shares brought to sum 1.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
import scipy.sparse as sp
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import ElasticNet, LogisticRegression, Ridge
from sklearn.multiclass import OneVsRestClassifier

from habitue.core.metrics import Floats, Ints
from habitue.core.runtime import Runtime
from habitue.core.settings import tuned
from habitue.model.tabular import wide
from habitue.model.tabular.table import Clock, Table, Target

KINDS = frozenset({"binary", "classes", "number"})
JOINT = 1_000_000  # coefficients up to which all classes are fitted together: L-BFGS keeps 20 copies of them
STEPS = 300
DUAL_STEPS = 50  # of coordinate descent, where one class against the rest is fitted many times


@dataclass(frozen=True)
class Config:
    """How strongly, and in which manner, coefficients are held small."""

    strength: float = tuned(1.0, 0.01, 100.0, log=True)  # 1 / C of the formula above; of a number: lambda of ridge
    l1_share: float = tuned(0.0, 0.0, 1.0)  # 0 = ridge (L2), 1 = lasso (L1)


@dataclass(frozen=True)
class State:
    """The fitted preparation and the coefficients; the target's scale for a number."""

    wide: wide.State
    model: Any
    target: Target
    middle: float = 0.0
    spread: float = 1.0


def fit(table: Table, target: Target, config: Config, *, runtime: Runtime, clock: Clock) -> State:  # noqa: ARG001
    """Fit; O(steps x non-zero cells x classes)."""
    prepared = wide.fit(table)
    rows = wide.design(prepared, table)
    if target.kind == "number":
        middle, spread = float(target.values.mean()), float(target.values.std()) or 1.0
        model = _number(rows, (target.values - middle) / spread, config, runtime.seed)
        return State(prepared, model, target, middle, spread)
    return State(prepared, logistic(rows, target.compact(), config, seed=runtime.seed), target)


def answer(state: State, table: Table) -> Floats:
    """Return shares [N, classes], or numbers [N]."""
    rows = wide.design(state.wide, table)
    if state.target.kind == "number":
        return np.asarray(state.model.predict(rows) * state.spread + state.middle, dtype=np.float64)
    return state.target.spread(np.asarray(state.model.predict_proba(rows), dtype=np.float64))


def importance(state: State) -> pl.DataFrame:
    """Return the root of the summed squares of each column's coefficients, as shares."""
    parts = getattr(state.model, "estimators_", None) or [state.model]
    squares = sum((np.atleast_2d(part.coef_) ** 2).sum(axis=0) for part in parts)
    return shares(state.wide.sources, np.asarray(squares), root=True)


def shares(sources: tuple[str, ...], values: Floats, *, root: bool = False) -> pl.DataFrame:
    """Sum values by column of the table; return column, importance (shares, largest first)."""
    summed = pl.DataFrame({"column": list(sources), "importance": values}, schema_overrides={"column": pl.String})
    summed = summed.group_by("column", maintain_order=True).agg(pl.col("importance").sum())
    if root:
        summed = summed.with_columns(pl.col("importance").sqrt())
    total = float(summed["importance"].sum())
    return summed.with_columns(pl.col("importance") / (total or 1.0)).sort("importance", descending=True)


def logistic(rows: Floats | sp.csr_matrix, classes: Ints, config: Config, *, seed: int) -> Any:
    """Fit logistic regression of classes numbered from 0 without gaps; sparse or dense rows."""
    count = int(classes.max()) + 1
    settings = {"C": 1 / config.strength, "random_state": seed, "l1_ratio": config.l1_share}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # a step limit is a setting here, not a mistake
        if 0 < config.l1_share < 1:
            return LogisticRegression(solver="saga", max_iter=STEPS, **settings).fit(rows, classes)
        binary = LogisticRegression(solver="liblinear", max_iter=STEPS, **settings)
        if count == 2:
            return binary.fit(rows, classes)
        if count * rows.shape[1] > JOINT or config.l1_share > 0:
            dual = {"dual": True, "max_iter": DUAL_STEPS, "tol": 0.01} if config.l1_share == 0 else {"max_iter": STEPS}
            one = LogisticRegression(solver="liblinear", **dual, **settings)
            return OneVsRestClassifier(one).fit(rows, classes)
        return LogisticRegression(solver="lbfgs", max_iter=STEPS, tol=1e-3, **settings).fit(rows, classes)


def _number(rows: Floats | sp.csr_matrix, values: Floats, config: Config, seed: int) -> Any:
    if config.l1_share == 0:
        return Ridge(alpha=config.strength, solver="lsqr" if sp.issparse(rows) else "auto").fit(rows, values)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        net = ElasticNet(alpha=config.strength / values.size, l1_ratio=config.l1_share, random_state=seed)
        return net.fit(rows, values)
