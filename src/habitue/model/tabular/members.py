"""What the ensembles share: which models they are made of."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from types import ModuleType

import polars as pl

from habitue.core.errors import SettingsError, did_you_mean
from habitue.model.tabular.table import Table, Target

KNOWN = ("linear", "svm", "tree", "forest", "boosting", "profile")
TREES = frozenset({"tree", "forest", "boosting"})
MANY = 20  # classes; with more, and no columns but text and vectors, trees only see what linear models said before them


def load(name: str) -> ModuleType:
    """Import one model that is no ensemble itself. Raises SettingsError for another name."""
    if name not in KNOWN:
        raise SettingsError(
            "tabular ensemble",
            found=f"'{name}' is no model an ensemble can be made of",
            consequence="There is nothing to fit",
            remedy=did_you_mean(name, KNOWN),
        )
    return importlib.import_module(f"habitue.model.tabular.{name}")


def fitting(names: Sequence[str], table: Table, target: Target) -> tuple[str, ...]:
    """Return those of `names` that can read this table and answer this kind of question."""
    echo = table.frame.width == 0 and len(target.classes) > MANY
    found = []
    for name in names:
        if echo and name in TREES:
            continue
        model = load(name)
        if target.kind in model.KINDS and (not hasattr(model, "needs") or model.needs(table) is None):
            found.append(name)
    return tuple(found)


def mean_importance(parts: Sequence[tuple[float, pl.DataFrame]]) -> pl.DataFrame:
    """Return the weighted mean of several importances, largest first."""
    total = sum(weight for weight, _ in parts) or 1.0
    every = pl.concat([part.with_columns(pl.col("importance") * (weight / total)) for weight, part in parts])
    summed = every.group_by("column", maintain_order=True).agg(pl.col("importance").sum())
    return summed.sort("importance", descending=True)
