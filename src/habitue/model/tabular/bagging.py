"""Bagging (Breiman 1996): one model fitted on rows drawn with replacement, again and again, the answers averaged."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import polars as pl

from habitue.core.metrics import Floats
from habitue.core.runtime import Runtime
from habitue.core.settings import tuned
from habitue.model.tabular import members
from habitue.model.tabular.table import Clock, Table, Target

KINDS = frozenset({"binary", "classes", "number"})


@dataclass(frozen=True)
class Config:
    """Which model, how often."""

    member: str = tuned("boosting", values=("boosting", "tree", "linear", "svm"))
    times: int = tuned(8, 2, 50)
    rows: float = tuned(1.0, 0.3, 1.0)  # rows drawn for one, as a share of all


@dataclass(frozen=True)
class State:
    """The members that were fitted."""

    name: str
    fitted: tuple[Any, ...]


def fit(table: Table, target: Target, config: Config, *, runtime: Runtime, clock: Clock) -> State:
    """Fit `times` members, fewer when the time is up; every class stays in every draw.

    A drawn row may stand on both sides of a member's inner split, so copies of a row are one group there.
    """
    model = members.load(config.member)
    rng = np.random.default_rng(runtime.seed)
    first = np.unique(target.values, return_index=True)[1] if target.kind != "number" else np.zeros(0, dtype=np.int64)
    fitted: list[Any] = []
    for i in range(config.times):
        if fitted and clock.over:
            break
        rows = np.r_[first, rng.integers(table.height, size=int(np.ceil(config.rows * table.height)))]
        drawn = table.take(rows)
        if table.group is None:
            drawn = replace(drawn, group=rows)
        inner = replace(runtime, seed=runtime.seed + 1 + i)
        fitted.append(model.fit(drawn, target.take(rows), model.Config(), runtime=inner, clock=clock))
    return State(config.member, tuple(fitted))


def answer(state: State, table: Table) -> Floats:
    """Return the mean of the members' answers."""
    model = members.load(state.name)
    said: Floats = np.mean([model.answer(one, table) for one in state.fitted], axis=0)
    return said


def importance(state: State) -> pl.DataFrame:
    """Return the mean of the members' importance."""
    model = members.load(state.name)
    return members.mean_importance([(1.0, model.importance(one)) for one in state.fitted])
