"""P8: how long a program waits for Habitue to start, beside what it stands on.

    python benchmarks/speed/start.py [--repeats 15] [--out FOLDER]

Every row is the median wall time in seconds of a fresh interpreter, its files already in the page cache, with the
95 % interval of that median over 1,000 bootstraps of the runs. The commands take turns, so a busy moment of the
machine falls on all of them.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import polars as pl

from habitue.core.schemas import METRICS
from habitue.evaluate import bench

PYTHON = sys.executable
COMMANDS = {
    "python -c pass": [PYTHON, "-c", "pass"],
    "typer + rich": [PYTHON, "-c", "import typer, rich.console, rich.table"],
    "import habitue": [PYTHON, "-c", "import habitue"],
    "habitue --help": [PYTHON, "-c", "from habitue.cli import main; main()", "--help"],
}
LIMITS = {"import habitue": 0.15, "habitue --help": 0.40}


def measure(repeats: int) -> dict[str, list[tuple[float, float]]]:
    """Run every command `repeats` times, in turns; return (wall seconds, CPU-seconds) of each run."""
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in COMMANDS}
    for turn in range(repeats + 1):  # turn 0 fills the page cache and writes the byte code
        for name, command in COMMANDS.items():
            cpu = _children_cpu()
            start = time.perf_counter()
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
            if turn:
                times[name].append((time.perf_counter() - start, _children_cpu() - cpu))
    return times


def report(times: dict[str, list[tuple[float, float]]]) -> pl.DataFrame:
    """METRICS: one row a command."""
    rng = np.random.default_rng(0)
    rows = []
    for name, runs in times.items():
        wall = np.array([seconds for seconds, _ in runs])
        medians = np.median(rng.choice(wall, size=(1_000, len(wall))), axis=1)
        low, high = np.quantile(medians, [0.025, 0.975])
        cpu = statistics.median(seconds for _, seconds in runs)
        row = {"dataset": "none", "protocol": "P8 start", "model": name, "modalities": [], "slice": "all"}
        row |= {"metric": "median seconds", "mean": float(np.median(wall)), "low": float(low), "high": float(high)}
        rows.append(row | {"n": len(runs), "seeds": 1, "cpu_s": cpu})
    return METRICS.shape(pl.DataFrame(rows))


def _children_cpu() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=15, help="runs of each command (default 15)")
    parser.add_argument("--out", type=Path, help="folder for none-p8-start.json")
    args = parser.parse_args()
    metrics = report(measure(args.repeats))
    for row in metrics.iter_rows(named=True):
        limit = f"  limit {LIMITS[row['model']]:.2f}" if row["model"] in LIMITS else ""
        print(f"{row['model']:<16} {row['mean']:.3f} s  ({row['low']:.3f} to {row['high']:.3f}){limit}")
    if args.out is not None:
        head = ["git", "rev-parse", "HEAD"]
        commit = subprocess.run(head, cwd=Path(__file__).parent, capture_output=True, text=True, check=True)
        bench.write(metrics, args.out, commit=commit.stdout.strip())


if __name__ == "__main__":
    main()
