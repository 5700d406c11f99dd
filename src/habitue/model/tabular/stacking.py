"""Stacking (Wolpert 1992): several models, and weights that say how much each is to be heard.

The weights are found on answers from inner folds, which no member was fitted on. Shares are pooled as
p ~ prod_m p_m^(w_m), w_m >= 0, with the least log loss (Genest and Zidek 1986); numbers as a + sum_m w_m x_m, w_m >= 0,
with the least squared error (Breiman 1996, "Stacked regressions").
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from scipy.optimize import minimize, nnls
from scipy.special import log_softmax, softmax

from habitue.core.errors import ModelError
from habitue.core.metrics import Floats
from habitue.core.runtime import Runtime
from habitue.core.settings import tuned
from habitue.model.tabular import members
from habitue.model.tabular.table import Clock, Table, Target, deal

KINDS = frozenset({"binary", "classes", "number"})
LEAST = 1e-9  # share a member can give at least, so that none can forbid a class


@dataclass(frozen=True)
class Config:
    """Who is heard; a model that cannot read the table stays out."""

    members: tuple[str, ...] = ("linear", "svm", "forest", "boosting", "profile")
    folds: int = tuned(3, 2, 10)


@dataclass(frozen=True)
class State:
    """The members fitted on every row, and their weights."""

    fitted: tuple[tuple[str, Any], ...]
    weights: Floats  # [members]
    offset: float
    number: bool


def fit(table: Table, target: Target, config: Config, *, runtime: Runtime, clock: Clock) -> State:
    """Fit each member folds + 1 times; a member that the clock leaves no time for stays out, the first is always in."""
    names = members.fitting(config.members, table, target)
    if not names:
        raise ModelError(
            "tabular.stacking",
            found="none of its members can read this table",
            consequence="There is nothing to weigh",
            remedy="Name other members",
        )
    units = table.height if table.group is None else np.unique(table.group).size
    folds = min(config.folds, units)
    fold = deal(target, folds, seed=runtime.seed + 1, group=table.group)
    said: list[Floats] = []
    fitted: list[tuple[str, Any]] = []
    for name in names:
        if fitted and clock.over:
            break
        model = members.load(name)
        outside = np.zeros((table.height, len(target.classes)) if target.kind != "number" else table.height)
        for k in range(folds):
            rest, held = np.flatnonzero(fold != k), np.flatnonzero(fold == k)
            if target.kind != "number" and target.take(rest).known.size < 2:
                outside[held] = target.take(rest).spread(np.ones((held.size, 1)))
                continue
            one = model.fit(table.take(rest), target.take(rest), model.Config(), runtime=runtime, clock=clock)
            outside[held] = model.answer(one, table.take(held))
        said.append(outside)
        fitted.append((name, model.fit(table, target, model.Config(), runtime=runtime, clock=clock)))
    if target.kind == "number":
        weights, offset = _numbers(said, target.values.astype(np.float64))
        return State(tuple(fitted), weights, offset, number=True)
    return State(tuple(fitted), _shares(said, target.values.astype(np.int64)), 0.0, number=False)


def answer(state: State, table: Table) -> Floats:
    """Return the weighted pool of the members' answers."""
    said = [members.load(name).answer(one, table) for name, one in state.fitted]
    if state.number:
        return np.tensordot(state.weights, np.array(said), axes=1) + state.offset
    return np.asarray(softmax(np.tensordot(state.weights, _logs(said), axes=1), axis=1))


def importance(state: State) -> pl.DataFrame:
    """Return the weighted mean importance of the members that tell one."""
    told = [(w, members.load(name), one) for w, (name, one) in zip(state.weights, state.fitted, strict=True)]
    return members.mean_importance([(float(w), m.importance(one)) for w, m, one in told if hasattr(m, "importance")])


def _logs(said: list[Floats]) -> Floats:
    return np.log(np.maximum(np.array(said), LEAST))


def _shares(said: list[Floats], truth: np.ndarray[tuple[int], np.dtype[np.int64]]) -> Floats:
    logs, rows = _logs(said), np.arange(truth.size)

    def loss(weights: Floats) -> tuple[float, Floats]:
        pooled = log_softmax(np.tensordot(weights, logs, axes=1), axis=1)
        away = np.exp(pooled)
        away[rows, truth] -= 1
        return float(-pooled[rows, truth].mean()), np.einsum("nc,mnc->m", away, logs) / truth.size

    start = np.full(len(said), 1 / len(said))
    found = minimize(loss, start, jac=True, method="L-BFGS-B", bounds=[(0, None)] * len(said))
    return np.asarray(found.x if found.x.sum() > 0 else start, dtype=np.float64)


def _numbers(said: list[Floats], truth: Floats) -> tuple[Floats, float]:
    middles = np.array([one.mean() for one in said])
    weights, _ = nnls(np.column_stack(said) - middles, truth - truth.mean())
    return weights, float(truth.mean() - weights @ middles)
