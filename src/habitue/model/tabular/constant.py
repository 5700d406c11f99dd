"""The answer that looks at nothing: each class's share, or the mean. What every other model has to beat."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from habitue.core.metrics import Floats
from habitue.core.runtime import Runtime
from habitue.model.tabular.table import Clock, Table, Target

KINDS = frozenset({"binary", "classes", "number"})


@dataclass(frozen=True)
class Config:
    """Nothing to set."""


@dataclass(frozen=True)
class State:
    """One answer for every row."""

    said: Floats  # [classes], or [1] for a number
    number: bool


def fit(table: Table, target: Target, config: Config, *, runtime: Runtime, clock: Clock) -> State:  # noqa: ARG001
    """Count."""
    if target.kind == "number":
        return State(np.array([target.values.mean()]), number=True)
    share = np.bincount(target.compact()) / target.values.size
    return State(target.spread(share[None, :])[0], number=False)


def answer(state: State, table: Table) -> Floats:
    """Say the same of every row."""
    return np.full(table.height, state.said[0]) if state.number else np.tile(state.said, (table.height, 1))
