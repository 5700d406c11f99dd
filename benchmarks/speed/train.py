"""P1: how fast the flagship trains, and how much of that it takes to be as good as a published sequence model.

    HABITUE_DATA=... python benchmarks/speed/train.py [--repeats 3] [--steps 40] [--out FOLDER]

Two numbers a data set. Targets per CPU-second of a training step of the usual shape (width 64, 2 heads, 2 blocks, full
softmax; the newest 50 events on Beauty, 200 on MovieLens-1M), whole steps with their batches; the bound beside it is
what the multiplications of a step would allow at this machine's float32 rate, were they all that it did. And
CPU-seconds of the whole fit until leave-one-out NDCG@10 passes that of a SASRec of a well-known library after 314 and
569 CPU-seconds (.0374 and .1358): the fit is made anew with 1, 2, 3, ... passes until it does, ids only. The network
alone: no closed form teaches it, as none taught the other.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from habitue.bench import files, protocols, sequences
from habitue.bench.speed import _rate as float32_rate
from habitue.core import metrics
from habitue.core.runtime import Runtime, detect, forget_peak, peak_mb
from habitue.core.schemas import METRICS
from habitue.evaluate import bench
from habitue.model import behaviour
from habitue.model.lessons import drawn, lessons

SHAPES = {  # file, newest events, NDCG@10 to pass
    "Beauty": ("amazon_s3rec/Beauty_sequences.parquet", 50, 0.0374),
    "ML-1M": ("ml1m/sequences_sasrec_order.parquet", 200, 0.1358),
}
ALONE = replace(behaviour.SEQUENCE, taught=0.0)
WARM = 5  # steps that are not timed
LONGEST = 8  # passes


def pace(question: protocols.Question, window: int, steps: int, runtime: Runtime) -> tuple[float, float]:
    """Return targets per CPU-second of a step, and CPU-seconds timed."""
    config = replace(ALONE, window=window, steps=steps + WARM, passes=1e6)
    clock: list[float] = []
    behaviour.fit(question.fit, config, runtime=runtime, progress=lambda *_: clock.append(time.process_time()))
    spent = clock[-1] - clock[WARM - 1]
    asked = lessons(question.fit, clock=False)
    a_pass, _ = drawn(asked, window=window, questions=config.questions, clock=False, seed=runtime.seed)
    return steps * len(asked.target) / a_pass / spent, spent


def allowed(question: protocols.Question, window: int) -> float:
    """Return targets a second, were a step nothing but its products in float32: 6 numbers a weight and target."""
    width, blocks = behaviour.SEQUENCE.width, behaviour.SEQUENCE.blocks
    length = np.minimum(np.diff(question.fit.histories.set_start), window)
    attended = 2 * width * float((length**2).sum() / length.sum())  # scores and mixing
    weights = len(question.fit.items) * width + blocks * (12 * width**2 + attended)
    return float32_rate() / (6 * weights)


def quality(task: protocols.Task, passes: int, window: int, runtime: Runtime) -> tuple[float, float]:
    """Return NDCG@10 of the test, and CPU-seconds of the fit."""
    started = time.process_time()
    state = behaviour.fit(task.test.fit, replace(ALONE, window=window, passes=passes), runtime=runtime)
    spent = time.process_time() - started
    relevant, had = task.test.slices["all"]
    users = np.flatnonzero(np.diff(relevant.indptr))
    found = []
    for start in range(0, len(users), 1024):
        some = users[start : start + 1024]
        scores = behaviour.score(state, task.test.ask.take(some))
        found.append(metrics.ndcg_at(metrics.places(scores, relevant[some], masked=had[some]), 10))
    return float(np.concatenate(found).mean()), spent


def main() -> None:
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("--repeats", type=int, default=3)
    asked.add_argument("--steps", type=int, default=40)
    asked.add_argument("--out", type=Path, default=Path(__file__).parent)
    options = asked.parse_args()
    if "HABITUE_DATA" not in os.environ:
        print("Nothing measured: HABITUE_DATA is not set, and these data may not ship.")
        return
    runtime, rows = detect(device="cpu"), []
    for name, (file, window, goal) in SHAPES.items():
        data = sequences.read(files.read(Path(os.environ["HABITUE_DATA"]) / file, what=name))
        task = protocols.leave_one_out(data, protocols.Settings())
        base: dict[str, Any] = {"dataset": name, "protocol": "P1 training", "model": "behaviour"}
        base |= {"modalities": ["events"], "seeds": 1}
        forget_peak()
        paces = [pace(task.test, window, options.steps, runtime) for _ in range(options.repeats)]
        speeds = [speed for speed, _ in paces]
        timed = base | {"slice": f"window {window}", "n": options.repeats, "peak_mb": peak_mb()}
        timed |= {"cpu_s": statistics.median(spent for _, spent in paces)}
        rows.append(
            timed
            | {"metric": "targets per CPU-second", "mean": statistics.median(speeds)}
            | {"low": min(speeds), "high": max(speeds)}
        )
        rows.append(timed | {"metric": "the same in float32 products alone", "mean": allowed(task.test, window)})
        for passes in range(1, LONGEST + 1):
            reached, spent = quality(task, passes, window, runtime)
            told = base | {"slice": f"{passes} passes", "n": len(data.users), "cpu_s": spent, "peak_mb": peak_mb()}
            rows.append(told | {"metric": "ndcg@10", "mean": reached})
            print(f"{name}, {passes} passes: NDCG@10 {reached:.4f} after {spent:.0f} CPU-seconds", flush=True)
            if reached >= goal:
                break
    table = METRICS.shape(pl.DataFrame(rows, schema_overrides={"modalities": pl.List(pl.String)}))
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=True)
    for path in bench.write(table, options.out, commit=commit.stdout.strip()):
        print(path)


if __name__ == "__main__":
    main()
