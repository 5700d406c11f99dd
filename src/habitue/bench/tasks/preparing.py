"""A tabular model with a preparation before it: learnt inside each fold, from the rows the model learns from.

`Prepared` has the names of a model's file, so whoever fits and asks a model need not know that it is there.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from types import ModuleType
from typing import Any

import numpy as np
import polars as pl

from habitue.core.errors import UsageError
from habitue.core.metrics import Floats
from habitue.core.runtime import Runtime
from habitue.model.tabular import Clock, Table, Target
from habitue.prepare import recipe
from habitue.prepare.recipe import Recipe


@dataclass(frozen=True)
class State:
    """What both learnt."""

    prepared: recipe.State
    model: Any


@dataclass(frozen=True)
class Prepared:
    """A model that reads rows after `recipe`."""

    module: ModuleType
    recipe: Recipe

    def __getattr__(self, name: str) -> Any:
        """Answer what the model's own file says: KINDS, Config, needs."""
        return getattr(self.module, name)

    def fit(self, table: Table, target: Target, config: Any, *, runtime: Runtime, clock: Clock) -> State:
        """Learn the recipe from these rows, balance them, and fit the model on what came out."""
        classes = None if target.kind == "number" else target.values
        frame = (
            table.frame if table.frame.width else pl.select(row=pl.int_range(table.height))
        )  # words alone have rows too
        prepared = recipe.fit(frame, self.recipe, classes=classes)
        rows = recipe.learnt_from(prepared, frame, classes)
        ready, taught = _ready(prepared, table).take(rows), target.take(rows)
        if self.recipe.generate is not None and target.kind != "number":
            ready, taught = _with_invented(prepared, ready, taught)
        return State(prepared, self.module.fit(ready, taught, config, runtime=runtime, clock=clock))

    def answer(self, state: State, table: Table) -> Floats:
        """Answer rows prepared by what was learnt; none is dropped."""
        answers: Floats = self.module.answer(state.model, _ready(state.prepared, table))
        return answers


def _with_invented(prepared: recipe.State, table: Table, target: Target) -> tuple[Table, Target]:
    """Return rows with invented ones below them. Raises UsageError for rows that are more than numbers and names."""
    if table.texts or table.vectors:
        raise UsageError(
            "--prepare generate",
            found="the rows have words, pictures or sounds",
            consequence="An invented row has none, and would be told by that",
            remedy="Leave generate out, or balance=over, which repeats real rows",
        )
    made = recipe.invented(prepared, table.frame, target.values)
    assert made is not None
    frame, classes = made
    extra = frame.height - table.height
    group = None if table.group is None else np.append(table.group, table.group.max() + 1 + np.arange(extra))
    return Table(frame, {}, {}, group), replace(target, values=np.asarray(classes))


def _ready(prepared: recipe.State, table: Table) -> Table:
    return replace(table, frame=recipe.apply(prepared, table.frame)) if table.frame.width else table
