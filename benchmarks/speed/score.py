"""P3: ten products for every user from the whole catalogue, what they had masked, equal to sorting everything.

    HABITUE_DATA=... python benchmarks/speed/score.py [--repeats 5] [--out FOLDER]

Users per CPU-second: `behaviour` (no clock, newest 50 events, ids only, two passes of training) on Beauty from the
histories to the lists, and `als` on MovieLens-1M from its vectors to the lists. Beside them, in the same run: the
float32 product of all users and products alone, which a method without a shortcut cannot pass, and implicit's lists
from the same vectors. The lists of 512 users are held against sorting; a difference ends the run.
"""

from __future__ import annotations

import argparse
import os
import subprocess
from pathlib import Path

import polars as pl

from habitue.bench import files, speed
from habitue.core.runtime import detect, forget_peak
from habitue.evaluate import bench
from habitue.model import behaviour

STEPS = 256  # two passes over Beauty: the vectors are those of a model that has learnt


def beauty(past, seen, options, runtime):
    """Return what was measured of `behaviour`, and of implicit with its vectors."""
    state, timed = speed._behaviour(past, seen, options, runtime)
    answers = behaviour.answers(state, past)
    peer = speed._peer(answers.queries, answers.products, seen, options, runtime)
    return [*timed, speed._per_second("implicit recommend, vectors given", len(answers.queries), peer)]


SHAPES = {
    "Beauty": ("amazon_s3rec/Beauty_sequences.parquet", beauty),
    "ML-1M": ("ml1m/sequences_sasrec_order.parquet", speed._als),
}


def main() -> None:
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("--repeats", type=int, default=5)
    asked.add_argument("--out", type=Path, default=Path(__file__).parent)
    given = asked.parse_args()
    if "HABITUE_DATA" not in os.environ:
        print("Nothing measured: HABITUE_DATA is not set, and these data may not ship.")
        return
    runtime, tables = detect(device="cpu"), []
    for name, (file, measure) in SHAPES.items():
        forget_peak()
        events = files.read(Path(os.environ["HABITUE_DATA"]) / file, what=name)
        options = speed.Options(repeats=given.repeats, events=events, steps=STEPS)
        past = speed._past(options)
        timed = measure(past, speed._seen(past), options, runtime)
        for one in timed:
            low, high = min(one.values), max(one.values)
            print(
                f"{name}, {one.name}: {one.values[len(one.values) // 2]:,.0f} ({low:,.0f} to {high:,.0f}) {one.bound}"
            )
        table = speed.metrics(speed.Result(timed), dataset=name)
        tables.append(table.with_columns(protocol=pl.lit("P3 lists"), slice=pl.lit("all users")))
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=True)
    for path in bench.write(pl.concat(tables), given.out, commit=commit.stdout.strip()):
        print(path)


if __name__ == "__main__":
    main()
