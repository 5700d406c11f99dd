"""Several preparations one after the other, learnt together from the rows of training and put to any others.

    state = fit(rows, Recipe(impute=..., scale=...), classes=classes, until=cut)
    rows  = apply(state, rows)
    learn = learnt_from(state, rows, classes)      which rows of training a model should see, after balancing

`parse("impute=median,outliers=iqr,scale=robust,reduce=pca,balance=over")` reads what a person types.
"""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from habitue.core.errors import SettingsError, did_you_mean
from habitue.core.metrics import Ints
from habitue.prepare import balance, generate, impute, outliers, reduce, scale

STEPS = ("outliers", "impute", "scale", "reduce")  # in this order: what lies far out tips no mean
METHODS = {
    "impute": impute.METHODS,
    "outliers": outliers.METHODS,
    "scale": scale.METHODS,
    "reduce": reduce.METHODS,
    "balance": balance.METHODS,
    "generate": generate.METHODS,
}


@dataclass(frozen=True)
class Recipe:
    """Which preparations; None = left out."""

    impute: impute.Config | None = None
    outliers: outliers.Config | None = None
    scale: scale.Config | None = None
    reduce: reduce.Config | None = None
    balance: balance.Config | None = None
    generate: generate.Config | None = None  # invented rows of rare classes, beside those of training


@dataclass(frozen=True)
class State:
    """What was learnt: the states of the steps, in their order."""

    recipe: Recipe
    steps: tuple[tuple[str, Any], ...]


def fit(
    rows: pl.DataFrame,
    recipe: Recipe,
    *,
    classes: npt.ArrayLike | None = None,
    until: dt.datetime | None = None,
) -> State:
    """Learn every step from `rows` as the steps before it left them; `classes` [N] are needed for LDA.

    `until`: raise LeakageError when a moment in `rows` is not strictly before it. Raises what the steps raise.
    """
    done: list[tuple[str, Any]] = []
    for name in STEPS:
        config = getattr(recipe, name)
        if config is None:
            continue
        if name == "reduce":
            state: Any = reduce.fit(rows, config, classes=classes, until=until)
        else:
            state = _module(name).fit(rows, config, until=until)
        rows = _module(name).apply(state, rows)
        done.append((name, state))
    return State(recipe, tuple(done))


def apply(state: State, rows: pl.DataFrame) -> pl.DataFrame:
    """Return `rows` prepared; the same row comes out the same whatever stands beside it."""
    for name, step in state.steps:
        rows = _module(name).apply(step, rows)
    return rows


def learnt_from(state: State, rows: pl.DataFrame, classes: npt.ArrayLike | None = None) -> Ints:
    """Return the places of the rows of training (as given to `fit`) that a model should learn from.

    Rows that isolation sets apart are left out first; then the classes are balanced. Only for rows of training:
    a row that is to be answered is never dropped or repeated.
    """
    kept = np.arange(rows.height)
    for name, step in state.steps:
        if name == "outliers":
            kept = np.flatnonzero(outliers.kept(step, rows).to_numpy())
    if state.recipe.balance is None or classes is None:
        return kept
    told = np.asarray(classes)[kept]
    return np.asarray(kept[balance.rows(told, state.recipe.balance)], dtype=np.int64)


def invented(
    state: State, rows: pl.DataFrame, classes: npt.ArrayLike
) -> tuple[pl.DataFrame, npt.NDArray[np.generic]] | None:
    """Return prepared rows of training with invented ones below them, and the classes of both; None when none is asked.

    `rows` are those of `learnt_from`, prepared by `apply`.
    """
    return None if state.recipe.generate is None else generate.balanced(rows, classes, state.recipe.generate)


def answering(state: State) -> State:
    """Return `state` without what only rows of training need (the forest of isolation): arrays, numbers and words."""
    kept = ((name, replace(step, forest=None) if name == "outliers" else step) for name, step in state.steps)
    return State(state.recipe, tuple(kept))


def parse(text: str) -> Recipe:
    """Read 'impute=median,scale=robust'. Raises SettingsError for a step or method that is not there."""
    chosen: dict[str, Any] = {}
    for part in (part.strip() for part in text.split(",") if part.strip()):
        name, _, method = (word.strip() for word in part.partition("="))
        known = METHODS.get(name)
        if known is None or method not in known:
            raise SettingsError(
                "prepare",
                found=f"there is no preparation '{part}'",
                consequence="The rows would stay as they are",
                remedy=did_you_mean(name, METHODS) if known is None else did_you_mean(method, known),
            )
        if name in chosen:
            raise SettingsError(
                "prepare",
                found=f"'{name}' is asked for twice",
                consequence="Only one of the two would be done",
                remedy="Name each preparation once",
            )
        chosen[name] = _module(name).Config(method=method)
    return Recipe(**chosen)


def _module(name: str) -> Any:
    return {
        "impute": impute,
        "outliers": outliers,
        "scale": scale,
        "reduce": reduce,
        "balance": balance,
        "generate": generate,
    }[name]
