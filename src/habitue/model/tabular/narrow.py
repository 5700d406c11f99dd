"""A table as few columns for models that split: numbers as they are, levels as codes, texts and vectors as scores.

A tree cannot split on 200,000 n-grams. A logistic (ridge) model of the text alone says what its words speak for, and a
tree splits on that. Rows of training get the score of a model that did not see them (Wolpert 1992, stacking), so the
scores mean the same there and on new rows.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl

from habitue.core.metrics import Floats
from habitue.core.runtime import Runtime
from habitue.model.tabular import linear, wide
from habitue.model.tabular.table import Clock, Table, Target, deal

INNER = 3  # folds for the scores of training rows
PRIOR = 10.0  # rows of the overall mean that each level is mixed with before levels are put in order
WHOLE = linear.Config()
LARGEST = 1e30  # trees of scikit-learn read float32, which ends at 3e38


@dataclass(frozen=True)
class Levels:
    """The levels of a category, in the order of their mean target: a split is then a set of levels (Breiman 1984)."""

    name: str
    ordered: tuple[str, ...]


@dataclass(frozen=True)
class State:
    """What was fitted on the rows of training."""

    numbers: tuple[str, ...]
    categories: tuple[Levels, ...]
    scores: tuple[tuple[str, linear.State], ...]
    names: tuple[str, ...]  # of the columns of the design
    sources: tuple[str, ...]  # the column of the table each was made from

    @property
    def native(self) -> tuple[int, ...]:
        """Return the columns of the design that hold codes of levels."""
        return tuple(range(len(self.numbers), len(self.numbers) + len(self.categories)))


def fit(table: Table, target: Target, *, runtime: Runtime) -> tuple[State, Floats]:
    """Return what was fitted, and the design [N, columns] of these very rows with scores from inner folds."""
    categories = tuple(_levels(table.frame[name], target) for name in table.categories)
    scores, inner = [], []
    for name in (*table.texts, *table.vectors):
        part = table.only(name)
        scores.append((name, _score(part, target, runtime)))
        inner.append(_outside(part, target, runtime))
    classes = _said(target)
    names = [*table.numbers, *table.categories]
    names += [f"{name} speaks for {c}" for name, _ in scores for c in classes]
    sources = [*table.numbers, *table.categories, *(name for name, _ in scores for _ in classes)]
    state = State(table.numbers, categories, tuple(scores), tuple(names), tuple(sources))
    return state, np.hstack([_plain(state, table), *inner])


def design(state: State, table: Table) -> Floats:
    """Return [N, columns] float64 with NaN for what is unknown, for rows that were not trained on."""
    scores = [_columns(linear.answer(model, table.only(name)), model.target) for name, model in state.scores]
    return np.hstack([_plain(state, table), *scores])


def _plain(state: State, table: Table) -> Floats:
    columns = [table.frame[name].to_numpy() for name in state.numbers]
    columns = [np.where(np.isfinite(column), np.clip(column, -LARGEST, LARGEST), np.nan) for column in columns]
    for category in state.categories:
        place = wide.code(table.frame[category.name], category.ordered).astype(np.float64)
        columns.append(np.where(table.frame[category.name].is_null().to_numpy(), np.nan, place))
    return np.column_stack(columns) if columns else np.zeros((table.height, 0))


def _levels(values: pl.Series, target: Target) -> Levels:
    """Order the levels by mean target; of several classes by the share of the most frequent class."""
    aim = target.values.astype(np.float64)
    if target.kind == "classes":
        aim = (target.values == np.bincount(target.values.astype(np.int64)).argmax()).astype(np.float64)
    told = pl.DataFrame({"level": values, "aim": aim}).drop_nulls().group_by("level").agg(pl.len(), pl.col("aim").sum())
    told = told.filter(pl.col("len") >= wide.LEAST_ROWS)
    mean = (pl.col("aim") + PRIOR * float(aim.mean())) / (pl.col("len") + PRIOR)
    ordered = told.with_columns(mean=mean).sort("mean", "level")["level"].to_list()
    return Levels(values.name, (*ordered, wide.RARE, wide.UNKNOWN))


def _score(part: Table, target: Target, runtime: Runtime) -> linear.State:
    return linear.fit(part, target, WHOLE, runtime=runtime, clock=Clock())


def _outside(part: Table, target: Target, runtime: Runtime) -> Floats:
    """Return the score of every row by a model that was fitted on the other inner folds."""
    units = part.height if part.group is None else np.unique(part.group).size
    folds = min(INNER, units)
    fold = deal(target, folds, seed=runtime.seed, group=part.group)
    scores = np.zeros((part.height, len(_said(target))))
    for k in range(folds):
        rest, held = np.flatnonzero(fold != k), np.flatnonzero(fold == k)
        if target.kind != "number" and target.take(rest).known.size < 2:
            scores[held] = target.take(rest).known[0] == 1  # a single class was left to learn: its share is 1
            continue
        model = _score(part.take(rest), target.take(rest), runtime)
        scores[held] = _columns(linear.answer(model, part.take(held)), target)
    return scores


def _columns(answer: Floats, target: Target) -> Floats:
    """Return the columns that say all: the number, the second of two shares, or every share."""
    if target.kind == "number":
        return answer[:, None]
    return answer[:, 1:] if len(target.classes) == 2 else answer


def _said(target: Target) -> tuple[str, ...]:
    if target.kind == "number":
        return ("a higher number",)
    return target.classes[1:] if len(target.classes) == 2 else target.classes
