"""Which features raise a forecast: exact TreeSHAP, confirmed by putting the usual value in their place."""

from __future__ import annotations

from typing import Any, Literal

import lightgbm as lgb
import numpy as np
import numpy.typing as npt
import polars as pl

from habitue.core.errors import ModelError
from habitue.core.schemas import FEATURES, REASONS, Features, Reasons, check

Doubles = npt.NDArray[np.float64]


def features(
    booster: str,
    table: Features,
    users: npt.ArrayLike,
    *,
    model: str,
    task: Literal["churn", "value"] = "churn",
    most: int = 2,
) -> Reasons:
    """Return REASONS why the forecast of each of `users` (keys) is as high as it is, at most `most` each.

    `booster` is LightGBM's own text; `table` holds FEATURES of everyone at one moment, from which the usual value of a
    feature, its median, is taken. A feature is a reason when its exact TreeSHAP contribution is above 0 (Lundberg,
    Erion and Lee 2018) and the forecast falls when the median stands in its place; `weight` is that fall. Largest
    contribution first. Nobody's forecast need have a reason: then there is no row. One forecast per user and feature.
    Raises ModelError for a user or a feature that `table` lacks.
    """
    check(table, FEATURES, at="explain.features")
    trees = lgb.Booster(model_str=booster)
    names = trees.feature_name()
    missing = [name for name in names if name not in table.columns]
    if missing:
        raise _refused(model, f"the table has no feature '{missing[0]}'", "Give the features the model was grown on")
    keys = np.asarray(users, dtype=np.int64)
    wanted = pl.DataFrame({"user_key": keys}).join(table, on="user_key", maintain_order="left")
    if not keys.size:
        return REASONS.empty()
    if wanted.height != keys.size:
        found = f"{wanted.height:,} feature rows of {keys.size:,} customers"
        raise _refused(model, found, "Give one row of every customer asked about, all of one moment")
    rows = _matrix(wanted, names)
    usual = np.array([table[name].median() for name in names], dtype=np.float64)
    told, shap = _forecast(trees, rows), np.asarray(trees.predict(rows, pred_contrib=True))[:, :-1]
    reasons: list[dict[str, Any]] = []
    for b in range(keys.size):
        raising = [int(f) for f in np.argsort(-shap[b], kind="stable") if shap[b, f] > 0]
        if not raising:
            continue
        changed = np.repeat(rows[[b]], len(raising), axis=0)
        changed[np.arange(len(raising)), raising] = usual[raising]
        fall = told[b] - _forecast(trees, changed)
        confirmed = [(f, drop) for f, drop in zip(raising, fall.tolist(), strict=True) if drop > 0]
        reasons += [
            {
                "user_key": int(keys[b]),
                "as_of": wanted["as_of"][b],
                "model": model,
                "task": task,
                "code": "feature",
                "because": names[f],
                "weight": drop,
            }
            for f, drop in confirmed[:most]
        ]
    frame = pl.DataFrame(reasons, schema=REASONS.schema)
    check(frame, REASONS, at="explain.features")
    return frame


def _matrix(table: pl.DataFrame, names: list[str]) -> Doubles:
    """Return [rows, features] with NaN for what is unknown, as LightGBM reads it."""
    return table.select(pl.col(name).fill_null(float("nan")) for name in names).to_numpy().copy()


def _forecast(trees: lgb.Booster, rows: Doubles) -> Doubles:
    return np.asarray(trees.predict(rows), dtype=np.float64)


def _refused(model: str, found: str, remedy: str) -> ModelError:
    return ModelError(
        f"explain.features, model '{model}'",
        found=found,
        consequence="The forecast could not be taken apart",
        remedy=remedy,
    )
