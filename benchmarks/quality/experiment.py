"""What two e-mails brought a real shop: Hillstrom's test, by the code of `habitue apply experiment`.

    python benchmarks/quality/experiment.py

Data: $HABITUE_DATA/hillstrom (docs/data.md). Each row is a difference from "No E-Mail" a customer, with the interval
that holds at every look; CUPED reads what customers had spent in the year before.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import polars as pl

from habitue.core.runtime import peak_mb
from habitue.evaluate import bench, experiment

OUT = Path(__file__).parent / "experiment-hillstrom.json"
CONTROL = "No E-Mail"


def main() -> int:
    if "HABITUE_DATA" not in os.environ:
        print("Nothing measured: HABITUE_DATA is not set, and these data may not ship.")
        return 0
    table = pl.read_parquet(Path(os.environ["HABITUE_DATA"]) / "hillstrom" / "hillstrom.parquet")
    rows = []
    for outcome in ("visit", "conversion", "spend"):
        started = time.process_time()
        users = table.select(arm="segment", outcome=outcome, before="history")
        found = experiment.compare(users, control=CONTROL)
        cpu = time.process_time() - started
        print(*found.sentences, sep="\n")
        rows += [
            {
                "model": row["arm"],
                "fusion": None,
                "modalities": ["behaviour"],
                "slice": "all",
                "metric": f"{outcome} a customer",
                "mean": row["difference"],
                "low": row["always_low"],
                "high": row["always_high"],
                "n": row["users"] + found.arms["users"][0],
                "seeds": 1,
                "cpu_s": cpu,
                "peak_mb": peak_mb(),
            }
            for row in found.arms.slice(1).iter_rows(named=True)
        ]
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=True)
    bench.save(bench.header("Hillstrom", "e-mail test, two weeks", commit=commit.stdout.strip()) | {"rows": rows}, OUT)
    return 0


if __name__ == "__main__":
    sys.exit(main())
