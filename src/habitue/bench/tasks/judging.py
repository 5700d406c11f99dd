"""From answers to numbers: metrics with intervals over rows (or groups), paired differences, and one sentence."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl

from habitue import evaluate
from habitue.bench.tasks.measuring import Answers, rarer_class
from habitue.bench.tasks.reading import Data
from habitue.core import metrics
from habitue.core.metrics import Floats, Ints
from habitue.core.schemas import METRICS, Metrics
from habitue.evaluate.measured import Measured

BASELINE = "linear"
MAIN = {"binary": "auc", "classes": "accuracy", "number": "mae"}
LOWER = frozenset({"log_loss", "brier", "ece", "log_loss_calibrated", "ece_calibrated", "mae", "rmse"})
DRAWS, FEWER_DRAWS, MANY = 1000, 200, 30_000
WORDS = {
    "auc": "AUC",
    "ap": "average precision",
    "f1": "F1 of the rarer class",
    "accuracy": "accuracy",
    "macro_f1": "macro-F1",
    "macro_recall": "average recall (UAR)",
    "log_loss": "log loss",
    "brier": "Brier score",
    "ece": "calibration error",
    "log_loss_calibrated": "log loss, calibrated",
    "ece_calibrated": "calibration error, calibrated",
    "mae": "mean error",
    "rmse": "root mean squared error",
    "r2": "R2",
    "spearman": "rank correlation",
}
Metric = Callable[[Floats], Floats]


@dataclass(frozen=True)
class Judged:
    """The table, the differences, and who won."""

    table: Metrics
    differences: pl.DataFrame  # of the main metric, evaluate.compare against BASELINE: model, mean, low, high, n
    ranking: tuple[str, ...]  # models that finished, best first by the main metric
    verdict: str

    @property
    def best(self) -> str:
        """Return the model with the best mean of the main metric."""
        return self.ranking[0]


def judge(data: Data, answers: Sequence[Answers], *, dataset: str, protocol: str, seeds: int, seed: int) -> Judged:
    """Measure every model; rows are drawn with replacement, whole groups when there are groups.

    Differences to the baseline are told of the main metric alone: a table of all would be read as many chances to win.
    """
    measured = {one.model: _measured(data, one, protocol) for one in answers}
    base = next(one for one in answers if one.model == BASELINE)
    draws = DRAWS if base.row.size <= MANY else FEWER_DRAWS
    tables, differences = [], []
    main = MAIN[data.target.kind]
    for one in answers:
        tables.append(
            evaluate.table(
                measured[one.model],
                dataset=dataset,
                modalities=data.modalities,
                seeds=seeds,
                cpu_s=one.cpu_s,
                peak_mb=one.peak_mb,
                draws=draws,
                seed=seed,
            )
        )
        if one.model != BASELINE:
            fair = measured[BASELINE] if not one.stopped else _measured(data, _same_rows(base, one), protocol)
            pair = _only(measured[one.model], main), _only(fair, main)
            differences.append(_against(*pair, BASELINE, draws, seed))
    table = METRICS.shape(pl.concat(tables))
    finished = [one.model for one in answers if "measured on the folds" not in one.stopped]
    means = dict(table.filter(pl.col("metric") == main, pl.col("model").is_in(finished)).select("model", "mean").rows())
    ranking = tuple(sorted(means, key=lambda name: means[name] if main in LOWER else -means[name]))
    every = pl.concat(differences) if differences else evaluate.compare([], against=BASELINE)
    verdict = _verdict(measured, ranking, means, every, main, base.row.size // max(seeds, 1), draws, seed)
    return Judged(table, every, ranking, verdict)


def number(metric: str, value: float) -> str:
    """Write a value of a metric: shares with three decimals, amounts with two or four figures."""
    if metric in ("mae", "rmse"):
        return f"{value:,.4g}" if abs(value) < 1000 else f"{value:,.0f}"
    return f"{value:.3f}"


def _measured(data: Data, one: Answers, protocol: str) -> list[Measured]:
    units = one.row if data.table.group is None else data.table.group[one.row]
    keys = np.unique(units)
    seeds = [np.flatnonzero(one.seed == s) for s in np.unique(one.seed)]
    found = []
    for name in _names(data, one):
        parts = [(np.searchsorted(keys, units[rows]), _metric(name, data, one, rows)) for rows in seeds]
        better = "lower" if name in LOWER else "higher"
        found.append(Measured(protocol, one.model, "all", name, keys, _mean_over_seeds(parts), better))  # type: ignore[arg-type]
    return found


def _mean_over_seeds(parts: Sequence[tuple[Ints, Metric]]) -> Metric:
    def of_rows(weight: Floats, unit: Ints) -> Floats:
        same = unit.size == weight.shape[1] and bool((unit == np.arange(unit.size)).all())
        return weight if same else weight[:, unit]  # a copy of 1,000 draws is what a bootstrap costs most

    def statistic(weight: Floats) -> Floats:
        return np.asarray(np.mean([metric(of_rows(weight, unit)) for unit, metric in parts], axis=0))

    return statistic


def _names(data: Data, one: Answers) -> tuple[str, ...]:
    """Return the metrics that have a meaning on these answers."""
    if data.target.kind == "number":
        varied = np.ptp(data.target.values[one.row]) > 0
        told = varied and all(np.ptp(one.said[one.seed == s]) > 0 for s in np.unique(one.seed))
        return ("mae", "rmse", *(("r2",) if varied else ()), *(("spearman",) if told else ()))
    both = ("accuracy", "macro_f1", "log_loss", "ece", "log_loss_calibrated", "ece_calibrated")
    if data.target.kind == "classes":
        return (*both[:2], "macro_recall", *both[2:])
    if np.unique(data.target.values[one.row]).size < 2:
        return ("accuracy", "log_loss", "brier", "ece", "log_loss_calibrated", "ece_calibrated")
    return ("auc", "ap", "f1", "brier", *both)


def _metric(name: str, data: Data, one: Answers, rows: Ints) -> Metric:
    truth = data.target.values[one.row[rows]]
    said, calibrated = one.said[rows], one.calibrated[rows]
    if data.target.kind == "number":
        of = {"mae": metrics.mae, "rmse": metrics.rmse, "r2": metrics.r2, "spearman": metrics.spearman}[name]
        return lambda weight: of(truth, said, weight=weight)
    likeliest = said.argmax(axis=1)
    if name in ("accuracy", "macro_f1", "macro_recall"):
        judge_ = {"accuracy": metrics.accuracy, "macro_f1": metrics.macro_f1, "macro_recall": metrics.macro_recall}[
            name
        ]
        return lambda weight: judge_(truth, likeliest, weight=weight)
    shares = calibrated if name.endswith("_calibrated") else said
    if data.target.kind == "classes":
        classes = {"log_loss": metrics.log_loss_of_classes, "ece": metrics.ece_of_classes}
        of_classes = classes[name.removesuffix("_calibrated")]
        return lambda weight: of_classes(truth, shares, weight=weight)
    if name == "f1":
        rarer = rarer_class(data.target)
        return lambda weight: metrics.f1(truth == rarer, one.guess[rows] == rarer, weight=weight)
    yes: npt.NDArray[np.float64] = shares[:, 1]
    binary = {
        "auc": metrics.auc,
        "ap": metrics.average_precision,
        "brier": metrics.brier,
        "log_loss": metrics.log_loss,
        "ece": metrics.ece,
    }[name.removesuffix("_calibrated")]
    return lambda weight: binary(truth, yes, weight=weight)


def _same_rows(base: Answers, one: Answers) -> Answers:
    """Return the baseline's answers on the rows that another model finished."""
    kept = np.isin(base.seed * (base.row.max() + 1) + base.row, one.seed * (base.row.max() + 1) + one.row)
    return Answers(
        base.model,
        base.seed[kept],
        base.fold[kept],
        base.row[kept],
        base.said[kept],
        base.calibrated[kept],
        base.guess[kept] if base.guess.size else base.guess,
        base.cpu_s,
        base.peak_mb,
    )


