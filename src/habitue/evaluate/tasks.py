"""Churn and value: what each customer was foretold against what happened in the horizon."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import polars as pl

from habitue.core import metrics
from habitue.core.errors import ModelError
from habitue.core.metrics import Floats
from habitue.core.schemas import LABELS, Labels, check
from habitue.evaluate.measured import Measured

Better = Literal["higher", "lower", "near 0"]
CHURN: dict[str, tuple[Callable[..., Floats], Better]] = {
    "auc": (metrics.auc, "higher"),
    "ap": (metrics.average_precision, "higher"),
    "log_loss": (metrics.log_loss, "lower"),
    "brier": (metrics.brier, "lower"),
    "ece": (metrics.ece, "lower"),
}
TOP = 0.1  # lift@10% is told for this share of customers


def churn(forecast: pl.DataFrame, labels: Labels, users: npt.ArrayLike, *, model: str) -> list[Measured]:
    """Measure `forecast` (user_key, churn = probability of no order) against LABELS of one moment.

    `users` are the keys to evaluate: known users only; each must have a forecast and a label, further rows are not
    looked at. Metrics: auc, ap, log_loss, brier, ece, lift@10%. Protocol 'churn-<horizon>d'. Raises ModelError, naming
    the model, for a missing, repeated or impossible forecast, and when all or none of the users churned.
    """
    rows = _rows(forecast, labels, users, "churn", model)
    truth, score = rows["churned"].cast(pl.Float64).to_numpy(), rows["churn"].to_numpy()
    if truth.min() == truth.max():
        did = "churned" if truth[0] else "ordered"
        raise _refused(
            model, "churn", f"all {truth.size:,} customers {did}", "Take a cut or a horizon at which both happened"
        )
    if score.min() < 0 or score.max() > 1:
        raise _refused(
            model, "churn", f"forecasts run from {score.min():g} to {score.max():g}", "Forecast a probability, 0 to 1"
        )
    told = [
        _measured(f"churn-{_days(labels)}d", model, name, rows, _of(metric, truth, score), better)
        for name, (metric, better) in CHURN.items()
    ]
    lift = _of(lambda t, s, weight: metrics.gain(t, s, share=TOP, weight=weight) / TOP, truth, score)
    return [*told, _measured(f"churn-{_days(labels)}d", model, "lift@10%", rows, lift, "higher")]


def value(
    forecast: pl.DataFrame, labels: Labels, users: npt.ArrayLike, *, model: str, factor: float | None = None
) -> list[Measured]:
    """Measure `forecast` (user_key, value = expected net money in the horizon) against LABELS of one moment.

    `users` as for `churn`. Metrics: mae (money), spearman, bias (forecast total / actual total - 1); with a season
    `factor` fixed beforehand also mae_adjusted and bias_adjusted of value x factor (ranks do not change). A constant
    forecast has no spearman row. Protocol 'value-<horizon>d'. Raises ModelError, naming the model, for a missing,
    repeated or impossible forecast, and when the actual money adds up to 0.
    """
    rows = _rows(forecast, labels, users, "value", model)
    actual, said = rows["actual"].to_numpy(), rows["value"].to_numpy()
    if actual.sum() == 0:
        raise _refused(
            model, "value", "the money of the horizon adds up to 0", "Take a horizon in which somebody bought"
        )
    told: list[tuple[str, Callable[..., Floats], Floats, Better]] = [("mae", metrics.mae, said, "lower")]
    if np.ptp(said) > 0 and np.ptp(actual) > 0:
        told.append(("spearman", metrics.spearman, said, "higher"))
    told.append(("bias", metrics.bias, said, "near 0"))
    if factor is not None:
        told.append(("mae_adjusted", metrics.mae, said * factor, "lower"))
        told.append(("bias_adjusted", metrics.bias, said * factor, "near 0"))
    return [
        _measured(f"value-{_days(labels)}d", model, name, rows, _of(metric, actual, f), better)
        for name, metric, f, better in told
    ]


def gains(
    forecast: pl.DataFrame, labels: Labels, users: npt.ArrayLike, *, model: str, points: int = 101
) -> list[tuple[float, float]]:
    """Return (share of customers, share of all lost customers among them), highest forecast first, from 0 to 1."""
    rows = _rows(forecast, labels, users, "churn", model)
    truth, score = rows["churned"].cast(pl.Float64).to_numpy(), rows["churn"].to_numpy()
    shares = np.linspace(0, 1, points)
    return [(float(share), float(metrics.gain(truth, score, share=share))) for share in shares]


def calibration(
    forecast: pl.DataFrame, labels: Labels, users: npt.ArrayLike, *, model: str, bins: int = 10
) -> pl.DataFrame:
    """Return forecast (mean probability), observed (share churned) and n of each bin of equal width that has rows."""
    rows = _rows(forecast, labels, users, "churn", model)
    told = metrics.calibration(rows["churned"].cast(pl.Float64).to_numpy(), rows["churn"].to_numpy(), bins=bins)
    return pl.DataFrame({"forecast": told.forecast, "observed": told.observed, "n": told.n})


def deciles(
    forecast: pl.DataFrame,
    labels: Labels,
    users: npt.ArrayLike,
    *,
    model: str,
    factor: float = 1.0,
    groups: int = 10,
) -> pl.DataFrame:
    """Return decile (1 = highest forecast), n, and the sums forecast, adjusted (x `factor`) and actual of each group.

    Groups differ by at most one customer; equal forecasts are ordered by user_key.
    """
    rows = _rows(forecast, labels, users, "value", model).sort("value", "user_key", descending=[True, False])
    place = np.arange(rows.height) * groups // rows.height + 1
    return (
        rows.with_columns(decile=pl.Series(place, dtype=pl.Int32))
        .group_by("decile", maintain_order=True)
        .agg(
            n=pl.len().cast(pl.Int64),
            forecast=pl.col("value").sum(),
            adjusted=pl.col("value").sum() * factor,
            actual=pl.col("actual").sum(),
        )
    )


def _rows(forecast: pl.DataFrame, labels: Labels, users: npt.ArrayLike, column: str, model: str) -> pl.DataFrame:
    """Return user_key, `column`, churned and actual of each wanted user, ascending by key."""
    check(labels, LABELS, at=f"evaluate.{column}")
    wanted = pl.DataFrame({"user_key": np.unique(np.asarray(users, dtype=np.int64))})
    if not wanted.height:
        raise _refused(model, column, "there is no customer to evaluate", "Take a cut with known customers before it")
    if labels["as_of"].n_unique() > 1:
        raise _refused(model, column, "the labels are of several moments", "Evaluate one moment at a time")
    if column not in forecast.columns:
        raise _refused(model, column, f"the forecast has no column '{column}'", "Return it from the model's predict")
    said = forecast.select("user_key", pl.col(column).cast(pl.Float64)).join(wanted, on="user_key")
    said = said.filter(pl.col(column).is_finite())
    if said["user_key"].n_unique() < said.height:
        raise _refused(model, column, "a customer has several forecasts", "Forecast each customer once")
    if said.height < wanted.height:
        missing = wanted.height - said.height
        raise _refused(
            model,
            column,
            f"{missing:,} of {wanted.height:,} customers have no forecast, or a NaN or infinite one",
            "Forecast every known customer",
        )
    truth = labels.select("user_key", "churned", actual="value").join(wanted, on="user_key")
    if truth["user_key"].n_unique() < truth.height:
        raise _refused(model, column, "a customer has several labels", "Label each customer once")
    if truth.height < wanted.height:
        missing = wanted.height - truth.height
        raise _refused(model, column, f"{missing:,} of {wanted.height:,} customers have no label", "Label them too")
    return wanted.join(said, on="user_key", maintain_order="left").join(truth, on="user_key", maintain_order="left")


def _of(metric: Callable[..., Floats], truth: Floats, forecast: Floats) -> Callable[[Floats], Floats]:
    return lambda weight: metric(truth, forecast, weight=weight)


def _measured(
    protocol: str,
    model: str,
    name: str,
    rows: pl.DataFrame,
    statistic: Callable[[Floats], Floats],
    better: Better,
) -> Measured:
    return Measured(protocol, model, "all", name, rows["user_key"].to_numpy(), statistic, better)


def _days(labels: Labels) -> int:
    span: Any = (labels["horizon_end"] - labels["as_of"]).max()
    return int(span.days)


def _refused(model: str, task: str, found: str, remedy: str) -> ModelError:
    return ModelError(
        f"evaluate.{task}, model '{model}'",
        found=found,
        consequence="The table would compare models on different or meaningless rows",
        remedy=remedy,
    )
