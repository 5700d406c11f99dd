"""Linear support vector machine on the wide table (squared hinge loss, L2; Fan et al. 2008, LIBLINEAR).

An SVM gives distances, no shares. They become shares by a logistic curve (Platt 1999), or for several classes by a
softmax with one temperature, fitted inside the training rows on distances from inner folds.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
import scipy.sparse as sp
from scipy.optimize import minimize
from scipy.special import expit, log_softmax, softmax
from sklearn.exceptions import ConvergenceWarning
from sklearn.svm import LinearSVC, LinearSVR

from habitue.core.metrics import Floats, Ints
from habitue.core.runtime import Runtime
from habitue.core.settings import tuned
from habitue.model.tabular import linear, wide
from habitue.model.tabular.table import Clock, Table, Target, deal

KINDS = frozenset({"binary", "classes", "number"})
INNER = 3
STEPS = 1000


@dataclass(frozen=True)
class Config:
    """How strongly coefficients are held small."""

    strength: float = tuned(10.0, 0.1, 1000.0, log=True)  # 1 / C


@dataclass(frozen=True)
class State:
    """The fitted preparation, the machine and its curve from distance to share."""

    wide: wide.State
    model: Any
    target: Target
    slope: float = 1.0
    offset: float = 0.0
    middle: float = 0.0
    spread: float = 1.0


def fit(table: Table, target: Target, config: Config, *, runtime: Runtime, clock: Clock) -> State:  # noqa: ARG001
    """Fit INNER + 1 machines; O(steps x non-zero cells x classes) each."""
    prepared = wide.fit(table)
    rows = wide.design(prepared, table)
    if target.kind == "number":
        middle, spread = float(target.values.mean()), float(target.values.std()) or 1.0
        model = LinearSVR(
            C=1 / config.strength, loss="squared_epsilon_insensitive", dual="auto", random_state=runtime.seed
        )
        return State(prepared, _quiet(model, rows, (target.values - middle) / spread), target, 1, 0, middle, spread)
    classes = target.compact()
    slope, offset = _curve(rows, target, classes, table.group, config, runtime.seed)
    return State(prepared, _machine(rows, classes, config, runtime.seed), target, slope, offset)


def answer(state: State, table: Table) -> Floats:
    """Return shares [N, classes], or numbers [N]."""
    rows = wide.design(state.wide, table)
    if state.target.kind == "number":
        return np.asarray(state.model.predict(rows) * state.spread + state.middle, dtype=np.float64)
    distance = state.model.decision_function(rows)
    if distance.ndim == 1:
        yes = expit(state.slope * distance + state.offset)
        return state.target.spread(np.column_stack([1 - yes, yes]))
    return state.target.spread(np.asarray(softmax(state.slope * distance, axis=1), dtype=np.float64))


def importance(state: State) -> pl.DataFrame:
    """Return the root of the summed squares of each column's coefficients, as shares."""
    return linear.shares(state.wide.sources, (np.atleast_2d(state.model.coef_) ** 2).sum(axis=0), root=True)


def _machine(rows: Floats | sp.csr_matrix, classes: Ints, config: Config, seed: int) -> Any:
    return _quiet(LinearSVC(C=1 / config.strength, random_state=seed, max_iter=STEPS), rows, classes)


def _quiet(model: Any, rows: Floats | sp.csr_matrix, values: Any) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # a step limit is a setting here, not a mistake
        return model.fit(rows, values)


def _curve(
    rows: Floats | sp.csr_matrix, target: Target, classes: Ints, group: Ints | None, config: Config, seed: int
) -> tuple[float, float]:
    """Return (slope, offset) of the curve from distance to share; the offset is 0 for several classes.

    Fitted on inner folds whose other rows hold every class; (1, 0) where there is none.
    """
    folds = min(INNER, classes.size if group is None else np.unique(group).size)
    fold = deal(target, folds, seed=seed, group=group)
    count = int(classes.max()) + 1
    distances, truths = [], []
    for k in range(folds):
        rest = np.flatnonzero(fold != k)
        if np.unique(classes[rest]).size < count:
            continue
        held = np.flatnonzero(fold == k)
        distances.append(_machine(rows[rest], classes[rest], config, seed).decision_function(rows[held]))
        truths.append(classes[held])
    if not distances:
        return 1.0, 0.0
    distance, truth = np.concatenate(distances), np.concatenate(truths)
    if distance.ndim == 1:
        # Platt's targets: (n1 + 1)/(n1 + 2) and 1/(n0 + 2) in place of 1 and 0, so that no curve becomes a step
        aim = np.where(truth == 1, (truth.sum() + 1) / (truth.sum() + 2), 1 / ((truth == 0).sum() + 2))

        def loss(at: Floats) -> float:
            z = at[0] * distance + at[1]
            return float(np.mean(np.logaddexp(0, z) - aim * z))

        found = minimize(loss, np.array([1.0, 0.0]), method="L-BFGS-B", bounds=[(0, None), (None, None)])
        return float(found.x[0]), float(found.x[1])

    def loss_of_temperature(at: Floats) -> float:
        return float(-log_softmax(at[0] * distance, axis=1)[np.arange(truth.size), truth].mean())

    found = minimize(loss_of_temperature, np.array([1.0]), method="L-BFGS-B", bounds=[(1e-3, 1e3)])
    return float(found.x[0]), 0.0
