"""What each customer will spend: the forecast beside the fact, plain and with a season stated beforehand."""

from __future__ import annotations

import calendar
import datetime as dt
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl

from habitue.apply.wording import percent
from habitue.core import metrics
from habitue.core.errors import ModelError
from habitue.core.metrics import Estimate, bootstrap
from habitue.core.schemas import Labels
from habitue.evaluate.tasks import deciles
from habitue.model.past import PURCHASE, Past


@dataclass(frozen=True)
class Season:
    """A prior on the level of the horizon against the months seen, fixed and sealed before the horizon is opened."""

    factor: float  # 1 = as the months seen
    source: str  # where it comes from, in words


@dataclass(frozen=True)
class Spend:
    """The answer: what the report shows. Money in major units."""

    deciles: pl.DataFrame  # decile (1 = highest forecast), n, forecast, adjusted, actual
    forecast: float
    adjusted: float  # forecast x season factor
    actual: float
    bias: Estimate  # forecast / actual - 1, over customers
    bias_adjusted: Estimate
    season: Season
    unseen: tuple[str, ...]  # months of the horizon of which the past holds nothing
    verdict: str


def judge(
    answers: pl.DataFrame,
    labels: Labels,
    past: Past,
    season: Season,
    *,
    users: npt.ArrayLike,
    model: str,
    seed: int = 0,
) -> Spend:
    """Hold `answers` (user_key, value) against LABELS: by tenths of customers, and in total with its interval.

    The factor moves totals and deciles, never the order of customers. Raises ModelError for a factor that is not
    above 0, and what evaluate.tasks.deciles raises: customers without forecast or label.
    """
    if not (np.isfinite(season.factor) and season.factor > 0):
        raise ModelError(
            "apply.spend",
            found=f"the season factor is {season.factor:g}",
            consequence="The adjusted forecast would have no meaning",
            remedy="State a factor above 0; 1 = no season",
        )
    table = deciles(answers, labels, users, model=model, factor=season.factor)
    rows = pl.DataFrame({"user_key": np.unique(np.asarray(users, dtype=np.int64))})
    rows = rows.join(answers.select("user_key", forecast="value"), on="user_key", maintain_order="left")
    rows = rows.join(labels.select("user_key", actual="value"), on="user_key", maintain_order="left")
    said, actual = rows["forecast"].to_numpy(), rows["actual"].to_numpy()
    plain, adjusted = bootstrap(
        [
            lambda w: metrics.bias(actual, said, weight=w),
            lambda w: metrics.bias(actual, said * season.factor, weight=w),
        ],
        rows.height,
        seed=seed,
    )
    missing = unseen_months(past)
    return Spend(
        deciles=table,
        forecast=float(said.sum()),
        adjusted=float(said.sum()) * season.factor,
        actual=float(actual.sum()),
        bias=plain,
        bias_adjusted=adjusted,
        season=season,
        unseen=missing,
        verdict=_verdict(plain, adjusted, season, missing),
    )


def unseen_months(past: Past) -> tuple[str, ...]:
    """Return the calendar months that the horizon touches and in which the past holds no purchase (UTC)."""
    bought = past.histories.of_kind(PURCHASE).set_at
    seen = {dt.datetime.fromtimestamp(day * 86_400, tz=dt.UTC).month for day in np.unique(np.floor(bought))}
    ahead = [(past.as_of + dt.timedelta(days=day)).month for day in range(past.horizon_days)]
    return tuple(calendar.month_name[month] for month in dict.fromkeys(ahead) if month not in seen)


def _verdict(plain: Estimate, adjusted: Estimate, season: Season, unseen: tuple[str, ...]) -> str:
    why = f"; no {' or '.join(unseen)} was ever seen" if unseen else ""
    told = f"The plain forecast of the total is {_gap(plain)}{why}"
    if season.factor == 1:
        return f"{told}. No season was stated beforehand."
    return f"{told}. With the season factor {season.factor:g}, stated before the opening, it is {_gap(adjusted)}."


def _gap(bias: Estimate) -> str:
    where = "below" if bias.mean < 0 else "above"
    if bias.low is None or bias.high is None:
        return f"{percent(abs(bias.mean))} {where} the fact"
    return (
        f"{percent(abs(bias.mean))} {where} the fact (95 % interval {bias.low * 100:+.1f} to {bias.high * 100:+.1f} %)"
    )
