"""One decision tree (CART; Breiman et al. 1984): the model that can be read as a picture and as sentences."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

from habitue.core.metrics import Floats
from habitue.core.runtime import Runtime
from habitue.core.settings import tuned
from habitue.model.tabular import linear, narrow, wide
from habitue.model.tabular.table import Clock, Table, Target

KINDS = frozenset({"binary", "classes", "number"})
NAMED = 4  # levels of a category told by name in a sentence


@dataclass(frozen=True)
class Config:
    """How far it grows."""

    depth: int = tuned(5, 2, 12)
    rows_in_leaf: int = tuned(20, 2, 200, log=True)


@dataclass(frozen=True)
class State:
    """The fitted preparation and the tree."""

    narrow: narrow.State
    model: Any
    target: Target


def fit(table: Table, target: Target, config: Config, *, runtime: Runtime, clock: Clock) -> State:  # noqa: ARG001
    """Grow; O(depth x columns x rows log rows)."""
    prepared, rows = narrow.fit(table, target, runtime=runtime)
    kind = DecisionTreeRegressor if target.kind == "number" else DecisionTreeClassifier
    least = min(config.rows_in_leaf, max(1, target.values.size // 10))
    model = kind(max_depth=config.depth, min_samples_leaf=least, random_state=runtime.seed)
    values = target.values if target.kind == "number" else target.compact()
    return State(prepared, model.fit(rows, values), target)


def answer(state: State, table: Table) -> Floats:
    """Return shares [N, classes], or numbers [N]."""
    rows = narrow.design(state.narrow, table)
    if state.target.kind == "number":
        return np.asarray(state.model.predict(rows), dtype=np.float64)
    return state.target.spread(np.asarray(state.model.predict_proba(rows), dtype=np.float64))


def importance(state: State) -> pl.DataFrame:
    """Return the share of the impurity each column takes away."""
    return linear.shares(state.narrow.sources, state.model.feature_importances_)


def picture(state: State) -> dict[str, Any]:
    """Return the tree as {"name": what led here, "value": rows of training, "note": what is said, "children"}."""
    return _drawn(state, 0, "all rows")


def path(state: State, table: Table) -> list[str]:
    """Return how the first row of `table` was decided: one sentence a split, then the answer."""
    row = narrow.design(state.narrow, table.take(np.array([0])))[0]
    tree, node, said = state.model.tree_, 0, []
    while tree.children_left[node] != -1:
        value = row[tree.feature[node]]
        left = bool(tree.missing_go_to_left[node]) if np.isnan(value) else bool(value <= tree.threshold[node])
        step = _question(state, node, left=left)
        column = state.narrow.names[tree.feature[node]]
        node = int(tree.children_left[node] if left else tree.children_right[node])
        why = f"{column} is unknown, which goes with: {step}" if np.isnan(value) else step
        said.append(f"{why} ({tree.n_node_samples[node]:,} rows of training; {_said(state, node)}).")
    return [*said, f"So the answer is: {_said(state, node)}."]


def _drawn(state: State, node: int, name: str) -> dict[str, Any]:
    tree = state.model.tree_
    drawn: dict[str, Any] = {"name": name, "value": int(tree.n_node_samples[node]), "note": _said(state, node)}
    if tree.children_left[node] != -1:
        drawn["children"] = [
            _drawn(state, int(tree.children_left[node]), _question(state, node, left=True)),
            _drawn(state, int(tree.children_right[node]), _question(state, node, left=False)),
        ]
    return drawn


def _question(state: State, node: int, *, left: bool) -> str:
    """Say which values go this way at a split."""
    tree = state.model.tree_
    column, threshold = int(tree.feature[node]), float(tree.threshold[node])
    name = state.narrow.names[column]
    if column not in state.narrow.native:
        return f"{name} {'at most' if left else 'above'} {threshold:,.4g}"
    levels = state.narrow.categories[column - len(state.narrow.numbers)].ordered[:-1]
    chosen = [level for i, level in enumerate(levels) if (i <= threshold) == left]
    chosen = [level for level in chosen if level != wide.RARE] or ["something rare"]
    more = f" or {len(chosen) - NAMED} more" if len(chosen) > NAMED else ""
    return f"{name} is {', '.join(chosen[:NAMED])}{more}" if len(chosen) > 1 else f"{name} is {''.join(chosen)}"


def _said(state: State, node: int) -> str:
    value = np.asarray(state.model.tree_.value[node][0])
    if state.target.kind == "number":
        return f"{value[0]:,.4g} on average"
    best = int(value.argmax())
    return f"{100 * value[best] / value.sum():.0f} % are {state.target.classes[state.target.known[best]]}"
