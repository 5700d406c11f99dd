"""Whom to call before they are gone: customers who will sooner not order than order, by the money at stake."""

from __future__ import annotations

from dataclasses import dataclass

import polars as pl

from habitue.apply.wording import percent
from habitue.core.errors import ModelError
from habitue.core.schemas import LABELS, Labels, check
from habitue.model.past import Past

READ = ("order_count", "days_since_last", "days_since_first", "spend", "refunded")


@dataclass(frozen=True)
class Config:
    """Settings."""

    risk: float = 0.5  # named is who is held at least so likely to be lost: a call to the others is wasted
    shown: int = 10


@dataclass(frozen=True)
class Risk:
    """What happened to those who were named."""

    customers: pl.DataFrame  # of `named`, the first `shown`, with came_back and money (net, in the horizon)
    named: int
    lost: float  # share of them who did not order in the horizon
    quietest: float  # the same of as many customers with the longest silence: the count that needs no model
    every: float  # the same of all customers
    verdict: str


def name(answers: pl.DataFrame, past: Past, config: Config | None = None) -> pl.DataFrame:
    """Return user_key, risk, usual, stake, last_order (UTC), orders, silence (days): most at stake first.

    `answers`: user_key, churn. Usual is what a customer spent net, brought to one horizon: net spend so far / days
    since the first order (at least one horizon) x horizon. Stake = risk x usual, major units. Customers below
    `config.risk` come after all others with stake 0. O(customers). Raises ModelError for a missing feature and for a
    customer with features but without an answer.
    """
    config = config or Config()
    missing = [feature for feature in READ if feature not in past.features.columns]
    if missing:
        raise _refused(f"FEATURES has no column '{missing[0]}'", "Declare that feature (prepare/declared.py)")
    known = past.features.filter(pl.col("order_count") > 0).select("user_key", *READ)
    told = known.join(answers.select("user_key", risk="churn"), on="user_key", how="left", maintain_order="left")
    if told["risk"].null_count():
        raise _refused(f"{told['risk'].null_count():,} customers have no answer", "Ask the model about everyone")
    net, days = pl.col("spend") + pl.col("refunded"), pl.col("days_since_first").clip(past.horizon_days)
    usual = (net.clip(0) / days * past.horizon_days).alias("usual")
    at_risk = pl.col("risk") >= config.risk
    return (
        told.with_columns(usual)
        .select(
            "user_key",
            "risk",
            "usual",
            stake=pl.when(at_risk).then(pl.col("risk") * pl.col("usual")).otherwise(0.0),
            last_order=(pl.lit(past.as_of) - pl.duration(seconds=(pl.col("days_since_last") * 86_400).round())),
            orders=pl.col("order_count").cast(pl.Int64),
            silence=pl.col("days_since_last"),
            named=at_risk,
        )
        .sort("named", "stake", "user_key", descending=[True, True, False])
    )


def outcome(told: pl.DataFrame, labels: Labels, config: Config | None = None) -> Risk:
    """Hold the table of `name` against LABELS of the same moment. Raises ModelError when nobody was named."""
    check(labels, LABELS, at="apply.risk")
    config = config or Config()
    happened = labels.select("user_key", came_back=~pl.col("churned"), money=pl.col("value"))
    seen = told.join(happened, on="user_key", how="left", maintain_order="left")
    if seen["came_back"].null_count():
        raise _refused(f"{seen['came_back'].null_count():,} customers have no label", "Label every known customer")
    named = seen.filter("named")
    if not named.height:
        raise _refused(f"nobody is held {percent(config.risk, 0)} likely to be lost", "Set a smaller `risk`")
    quiet = seen.sort("silence", "user_key", descending=[True, False]).head(named.height)
    lost, quietest, every = (
        1 - float(table["came_back"].cast(pl.Float64).sum()) / table.height for table in (named, quiet, seen)
    )
    shown = named.head(config.shown)
    return Risk(shown.drop("named"), named.height, lost, quietest, every, _verdict(shown, named, lost, quietest, every))


def _verdict(shown: pl.DataFrame, named: pl.DataFrame, lost: float, quietest: float, every: float) -> str:
    gone = int((~shown["came_back"]).sum())
    return (
        f"Of {named.height:,} customers held more likely lost than not, {percent(lost)} placed no order; of as many "
        f"with the longest silence {percent(quietest)}, of all {percent(every)}. Of the {shown.height} with most money "
        f"at stake {gone} were lost."
    )


def _refused(found: str, remedy: str) -> ModelError:
    return ModelError(
        "apply.risk",
        found=found,
        consequence="It cannot be told whom to call first",
        remedy=remedy,
    )
