"""Do invented rows of the rare class help? Beside rare rows repeated, and beside nothing, on visits of which 15 % buy.

    python benchmarks/quality/generated.py [--out benchmarks/quality]

4,000 visits of Online Shoppers, 3 folds, `linear` and `boosting`: as they are, rare rows repeated (`over`), invented
between neighbours (SMOTE), invented by a mixture; and the same where only a tenth of the buyers of training is left
(1.8 %). AUC, average precision, and F1 at the threshold that is best on a fifth of training held back, which is neither
learnt nor balanced. Then how true and how private the invented buyers are: `prepare.generate.check` against those of
the fold that is asked.
$HABITUE_DATA. Writes generated-online-shoppers.json; nothing is chosen here.
"""

from __future__ import annotations

import argparse
import dataclasses
import time
from pathlib import Path

import ground
import numpy as np
import polars as pl

from habitue import evaluate
from habitue.bench.tasks import Columns, reading
from habitue.core import metrics, runtime
from habitue.evaluate import bench
from habitue.evaluate.measured import Measured
from habitue.model.tabular import Clock, Table, Target, boosting, deal, linear
from habitue.prepare import balance, generate

DATASET, PROTOCOL = "Online Shoppers", "rare buyers, 3 folds"
NAMES = ("OperatingSystems", "Browser", "Region", "TrafficType")
WAYS = ("as they are", "repeated", "neighbours", "mixture")
MODELS = {"linear": linear, "boosting": boosting}
FOLDS = 3


def learnt_from(way: str, table: Table, target: Target) -> tuple[Table, Target]:
    """Return the rows of training after one way of balancing."""
    if way == "as they are":
        return table, target
    if way == "repeated":
        rows = balance.rows(target.values)
        return table.take(rows), target.take(rows)
    frame, values = generate.balanced(table.frame, target.values, generate.Config(method=way))
    return Table(frame), dataclasses.replace(target, values=np.asarray(values))


def main() -> None:
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("--rows", type=int, default=4_000, help="visits, drawn by seed 1")
    asked.add_argument("--out", type=Path, default=Path(__file__).parent)
    options = asked.parse_args()
    home = ground.tables()
    path = Path(home, "online_shoppers/online_shoppers.parquet")
    data = reading.read(path, Columns("Revenue", categories=NAMES), task="purchase")
    some = np.sort(np.random.default_rng(1).permutation(data.table.height)[: options.rows])
    table, target = data.table.take(some), data.target.take(some)
    fold = deal(target, FOLDS, seed=0)
    buys, run = target.values == 1, runtime.detect()
    tables, gaps = [], []
    for slice_, left in (("15 % buy", 1.0), ("1.8 % buy", 0.1)):
        kept = ~buys | (np.random.default_rng(0).random(buys.size) < left)
        for name, model in MODELS.items():
            told = []
            for way in WAYS:
                began = time.process_time()
                said, guess = np.zeros(buys.size), np.zeros(buys.size, dtype=np.int64)
                for k in range(FOLDS):
                    learn, held = np.flatnonzero((fold != k) & kept), np.flatnonzero(fold == k)
                    late = deal(target.take(learn), 5, seed=100 + k) == 0
                    lesson = learnt_from(way, table.take(learn[~late]), target.take(learn[~late]))
                    state = model.fit(*lesson, model.Config(), runtime=run, clock=Clock())
                    share = model.answer(state, table.take(learn[late]))[:, 1]
                    cut, _ = metrics.best_threshold(target.values[learn[late]], share)
                    said[held] = model.answer(state, table.take(held))[:, 1]
                    guess[held] = said[held] >= cut
                told.append((f"{name}, {way}", said, guess, time.process_time() - began))
            several = [row for one in told for row in rows_of(*one[:3], target.values, slice_)]
            for one in told:
                some = [m for m in several if m.model == one[0]]
                tables.append(evaluate.table(some, dataset=DATASET, modalities=("table",), draws=100, cpu_s=one[3]))
            gaps.append(evaluate.compare(several, against=f"{name}, as they are", draws=100))
            print(
                slice_,
                name,
                gaps[-1].filter(pl.col("metric") == "auc").select("model", "mean", "low", "high"),
                flush=True,
            )
    document = bench.document(pl.concat(tables), commit=ground.commit())
    every = pl.concat(gaps)
    better = every.filter(pl.col("low") > 0)
    found = "; ".join(f"{m} ({s}, {metric})" for m, s, metric in better.select("model", "slice", "metric").iter_rows())
    document["sentence"] = f"Clearly better than rows as they are: {found or 'nothing'}."
    document["differences"] = every.drop("protocol").to_dicts()
    learn, held = ((fold != 0) & buys), ((fold == 0) & buys)
    train, real = (table.frame.filter(pl.Series(rows)) for rows in (learn, held))
    document["check"] = {
        way: dataclasses.asdict(
            generate.check(
                train,
                generate.draw(train, real.height, generate.Config(method=way), np.random.default_rng(0)),
                real,
            )
        )
        for way in generate.METHODS
    }
    print(bench.save(document, options.out / "generated-online-shoppers.json"), document["sentence"], document["check"])


def rows_of(model: str, said: np.ndarray, guess: np.ndarray, truth: np.ndarray, slice_: str) -> list[Measured]:
    several = {
        "auc": lambda w: metrics.auc(truth, said, weight=w),
        "ap": lambda w: metrics.average_precision(truth, said, weight=w),
        "f1": lambda w: metrics.f1(truth, guess, weight=w),
    }
    rows = np.arange(truth.size)
    return [Measured(PROTOCOL, model, slice_, name, rows, of, "higher") for name, of in several.items()]


if __name__ == "__main__":
    main()
