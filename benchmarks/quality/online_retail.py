"""Q4: every model on the bundled ledger, forecast on 9 September 2011 and held against the 92 days after it.

    python benchmarks/quality/online_retail.py [--seeds 1] [--out benchmarks/quality]

Writes one JSON document for each of BASKET, churn and value: what the shop's own forecast shows, and OTHERS, which rank
too. With several seeds the means of the models that draw (networks, blend, trees) are averaged over them; the intervals
are those of the first seed, over customers.
"""

from __future__ import annotations

import argparse
import dataclasses
import subprocess
import tempfile
import time
from pathlib import Path

import polars as pl

from habitue import collect, pipeline
from habitue.collect import bundled
from habitue.core import runtime, workspace
from habitue.core.schemas import METRICS, Metrics
from habitue.demonstration import CUT, SEASON
from habitue.evaluate import bench
from habitue.plan import Plan

DATASET = "Online Retail"
OTHERS = ("als", "graph", "vae", "gru", "cnn")  # at their defaults


def measure(seed: int) -> Metrics:
    """Forecast and judge once."""
    plan = Plan(seed=seed, season=SEASON)
    machine = runtime.detect(seed=seed)
    with tempfile.TemporaryDirectory() as folder:
        space = workspace.init(Path(folder) / "shop", currency="GBP")
        ledger, launches = bundled.ledger(), bundled.launches()
        collect.import_file(space, launches.file, launches.mapping, seed=seed)
        collect.import_file(space, ledger.file, ledger.mapping, seed=seed)
        tables = pipeline.read(space, plan)
    past, titles = pipeline.look_back(tables, as_of=CUT, plan=plan)
    cost: dict[str, float] = {}
    state = pipeline.fit(past, plan, runtime=machine, cost=cost)
    forecast = pipeline.foresee(past, titles, state=state, cost=cost)
    ranks, spent = dict(forecast.ranks), dict(forecast.cpu_s)
    for name in OTHERS:
        model, begun = pipeline.model_named(name), time.process_time()
        fitted = model.fit(past, model.Config(), runtime=machine)
        ranks[name] = model.score(fitted, forecast.past)
        spent[name] = round(time.process_time() - begun, 2)
    forecast = dataclasses.replace(forecast, ranks=ranks, cpu_s=spent)
    return pipeline.judge(forecast, tables, plan=plan, dataset=DATASET, runtime=machine).metrics


def main() -> None:
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("--seeds", type=int, default=1)
    asked.add_argument("--out", type=Path, default=Path(__file__).parent)
    options = asked.parse_args()
    runs = [measure(seed) for seed in range(options.seeds)]
    keys = ["protocol", "model", "slice", "metric"]
    means = pl.concat(runs).group_by(keys).agg(pl.col("mean").mean().alias("over_seeds"))
    table = runs[0].join(means, on=keys, how="left", maintain_order="left")
    table = table.with_columns(mean="over_seeds", seeds=pl.lit(options.seeds, dtype=pl.Int32))
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=True)
    for path in bench.write(METRICS.shape(table.drop("over_seeds")), options.out, commit=commit.stdout.strip()):
        print(path)
    shown = table.filter(pl.col("metric").is_in(["ndcg@10", "hit@10", "auc", "mae", "spearman", "bias"]))
    with pl.Config(tbl_rows=-1, tbl_hide_dataframe_shape=True):
        print(shown.select("protocol", "model", "slice", "metric", "mean", "low", "high", "n", "cpu_s"))


if __name__ == "__main__":
    main()
