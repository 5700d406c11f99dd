"""A shortlist of a large catalogue beside the exact list: recall and milliseconds a question, one thread.

    python benchmarks/speed/retrieval.py [--items 1000000] [--width 64] [--customers 200] [--out FOLDER]

Made-up products around tastes, of lengths that differ as popularity does, and three columns of trends as the flagship
has them; questions of the same tastes. What is measured is the way of one question: the inverted file
(`habitue.serve.shortlist`), the products everybody buys and a sample beside it, scored and ranked; exact is the product
of the whole table and the question, ranked. Views in closed form are not part of it: they only add products. For each
number of cells that is looked into: recall@10 and @100 with 95 % intervals over the questions, median and p99.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl
from answer import commit, memory_mb

from habitue.core import runtime
from habitue.core.schemas import METRICS
from habitue.evaluate import bench, topk
from habitue.serve import shortlist

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]
TASTES = 2_000
NOISE = 1.0  # of a product around its taste, in standard deviations of the tastes
TRENDS = 3
LIST = 100


def planted(items: int, width: int, customers: int) -> tuple[Floats, Floats]:
    """Make products [I, E] and questions [Q, E]."""
    rng = np.random.default_rng(0)
    centre = rng.normal(size=(TASTES, width)).astype(np.float32)

    def around(count: int) -> Floats:
        found = centre[rng.integers(0, TASTES, count)]
        found += np.float32(NOISE) * rng.standard_normal((count, width), dtype=np.float32)
        found /= np.linalg.norm(found, axis=1, keepdims=True)
        return found

    table = around(items) * rng.lognormal(0, 0.2, (items, 1)).astype(np.float32)
    trends = 0.1 * rng.standard_normal((items, TRENDS), dtype=np.float32)
    asked = np.concatenate([8 * around(customers), np.ones((customers, TRENDS), dtype=np.float32)], axis=1)
    return np.concatenate([table, trends], axis=1), asked


def timed(ask: Callable[[Floats], Ints], asked: Floats) -> tuple[list[Ints], npt.NDArray[np.float64], float]:
    """Return each question's list, its milliseconds, and those of CPU a question."""
    lists, times, spent = [], [], time.process_time()
    for question in asked:
        began = time.perf_counter()
        found = ask(question)
        times.append(1000 * (time.perf_counter() - began))
        lists.append(found)
    return lists, np.array(times), 1000 * (time.process_time() - spent) / len(asked)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", type=int, default=1_000_000)
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--customers", type=int, default=200)
    parser.add_argument("--out", type=Path, help="folder for the JSON document")
    args = parser.parse_args()
    runtime.modest()
    table, asked = planted(args.items, args.width, args.customers)
    trend = np.random.default_rng(1).uniform(size=args.items).astype(np.float32)
    fits = np.ones(args.items, dtype=bool)
    rows: list[dict[str, object]] = []

    def row(model: str, what: str, metric: str, values: npt.NDArray[np.float64], mean: float) -> None:
        drawn = np.random.default_rng(0).choice(values, size=(1_000, len(values))).mean(axis=1)
        low, high = np.quantile(drawn, [0.025, 0.975]) if "recall" in metric else (None, None)
        about = {"dataset": f"planted {args.items:,} products x {args.width}", "protocol": "retrieval", "model": model}
        about |= {"modalities": [], "slice": what, "metric": metric, "mean": mean, "low": low, "high": high}
        rows.append(about | {"n": len(values), "seeds": 1, "cpu_s": None, "peak_mb": None})

    whole = np.asfortranarray(table)

    def exactly(question: Floats) -> Ints:
        return topk.best((whole @ question)[None], count=LIST)[0][0]

    with tempfile.TemporaryDirectory() as lost:
        began = time.process_time()
        shortlist.write(table, Path(lost), before=None)
        built = time.process_time() - began
        opened = shortlist.opened(Path(lost), trend)
        assert opened is not None, "pip install habitue[retrieval]"
        exactly(asked[0])
        exact, times, cpu = timed(exactly, asked)
        row("exact", "all", "CPU ms", times, cpu)
        row("exact", "all", "p50 ms", times, float(np.median(times)))
        row("exact", "all", "p99 ms", times, float(np.percentile(times, 99)))
        row("shortlist", "all", "CPU s to make", np.array([built]), built)
        for probes in shortlist.PROBES:
            tried = replace(opened, probes=probes)

            def shortened(question: Floats, tried: shortlist.Shortlist = tried) -> Ints:
                none = np.zeros(0, dtype=np.int64)
                chosen = shortlist.candidates(tried, question, [], fits=fits, count=LIST, more=none, raised=None)
                places = np.union1d(chosen, tried.sample)
                return places[topk.best((table[places] @ question)[None], count=LIST)[0][0]]

            shortened(asked[0])
            lists, times, cpu = timed(shortened, asked)
            row("shortlist", f"{probes} cells", "CPU ms", times, cpu)
            for n in (10, LIST):
                pairs = zip(exact, lists, strict=True)
                shares = np.array([np.isin(wanted[:n], found[:n]).mean() for wanted, found in pairs])
                row("shortlist", f"{probes} cells", f"recall@{n}", shares, float(shares.mean()))
            row("shortlist", f"{probes} cells", "p50 ms", times, float(np.median(times)))
            row("shortlist", f"{probes} cells", "p99 ms", times, float(np.percentile(times, 99)))
    peak = memory_mb(os.getpid(), "VmHWM")
    metrics = METRICS.shape(pl.DataFrame([one | {"peak_mb": peak} for one in rows], infer_schema_length=None))
    for one in metrics.iter_rows(named=True):
        print(f"{one['model']:<10} {one['slice']:<10} {one['metric']:<14} {one['mean']:.3f}")
    if args.out is not None:
        bench.write(metrics, args.out, commit=commit())


if __name__ == "__main__":
    main()
