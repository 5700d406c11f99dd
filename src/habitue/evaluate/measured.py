"""One metric of one model on one slice, kept so that it can still be resampled, and the METRICS rows made of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import polars as pl

from habitue.core.metrics import Estimate, Floats, Ints, Statistic, bootstrap, mean
from habitue.core.schemas import METRICS, Metrics, check


@dataclass(frozen=True)
class Measured:
    """A metric of the users `user_keys`; `statistic` gives it for any number of times each of them counts."""

    protocol: str
    model: str
    slice: str
    metric: str
    user_keys: Ints  # [n]
    statistic: Statistic  # weight [draws, n] -> [draws]
    better: Literal["higher", "lower", "near 0"]
    values: Floats | None = None  # [n] the value of each user where the metric is their mean


def per_user(protocol: str, model: str, slice_: str, metric: str, user_keys: Ints, values: Floats) -> Measured:
    """Return the mean over users of `values` [n], higher = better, as a Measured."""
    return Measured(
        protocol, model, slice_, metric, user_keys, lambda weight: mean(values, weight=weight), "higher", values
    )


def estimates(statistics: Sequence[Statistic], sizes: Sequence[int], *, draws: int, seed: int) -> list[Estimate]:
    """Bootstrap statistics of different numbers of rows; those of equal size share their draws."""
    found: dict[int, Estimate] = {}
    for n in sorted(set(sizes)):
        mine = [i for i, size in enumerate(sizes) if size == n]
        found.update(zip(mine, bootstrap([statistics[i] for i in mine], n, draws=draws, seed=seed), strict=True))
    return [found[i] for i in range(len(sizes))]


def table(
    measured: Sequence[Measured],
    *,
    dataset: str,
    modalities: Sequence[str] = (),
    fusion: str | None = None,
    seeds: int = 1,
    cpu_s: float | None = None,
    peak_mb: float | None = None,
    draws: int = 1000,
    seed: int = 0,
) -> Metrics:
    """Return METRICS, one row each, with 95 % bootstrap intervals over users; the other arguments hold for every row.

    `cpu_s` is the cost of fit and score together. A bound is null where too few users leave none to be told.
    """
    told = estimates([m.statistic for m in measured], [m.user_keys.size for m in measured], draws=draws, seed=seed)
    rows = [
        {
            "dataset": dataset,
            "protocol": m.protocol,
            "model": m.model,
            "fusion": fusion,
            "modalities": list(modalities),
            "slice": m.slice,
            "metric": m.metric,
            "mean": e.mean,
            "low": e.low,
            "high": e.high,
            "n": e.n,
            "seeds": seeds,
            "cpu_s": cpu_s,
            "peak_mb": peak_mb,
        }
        for m, e in zip(measured, told, strict=True)
    ]
    frame = METRICS.shape(pl.DataFrame(rows, schema=METRICS.schema))
    check(frame, METRICS, at="evaluate.table")
    return frame
