"""Who won: differences between models on the same customers, with intervals, and one sentence that says it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from habitue.core.errors import ModelError
from habitue.core.metrics import Estimate, Statistic
from habitue.evaluate.measured import Measured, estimates

SCHEMA = {
    "protocol": pl.String,
    "model": pl.String,
    "against": pl.String,
    "slice": pl.String,
    "metric": pl.String,
    "mean": pl.Float64,
    "low": pl.Float64,
    "high": pl.Float64,
    "n": pl.Int64,
}


def compare(measured: Sequence[Measured], *, against: str, draws: int = 1000, seed: int = 0) -> pl.DataFrame:
    """Return model minus `against` for every other model, slice and metric: protocol, model, against, slice, metric,
    mean, low, high (95 %, paired bootstrap over the same customers), n.

    Of a metric that is best near 0 (bias) the distances to 0 are compared. Raises ModelError when `against` was not
    measured or two models were measured on different customers.
    """
    pairs = [
        (one, _find(measured, against, one.protocol, one.slice, one.metric)) for one in measured if one.model != against
    ]
    told = _differences(pairs, draws, seed, of=_comparable)
    rows = [
        (a.protocol, a.model, b.model, a.slice, a.metric, e.mean, e.low, e.high, e.n)
        for (a, b), e in zip(pairs, told, strict=True)
    ]
    return pl.DataFrame(rows, schema=SCHEMA, orient="row")


WORDS = {
    "ndcg": "NDCG",
    "hit": "hit rate",
    "mrr": "MRR",
    "auc": "AUC",
    "ap": "average precision",
    "log_loss": "log loss",
    "brier": "Brier score",
    "ece": "calibration error",
    "mae": "mean error",
    "spearman": "rank correlation",
    "bias": "error of the total",
}


@dataclass(frozen=True)
class Verdict:
    """One sentence on who won, and what it stands on."""

    sentence: str
    best: str  # model with the best mean
    rival: str  # the best of the simple counts; the runner-up when `best` is one of them or there is none
    difference: Estimate  # best against rival, turned so that above 0 = `best` is better
    clear: bool  # the interval can be told and lies above 0
    level: tuple[str, ...]  # other models, not simple, that `best` is not clearly better than


def verdict(
    measured: Sequence[Measured],
    *,
    metric: str,
    slice: str = "all",
    simple: Collection[str] = (),
    names: Mapping[str, str] | None = None,
    draws: int = 1000,
    seed: int = 0,
) -> Verdict:
    """Say in one sentence which model won `metric` on `slice`, by how much, and whether the interval leaves a doubt.

    `simple` holds the models that only count: the best of them is the rival of a winner that is not one. `names` are
    the words for models in the sentence. The winner is picked on the same customers, so its lead is slightly flattered
    where models are close. Raises ModelError when fewer than two models were measured.
    """
    field = [m for m in measured if m.metric == metric and m.slice == slice]
    if len(field) < 2:
        raise ModelError(
            "evaluate.verdict",
            found=f"{len(field)} model(s) measured by {metric} on '{slice}'",
            consequence="One model cannot win against itself",
            remedy="Measure at least two models",
        )
    ranked = sorted(field, key=lambda m: (-_whole(_goodness(m), m), m.model not in simple, m.model))
    best, others = ranked[0], ranked[1:]
    counts = [m for m in others if m.model in simple]
    rival = counts[0] if counts and best.model not in simple else others[0]
    told = dict(zip((m.model for m in others), _differences([(best, m) for m in others], draws, seed), strict=True))
    lead = told[rival.model]
    level = tuple(m.model for m in others if m is not rival and m.model not in simple and not _clear(told[m.model]))
    sentence = _sentence(best, rival, lead, level, simple=simple, names=names or {})
    return Verdict(sentence, best.model, rival.model, lead, _clear(lead), level)


def _sentence(
    best: Measured,
    rival: Measured,
    lead: Estimate,
    level: Sequence[str],
    *,
    simple: Collection[str],
    names: Mapping[str, str],
) -> str:
    def called(model: str) -> str:
        name = names.get(model, model)
        return f"the simple count {name}" if model in simple else name

    def number(*values: float) -> list[str]:
        return _numbers(best.metric, values)

    winner, loser = called(best.model), called(rival.model)
    opening = winner[0].upper() + winner[1:] if best.model in simple else winner
    against = " against ".join(number(_whole(best.statistic, best), _whole(rival.statistic, rival)))
    against = f"{_words(best.metric)} {against}"
    who = f"{lead.n:,} customer{'s' if lead.n != 1 else ''}"
    if lead.low is None or lead.high is None:
        return f"{opening} is ahead of {loser}, {against}, but {who} cannot decide: no interval can be told."
    middle, low, high = number(lead.mean, lead.low, lead.high)
    span = f"{middle} better, 95 % interval {low} to {high}, {who}"
    if not _clear(lead):
        end = ", so the simple count is as good" if rival.model in simple and best.model not in simple else ""
        return f"No clear winner: {winner} leads {loser}, {against}, but the interval contains 0 ({span}){end}."
    also = f"; not clearly better than {' and '.join(called(m) for m in level)}" if level else ""
    return f"{opening} beats {loser}: {against} ({span}){also}."


def _words(metric: str) -> str:
    """Return a metric's name as people say it, e.g. 'hit rate@10'; a name without words of its own stays as it is."""
    name, at, k = metric.removesuffix("_adjusted").partition("@")
    said = WORDS.get(name, name) + at + k
    return f"season-adjusted {said}" if metric.endswith("_adjusted") else said


