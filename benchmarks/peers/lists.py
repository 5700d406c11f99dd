"""P3: ten products for every user from the whole catalogue, what they had masked, ours and three peers' in one run.

    HABITUE_DATA=... python benchmarks/peers/lists.py [--envs ~/peer-envs] [--repeats 5] [--out FOLDER]

Users per CPU-second on Beauty and MovieLens-1M, one thread, after fits that are not timed. Ours: `behaviour` (no clock,
newest 50 events, ids only, 256 steps of training) from the histories to the lists, and `als` from its vectors. Peers:
implicit's ALS (64 factors, 3 iterations) and its neighbours (cosine, the 200 nearest), each by its own `recommend`, and
RecTools' SASRec (width 64, 2 heads, 2 blocks, newest 50 events) in an environment of its own below --envs (run.py).
Bound: the float32 product of all users and products alone, which a method without a shortcut cannot pass. 512 of our
lists are held against sorting everything; a difference ends the run. No --envs: no row of RecTools, and it is said.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import tempfile
import warnings
from dataclasses import replace
from functools import partial
from pathlib import Path

import implicit
import numpy as np
import polars as pl
import scipy.sparse as sp
from implicit.utils import ParameterWarning
from run import driven, installed, last, rows_of

from habitue.bench import files, speed
from habitue.core.runtime import Runtime, detect, forget_peak
from habitue.evaluate import bench
from habitue.model.past import Past

HERE = Path(__file__).parent
SETS = {"Beauty": "amazon_s3rec/Beauty_sequences.parquet", "ML-1M": "ml1m/sequences_sasrec_order.parquet"}
STEPS = 256  # of training: the vectors are those of a model that has learnt
WINDOW = 50
NEAREST = 200
RECTOOLS = "rectools-torch"


def ours(past: Past, seen: sp.csr_matrix, options: speed.Options, runtime: Runtime) -> list[speed.Timed]:
    """Return what was measured of `behaviour` and of `als`, implicit's lists from the vectors of ours beside it."""
    timed = speed._behaviour(past, seen, options, runtime)[1]
    return [*timed, *speed._als(past, seen, options, runtime)]


def neighbours(seen: sp.csr_matrix, options: speed.Options, runtime: Runtime) -> list[speed.Timed]:
    """Return implicit's ALS and neighbours, each fitted on `seen` [B, I] and asked for everybody's ten."""
    everyone, told = np.arange(seen.shape[0]), []
    for name, model in (
        ("implicit ALS", implicit.als.AlternatingLeastSquares(factors=64, iterations=3, num_threads=runtime.threads)),
        ("implicit neighbours", implicit.nearest_neighbours.CosineRecommender(K=NEAREST, num_threads=runtime.threads)),
    ):
        forget_peak()
        with warnings.catch_warnings(category=ParameterWarning, action="ignore"):  # it gives its own cosine no CSR
            model.fit(seen, show_progress=False)
        lists = partial(model.recommend, everyone, seen, N=speed.LIST, filter_already_liked_items=True)
        told.append(speed._per_second(name, len(everyone), speed._repeated(lists, options.repeats)[0]))
    return told


def rectools(past: Past, repeats: int, envs: Path) -> list[speed.Timed]:
    """Return RecTools' SASRec, in a process of its own; [] = it failed, and it is said."""
    with tempfile.TemporaryDirectory() as folder:
        given = Path(folder) / "given.npz"
        np.savez(given, **rows_of(past, "fit"))
        done = driven(envs / RECTOOLS, "drive_rectools_lists.py", given, WINDOW, speed.LIST, repeats)
        if done.returncode:
            print(f"RecTools: failed: {last(done.stderr)}", flush=True)
            return []
        told = json.loads(done.stdout.strip().splitlines()[-1])
        one = speed._per_second(f"RecTools SASRec, window {WINDOW}", told["users"], told["cpu_s"])
        return [replace(one, peak_mb=told["peak_mb"])]


def main() -> None:
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("--envs", type=Path)
    asked.add_argument("--repeats", type=int, default=5)
    asked.add_argument("--out", type=Path, default=HERE.parent / "speed")
    given = asked.parse_args()
    if "HABITUE_DATA" not in os.environ:
        print("Nothing measured: HABITUE_DATA is not set, and these data may not ship.")
        return
    failed = installed(RECTOOLS, given.envs) if given.envs else "no --envs to install it in"
    if failed:
        print(f"RecTools: {failed}")
    runtime, tables = replace(detect(device="cpu"), threads=1), []
    for name, file in SETS.items():
        events = files.read(Path(os.environ["HABITUE_DATA"]) / file, what=name)
        options = speed.Options(repeats=given.repeats, events=events, steps=STEPS)
        past = speed._past(options)
        seen = speed._seen(past)
        forget_peak()
        timed = [*ours(past, seen, options, runtime), *neighbours(seen, options, runtime)]
        if not failed:
            timed += rectools(past, given.repeats, given.envs)
        for one in timed:
            low, high = min(one.values), max(one.values)
            print(
                f"{name}, {one.name}: {statistics.median(one.values):,.0f} ({low:,.0f} to {high:,.0f}) {one.bound}",
                flush=True,
            )
        table = speed.metrics(speed.Result(timed), dataset=name)
        tables.append(table.with_columns(protocol=pl.lit("P3 lists"), slice=pl.lit("all users")))
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=True)
    for path in bench.write(pl.concat(tables), given.out, commit=commit.stdout.strip()):
        print(path)


if __name__ == "__main__":
    main()
