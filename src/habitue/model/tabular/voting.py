"""Soft voting: several models fitted on the same rows, their answers averaged with equal weight."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from habitue.core.metrics import Floats
from habitue.core.runtime import Runtime
from habitue.model.tabular import members
from habitue.model.tabular.table import Clock, Table, Target

KINDS = frozenset({"binary", "classes", "number"})


@dataclass(frozen=True)
class Config:
    """Who votes; a model that cannot read the table stays out."""

    members: tuple[str, ...] = ("linear", "forest", "boosting", "profile")


@dataclass(frozen=True)
class State:
    """The voters that were fitted, by name."""

    fitted: tuple[tuple[str, Any], ...]


def fit(table: Table, target: Target, config: Config, *, runtime: Runtime, clock: Clock) -> State:
    """Fit every voter; those that the clock leaves no time for stay out, the first always votes."""
    fitted: list[tuple[str, Any]] = []
    for name in members.fitting(config.members, table, target):
        if fitted and clock.over:
            break
        model = members.load(name)
        fitted.append((name, model.fit(table, target, model.Config(), runtime=runtime, clock=clock)))
    return State(tuple(fitted))


def answer(state: State, table: Table) -> Floats:
    """Return the mean of the voters' answers."""
    said: Floats = np.mean([members.load(name).answer(one, table) for name, one in state.fitted], axis=0)
    return said


def importance(state: State) -> pl.DataFrame:
    """Return the mean importance of the voters that tell one."""
    told = [(members.load(name), one) for name, one in state.fitted]
    return members.mean_importance([(1.0, m.importance(one)) for m, one in told if hasattr(m, "importance")])
