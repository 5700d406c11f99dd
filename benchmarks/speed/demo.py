"""P9: the whole demo as its user runs it: wall seconds, CPU-seconds and peak memory of `habitue demo`.

    python benchmarks/speed/demo.py [--repeats 1] [--out benchmarks/speed]

Run it on an idle machine with the files already in the page cache.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import polars as pl

from habitue.core.schemas import METRICS
from habitue.evaluate import bench

HABITUE = str(Path(sys.executable).with_name("habitue"))


def once() -> tuple[float, float, float]:
    """Return (wall seconds, CPU-seconds, peak MB) of one demo."""
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        process = subprocess.Popen([HABITUE, "demo", "--workspace", f"{folder}/shop"], stdout=subprocess.DEVNULL)
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - start
    if status:
        raise SystemExit(f"habitue demo ended with {os.waitstatus_to_exitcode(status)}")
    peak = usage.ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)
    return seconds, usage.ru_utime + usage.ru_stime, peak


def main() -> None:
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("--repeats", type=int, default=1)
    asked.add_argument("--out", type=Path, default=Path(__file__).parent)
    options = asked.parse_args()
    wall, cpu, peak = (list(values) for values in zip(*(once() for _ in range(options.repeats)), strict=True))
    row = {"dataset": "Online Retail", "protocol": "P9 demo", "model": "habitue demo", "modalities": [], "slice": "all"}
    row |= {"metric": "median seconds", "mean": statistics.median(wall), "n": options.repeats, "seeds": 1}
    row |= {"cpu_s": statistics.median(cpu), "peak_mb": max(peak)}
    table = METRICS.shape(pl.DataFrame([row], schema_overrides={"modalities": pl.List(pl.String)}))
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=True)
    for path in bench.write(table, options.out, commit=commit.stdout.strip()):
        print(path, f"{statistics.median(wall):.0f} s wall, {statistics.median(cpu):.0f} CPU-s, {max(peak):,.0f} MB")


if __name__ == "__main__":
    main()
