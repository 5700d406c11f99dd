"""Q5: who of CDNOW's customers buys again in the second 39 weeks, and how often, from the first 39.

    HABITUE_DATA=... python benchmarks/quality/cdnow.py [--out benchmarks/quality]
    HABITUE_DATA=... python benchmarks/quality/cdnow.py --validation       91 days from 2 July 1997

2,357 customers, orders of a day are one. `clv` is BG/NBD: by the chance of no order, and by the orders expected, as it
is usually ranked; `clv, middle` foretells the middle of each customer's orders to come, from which the mean absolute
distance is least (the mean is for totals). `states`: the network of hidden states. `clv + states`: the geometric mean
of both counts. `own rate`: repeat orders a week so far; `nobody`: no order of anybody. No horizon of 39 weeks closes
before the cut, so models that learn from labels have none to learn from here; what came of shorter ones, and of more
networks, is in LOG.md, "trees" and "CDNOW once more".
"""

from __future__ import annotations

import argparse
import dataclasses
import datetime as dt
import os
import subprocess
import time
from pathlib import Path

import numpy as np
import polars as pl

from habitue import evaluate, prepare
from habitue.core.runtime import Runtime, forget_peak, peak_mb
from habitue.core.schemas import EVENTS, FEATURES, LABELS, PURCHASE
from habitue.evaluate import bench
from habitue.evaluate.measured import Measured, per_user
from habitue.model import clv, states
from habitue.model.past import Past, histories

TEST = (dt.datetime(1997, 10, 1, tzinfo=dt.UTC), 273)  # the moment, and the days after it
VALIDATION = (dt.datetime(1997, 7, 2, tzinfo=dt.UTC), 91)
UNTIL = dt.datetime(1998, 7, 1, tzinfo=dt.UTC)  # the record is complete up to here

Told = dict[str, tuple[np.ndarray | None, np.ndarray | None, float]]  # chance of no order, orders, CPU-seconds


def orders(folder: Path) -> pl.DataFrame:
    """Return EVENTS, one a customer and day."""
    text = (folder / "cdnow/cdnow_sample.txt").read_text(encoding="utf-8")
    rows = [line.split() for line in text.splitlines()]
    table = pl.DataFrame({"user_key": [int(r[1]) for r in rows], "day": [r[2] for r in rows],
                          "value": [float(r[4]) for r in rows]})  # fmt: skip
    days = table.group_by("user_key", "day").agg(pl.col("value").sum()).sort("user_key", "day")
    days = days.with_row_index("event_id").with_columns(
        at=pl.col("day").str.to_datetime("%Y%m%d", time_unit="us", time_zone="UTC"),
        line=0, kind=pl.lit(PURCHASE), item_id=pl.lit("CD"), quantity=1.0, price=pl.col("value"),
        currency=pl.lit("USD"), source=pl.lit("bench"), import_id=pl.lit("bench"),
    )  # fmt: skip
    return EVENTS.shape(days.drop("day"))


def known(events: pl.DataFrame, as_of: dt.datetime, days: int) -> Past:
    """Return what may be known at a moment."""
    seen, _ = prepare.split(events, as_of)
    history = histories(prepare.timeline(seen), ("CD",))
    everybody = np.ones(len(history.user_keys), dtype=bool)
    return Past(as_of, days, ("CD",), history, everybody, None, FEATURES.empty(), FEATURES.empty(), LABELS.empty())


def foretold(past: Past, days: int) -> Told:
    """Return what each model says of everybody."""
    told: Told = {}
    begun = time.process_time()
    rhythm = clv.fit(past, clv.Config(), runtime=Runtime())
    of = clv.customers(past, first_day=rhythm.first_day)
    weeks = days / clv.WEEK
    silent, expected = clv.no_order(rhythm.orders, of, weeks), clv.expected_orders(rhythm.orders, of, weeks)
    middle = clv.middle_orders(rhythm.orders, of, weeks)
    spent = time.process_time() - begun
    told["clv"] = silent, expected, spent
    told["clv, by orders"] = _falling(expected), None, spent
    told["clv, middle"] = None, middle, spent
    begun = time.process_time()
    chain = states.fit(past, states.Config(states=2), runtime=Runtime())
    now = states.belief(chain, past)
    left, count = ((now * part).sum((1, 2)) for part in states.forecast(chain.chain, days / chain.days))
    spent_too = time.process_time() - begun
    told["states"] = left, count, spent_too
    both = np.sqrt(expected * count)
    told["clv + states"] = _falling(both), both, spent + spent_too
    told["own rate"] = None, of.repeats / np.maximum(of.age, 1) * weeks, 0.0
    told["nobody"] = None, np.zeros(len(silent)), 0.0
    return told


def _falling(count: np.ndarray) -> np.ndarray:
    """Return what puts customers in the order of fewest orders first; it is no chance."""
    return 1 / (1 + count)


def measured(told: Told, past: Past, labels: pl.DataFrame, days: int) -> pl.DataFrame:
    """Return METRICS of every model."""
    keys = past.histories.user_keys
    actual = labels.sort("user_key")["orders"].to_numpy().astype(float)
    tables = []
    for model, (silent, count, spent) in told.items():
        found: list[Measured] = []
        if silent is not None:
            forecast = pl.DataFrame({"user_key": keys, "churn": silent})
            every = evaluate.churn(forecast, labels, keys, model=model)
            kept = ("auc", "log_loss", "brier", "ece") if model in ("clv", "states") else ("auc",)
            found += [one for one in every if one.metric in kept]
        if count is not None:
            off = per_user(f"churn-{days}d", model, "all", "mae", keys, np.abs(count - actual))
            found.append(dataclasses.replace(off, better="lower"))
        tables.append(evaluate.table(found, dataset="CDNOW", modalities=["events"], cpu_s=spent, peak_mb=peak_mb()))
    return pl.concat(tables)


def main() -> None:
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("--validation", action="store_true")
    asked.add_argument("--out", type=Path, default=Path(__file__).parent)
    options = asked.parse_args()
    if "HABITUE_DATA" not in os.environ:
        print("CDNOW is not measured: HABITUE_DATA is not set, and these data may not ship.")
        return
    forget_peak()
    events = orders(Path(os.environ["HABITUE_DATA"]))
    as_of, days = VALIDATION if options.validation else TEST
    past = known(events, as_of, days)
    labels = prepare.labels(events, as_of=as_of, horizon_days=days, users=past.histories.user_keys, until=UNTIL)
    table = measured(foretold(past, days), past, labels, days)
    with pl.Config(tbl_rows=-1, tbl_hide_dataframe_shape=True):
        print(table.select("model", "metric", "mean", "low", "high", "n", "cpu_s"))
    if not options.validation:
        commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=True)
        for path in bench.write(table, options.out, commit=commit.stdout.strip()):
            print(path)


if __name__ == "__main__":
    main()
