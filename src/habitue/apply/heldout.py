"""Labelled examples, forecast by fits that had not seen them: folds dealt, and yes/no answers measured."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl

from habitue.core import metrics
from habitue.core.errors import ModelError
from habitue.core.metrics import Floats, Ints
from habitue.core.schemas import Metrics
from habitue.evaluate import table
from habitue.evaluate.measured import Measured

Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Forecast:
    """What one model said of every example, each forecast by a fit that had not seen it."""

    model: str
    modalities: tuple[str, ...]  # what it read
    probability: Floats  # [n] of yes
    cpu_s: float  # CPU-seconds of all fits and forecasts


def deal(truth: Bools, folds: int, *, seed: int, where: str) -> Ints:
    """Deal examples into `folds` folds [n], each with the same share of yes; the same seed deals the same way.

    Raises ModelError when an answer has fewer examples than there are folds: some fold could not be measured.
    """
    rng = np.random.default_rng(seed)
    fold = np.empty(len(truth), dtype=np.int64)
    for answer, name in ((True, "yes"), (False, "no")):
        rows = np.flatnonzero(truth == answer)
        if len(rows) < max(folds, 2):
            raise ModelError(
                where,
                found=f"of {len(truth):,} examples {len(rows):,} are labelled {name}, for {folds} folds",
                consequence="A fold without both answers can be neither learnt from nor measured",
                remedy="Bring more examples with that answer, or set fewer folds (2 or more)",
            )
        fold[rng.permutation(rows)] = np.arange(len(rows)) % folds
    return fold


def yes_no(truth: Bools, fold: Ints, forecasts: Sequence[Forecast], *, dataset: str, seed: int) -> Metrics:
    """Return AUC and F1 of yes for each forecast as METRICS, with 95 % intervals over the examples.

    The threshold of F1 in one fold is the best one of the other folds, so no example helps to choose its own. All
    forecasts see the same resampled examples. Cost: 1,000 passes over the examples a forecast.
    """
    protocol = f"{len(np.unique(fold))}-fold"
    return pl.concat(
        table(
            _measured(truth, fold, forecast, protocol),
            dataset=dataset,
            modalities=forecast.modalities,
            cpu_s=forecast.cpu_s,
            seed=seed,
        )
        for forecast in forecasts
    )


def one(table: Metrics, model: str, metric: str) -> dict[str, float]:
    """Return mean, low and high of one model's metric."""
    row = table.row(by_predicate=(pl.col("model") == model) & (pl.col("metric") == metric), named=True)
    return {key: row[key] for key in ("mean", "low", "high")}


def _measured(truth: Bools, fold: Ints, forecast: Forecast, protocol: str) -> list[Measured]:
    rows = np.arange(len(truth))
    p, said = forecast.probability, np.zeros(len(truth), dtype=np.bool_)
    for k in np.unique(fold):
        threshold, _ = metrics.best_threshold(truth[fold != k], p[fold != k])
        said[fold == k] = p[fold == k] >= threshold
    return [
        Measured(protocol, forecast.model, "all", "auc", rows, lambda w: metrics.auc(truth, p, weight=w), "higher"),
        Measured(protocol, forecast.model, "all", "f1", rows, lambda w: metrics.f1(truth, said, weight=w), "higher"),
    ]
