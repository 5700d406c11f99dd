"""P1 with peers beside it: targets per CPU-second of three libraries' SASRec and of the flagship, in one run.

    HABITUE_DATA=... python benchmarks/peers/pace.py --envs ~/peer-envs [--repeats 3] [--peers rectools,replay,recbole]

Width 64, 2 heads, 2 blocks, one thread; full softmax on the newest 50 events (Beauty) and 200 (MovieLens-1M), and a
loss with 32 sampled negatives (gBCE) on 20 and 100, which RecTools alone has. A target is an event that is foretold;
padding is none. A library that cannot be installed or fails is named with its last words, and has no row.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
from run import driven, installed, last, rows_of

from habitue.bench import files, protocols, sequences
from habitue.core.runtime import detect, peak_mb
from habitue.core.schemas import METRICS
from habitue.evaluate import bench
from habitue.model import behaviour
from habitue.model.lessons import drawn, lessons

HERE = Path(__file__).parent
OUT = HERE.parent / "speed"
CASES = {  # file, then by loss the newest events and the steps of a peer that are timed
    "Beauty": ("amazon_s3rec/Beauty_sequences.parquet", {"softmax": (50, 4), "gBCE": (20, 40)}),
    "ML-1M": ("ml1m/sequences_sasrec_order.parquet", {"softmax": (200, 4), "gBCE": (100, 16)}),
}
PEERS = {  # environment, script, losses
    "rectools": ("rectools-torch", "drive_rectools_pace.py", ("softmax", "gBCE")),
    "replay": ("replay", "drive_replay_pace.py", ("softmax",)),
    "recbole": ("recbole", "drive_recbole_pace.py", ("softmax",)),
}
STEPS, WARM = 40, 5  # ours


def main() -> int:
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("--envs", type=Path, default=Path("peer-envs"))
    asked.add_argument("--repeats", type=int, default=3)
    asked.add_argument("--peers", default=",".join(PEERS), help="by commas")
    options = asked.parse_args()
    if "HABITUE_DATA" not in os.environ:
        print("Nothing measured: HABITUE_DATA is not set, and these data may not ship.")
        return 0
    there = []
    for name in options.peers.split(","):
        failed = installed(PEERS[name][0], options.envs) if name in PEERS else f"known: {', '.join(PEERS)}"
        if failed:
            print(f"{name}: {failed}")
        else:
            there.append(name)
    rows = []
    for name, (file, losses) in CASES.items():
        data = sequences.read(files.read(Path(os.environ["HABITUE_DATA"]) / file, what=name))
        test = protocols.leave_one_out(data, protocols.Settings()).test
        for loss, (window, steps) in losses.items():
            timed = [one for one in there if loss in PEERS[one][2]]
            told: dict[str, list[float]] = {}
            for _ in range(options.repeats):  # in turn: the machine may be slower now than it was
                for one in timed:
                    told.setdefault(f"{one}-sasrec", []).extend(peer(one, test, loss, window, steps, options.envs))
                told.setdefault("behaviour", []).append(ours(test, loss.lower(), window))
            told = {model: paces for model, paces in told.items() if paces}
            for model, paces in told.items():
                row = {"dataset": name, "protocol": "P1 peers", "model": model, "modalities": ["events"]}
                row |= {"slice": f"{loss}, window {window}", "metric": "targets per CPU-second", "seeds": 1}
                row |= {"mean": statistics.median(paces), "low": min(paces), "high": max(paces)}
                rows.append(row | {"n": len(paces), "peak_mb": peak_mb() if model == "behaviour" else None})
            print(name, loss, {model: round(statistics.median(paces)) for model, paces in told.items()}, flush=True)
    table = METRICS.shape(pl.DataFrame(rows, schema_overrides={"modalities": pl.List(pl.String)}))
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=True)
    for path in bench.write(table, OUT, commit=commit.stdout.strip()):
        print(path)
    return 0


def peer(name: str, test: protocols.Question, loss: str, window: int, steps: int, envs: Path) -> list[float]:
    """Return [targets per CPU-second] of a peer's SASRec, in a process of its own; [] = it failed, and it is said."""
    environment, script, _ = PEERS[name]
    with tempfile.TemporaryDirectory() as folder:
        given = Path(folder) / "given.npz"
        np.savez(given, **rows_of(test.fit, "fit"))
        done = driven(envs / environment, script, given, loss, window, steps)
        if done.returncode:
            print(f"{name}: failed: {last(done.stderr)}", flush=True)
            return []
        told = json.loads(done.stdout.strip().splitlines()[-1])
        return [float(told["targets"] / told["cpu_s"])]


def ours(test: protocols.Question, loss: str, window: int) -> float:
    """Return targets per CPU-second of whole steps of the flagship, its batches included, nothing teaching it."""
    runtime = replace(detect(device="cpu"), threads=1)
    config = replace(behaviour.SEQUENCE, taught=0.0, loss=loss, window=window, steps=STEPS + WARM, passes=1e6)
    clock: list[float] = []
    behaviour.fit(test.fit, config, runtime=runtime, progress=lambda *_: clock.append(time.process_time()))
    asked = lessons(test.fit, clock=False)
    a_pass, _ = drawn(asked, window=window, questions=config.questions, clock=False, seed=runtime.seed)
    return STEPS * len(asked.target) / a_pass / (clock[-1] - clock[WARM - 1])


if __name__ == "__main__":
    sys.exit(main())