def _numbers(metric: str, values: Sequence[float]) -> list[str]:
    """Write values of a metric with as many decimals as tell the smallest of them from 0, at most 4."""
    if metric.startswith(("mae", "rmse")):
        return [f"{value:,.2f}" for value in values]
    if metric.startswith("bias"):
        return [f"{100 * value:.1f} %" for value in values]
    decimals = 4 if any(0 < abs(value) < 0.001 for value in values) else 3
    return [f"{value:.{decimals}f}" for value in values]


def _clear(lead: Estimate) -> bool:
    return lead.low is not None and lead.low > 0


def _whole(statistic: Statistic, one: Measured) -> float:
    """Return a statistic with every customer counted once."""
    return float(statistic(np.ones((1, one.user_keys.size)))[0])


def _goodness(one: Measured) -> Statistic:
    """Return a statistic that is higher when the model is better."""
    if one.better == "higher":
        return one.statistic
    return lambda weight: -_comparable(one)(weight)


def _comparable(one: Measured) -> Statistic:
    """Return the statistic that differences are taken of: the distance to 0 for a metric that is best near 0."""
    if one.better == "near 0":
        return lambda weight: np.abs(one.statistic(weight))
    return one.statistic


def _differences(
    pairs: Sequence[tuple[Measured, Measured]],
    draws: int,
    seed: int,
    *,
    of: Callable[[Measured], Statistic] = _goodness,
) -> list[Estimate]:
    def difference(a: Measured, b: Measured) -> Statistic:
        if not np.array_equal(a.user_keys, b.user_keys):
            raise ModelError(
                "evaluate.compare",
                found=f"'{a.model}' and '{b.model}' were measured on different customers ({a.metric}, {a.slice})",
                consequence="A paired interval needs both answers of every customer",
                remedy="Measure both with the same past and target",
            )
        left, right = of(a), of(b)
        return lambda weight: left(weight) - right(weight)

    return estimates([difference(a, b) for a, b in pairs], [a.user_keys.size for a, _ in pairs], draws=draws, seed=seed)


def _find(measured: Sequence[Measured], model: str, protocol: str, slice_: str, metric: str) -> Measured:
    for one in measured:
        if (one.model, one.protocol, one.slice, one.metric) == (model, protocol, slice_, metric):
            return one
    raise ModelError(
        "evaluate.compare",
        found=f"'{model}' was not measured by {metric} on '{slice_}' of {protocol}",
        consequence="There is nothing to compare with",
        remedy="Measure it too, or compare with another model",
    )