def _against(mine: list[Measured], others: list[Measured], name: str, draws: int, seed: int) -> pl.DataFrame:
    return evaluate.compare((*mine, *others), against=name, draws=draws, seed=seed)


def _verdict(
    measured: dict[str, list[Measured]],
    ranking: tuple[str, ...],
    means: dict[str, float],
    differences: pl.DataFrame,
    main: str,
    rows: int,
    draws: int,
    seed: int,
) -> str:
    """Say who won and whether the best really beats the linear baseline."""
    best, sign = ranking[0], -1 if main in LOWER else 1
    told, who = WORDS[main], f"{rows:,} rows"
    if best == "constant":
        said = f"{told} {number(main, means[best])}, {who}"
        return f"No model beats the constant answer ({said}): these columns tell nothing."
    if best == BASELINE:
        second = ranking[1] if len(ranking) > 1 and ranking[1] != "constant" else None
        after = f"; '{second}' reaches {number(main, means[second])}" if second else ""
        return f"The plain linear baseline is best: {told} {number(main, means[best])}{after} ({who})."
    lead = differences.filter(pl.col("model") == best, pl.col("metric") == main).row(0, named=True)
    against = f"{told} {number(main, means[best])} against {number(main, means[BASELINE])}"
    if lead["low"] is None:
        return f"'{best}' is ahead of the linear baseline, {against}, but {who} are too few to tell by how much."
    low, high = sorted((sign * lead["low"], sign * lead["high"]))
    span = (
        f"{number(main, sign * lead['mean'])} better, 95 % interval {number(main, low)} to {number(main, high)}, {who}"
    )
    if low <= 0:
        leads = f"'{best}' leads it, {against}, but the interval holds 0 ({span})"
        return f"No model clearly beats the linear baseline: {leads}."
    rest = [name for name in ranking[1:] if name not in (BASELINE, "constant")]
    level = []
    for name in rest:
        gap = _against(_only(measured[best], main), _only(measured[name], main), name, draws, seed).row(0, named=True)
        if gap["low"] is None or min(sign * gap["low"], sign * gap["high"]) <= 0:
            level.append(f"'{name}'")
    also = f"; not clearly better than {', '.join(level)}" if level else ""
    return f"'{best}' wins and really beats the linear baseline: {against} ({span}){also}."


def _only(measured: list[Measured], metric: str) -> list[Measured]:
    return [m for m in measured if m.metric == metric]
