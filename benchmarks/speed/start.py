"""P8: how long a program waits for Habitue to start, beside what it stands on.

    python benchmarks/speed/start.py [--repeats 15] [--out start.json]

Every row is the median wall time in seconds of a fresh interpreter, files already in the page cache; `low` and `high`
are the quartiles. The commands take turns, so a busy moment of the machine falls on all of them.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path

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


def report(times: dict[str, list[tuple[float, float]]]) -> dict[str, object]:
    """Put the times into the schema every benchmark of the project writes."""
    rows = []
    for name, runs in times.items():
        low, median, high = statistics.quantiles([wall for wall, _ in runs], n=4, method="inclusive")
        cpu = statistics.median(cpu for _, cpu in runs)
        row = {"model": name, "fusion": None, "modalities": [], "slice": "all", "metric": "seconds", "mean": median}
        row |= {"low": low, "high": high, "n": len(runs), "seeds": 1, "cpu_s": cpu, "peak_mb": None}
        rows.append({key: round(value, 4) if isinstance(value, float) else value for key, value in row.items()})
    commit = subprocess.run(
        ["git", "rev-parse", "HEAD"], cwd=Path(__file__).parent, capture_output=True, text=True, check=False
    )
    return {
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores",
        "commit": commit.stdout.strip() or None,
        "versions": {"python": platform.python_version()} | {p: version(p) for p in ("habitue", "typer", "rich")},
        "dataset": "none",
        "protocol": "P8 start: median wall time of a fresh interpreter; low and high are the quartiles",
        "rows": rows,
    }


def _children_cpu() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=15, help="runs of each command (default 15)")
    parser.add_argument("--out", type=Path, help="write the JSON here as well")
    args = parser.parse_args()
    result = report(measure(args.repeats))
    for row in result["rows"]:  # type: ignore[attr-defined]
        limit = f"  limit {LIMITS[row['model']]:.2f}" if row["model"] in LIMITS else ""
        print(f"{row['model']:<16} {row['mean']:.3f} s  ({row['low']:.3f} to {row['high']:.3f}){limit}")
    if args.out is not None:
        args.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
