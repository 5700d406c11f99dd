"""Which product in which place of a page: what another policy would have earned, told from the log of a random one."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import polars as pl

from habitue.apply.wording import clear, rate
from habitue.core.errors import ModelError
from habitue.core.metrics import Estimate, bootstrap, mean
from habitue.core.schemas import EXPOSURES, METRICS, Exposures, Metrics, check
from habitue.evaluate import offpolicy

TITLE = "Places of a page: would a learning policy have earned more clicks?"
SOURCE = "Open Bandit Dataset, campaign men"
LICENCE = "CC BY 4.0"
BEST = "dr"  # the estimator the verdict speaks of: right when either the propensities or the click model are


@dataclass(frozen=True)
class Slots:
    """The answer: what the report shows."""

    title: str
    source: str
    licence: str
    verdict: str
    metrics: Metrics  # metric "value", clicks a view; models ips, snips, dm, dr, own_log (the truth) and random
    difference: Estimate  # BEST minus random, paired over the rows of the random log
    decides: bool  # the interval of the difference leaves 0 out
    clicks: dict[str, int]  # in the random log, in the policy's own log
    effective_n: float  # rows of the policy's own log that the random log is worth


def read(path: Path) -> Exposures:
    """Bring a log as published (Parquet) to EXPOSURES: what = the place, arm = the product, outcome = clicked."""
    frame = pl.read_parquet(path)
    return EXPOSURES.shape(
        frame.select(
            pl.row_index().cast(pl.String).alias("exposure_id"),
            pl.col("timestamp").str.to_datetime("%Y-%m-%d %H:%M:%S%.f%:z", time_unit="us", time_zone="UTC").alias("at"),
            (pl.lit("place ") + pl.col("position").cast(pl.String)).alias("what"),
            pl.col("item_id").cast(pl.String).alias("arm"),
            pl.col("propensity_score").alias("propensity"),
            pl.col("click").cast(pl.Float64).alias("outcome"),
            pl.lit(path.stem).alias("source"),
        )
    )


def run(random: Exposures, own: Exposures, *, seed: int = 0) -> Slots:
    """Estimate from the log `random` what the policy behind the log `own` earns a view, and hold it against `own`.

    Only what `own` showed is used for the estimates, never what was clicked there: that is the truth beside them.
    About 1 CPU-second for twice 10,000 rows. Raises ModelError for what offpolicy.read refuses, and
    for an own log that is empty or lacks outcomes.
    """
    check(own, EXPOSURES, at="apply.slots")
    if not own.height or own["outcome"].null_count():
        raise ModelError(
            "apply.slots",
            found=f"{own['outcome'].null_count():,} of {own.height:,} rows of the policy's own log have no outcome",
            consequence="The estimate could not be held against the truth",
            remedy="Leave rows without outcome out of that log",
        )
    logged = offpolicy.read(random, shares(own))
    expected = offpolicy.cell_means(logged, seed=seed)
    told = offpolicy.estimate(logged, expected, seed=seed)
    clicks = own["outcome"].to_numpy()
    [truth] = bootstrap([lambda w: mean(clicks, weight=w)], len(clicks), seed=seed)
    base, difference = bootstrap(
        [
            lambda w: mean(logged.outcome, weight=w),
            lambda w: offpolicy.dr(logged, expected, weight=w) - mean(logged.outcome, weight=w),
        ],
        logged.outcome.size,
        seed=seed,
    )
    rows = [*told.select("estimator", "mean", "low", "high", "n").iter_rows()]
    rows += [(name, e.mean, e.low, e.high, e.n) for name, e in (("own_log", truth), ("random", base))]
    metrics = METRICS.shape(
        pl.DataFrame(rows, schema=["model", "mean", "low", "high", "n"], orient="row").with_columns(
            dataset=pl.lit(SOURCE),
            protocol=pl.lit("off-policy"),
            modalities=pl.lit(["exposures"]),
            slice=pl.lit("all"),
            metric=pl.lit("value"),
            seeds=pl.lit(1),
        )
    )
    decides = clear(vars(difference))
    counted = {"random": int(logged.outcome.sum()), "own_log": int(clicks.sum())}
    return Slots(
        title=TITLE,
        source=SOURCE,
        licence=LICENCE,
        verdict=_verdict(metrics, difference, decides, counted),
        metrics=metrics,
        difference=difference,
        decides=decides,
        clicks=counted,
        effective_n=float(told["effective_n"][0]),
    )


def shares(log: Exposures) -> pl.DataFrame:
    """Return what, arm, probability: how often the log's policy showed an arm in a place.

    Not the mean of the logged propensities: a policy that changes with time shows an arm mostly while its propensity
    is high, so the mean over the rows where it was shown is too large (in the Open Bandit log such means add up to
    2.3 in the first place); the share of the rows is the policy's mean over time without that bias.
    """
    counted = log.group_by("what", "arm").agg(n=pl.len()).sort("what", "arm")
    return counted.select("what", "arm", probability=pl.col("n") / pl.col("n").sum().over("what"))


def _verdict(metrics: Metrics, difference: Estimate, decides: bool, clicks: dict[str, int]) -> str:
    rows = {row["model"]: row for row in metrics.to_dicts()}
    said = (
        f"From {clicks['random']:,} clicks in {rows['random']['n']:,} views of random products the learning policy is "
        f"put at {rate(rows[BEST], 2)} of views clicked; its own log holds {rate(rows['own_log'], 2)}"
    )
    other = f"random products got {rate(rows['random'], 2)}"
    if decides:
        return f"{said}. That is {'more' if difference.mean > 0 else 'less'}, beyond doubt: {other}."
    return f"{said}. So few clicks cannot decide whether that is more: {other}."
