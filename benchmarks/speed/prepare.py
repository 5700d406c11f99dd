"""P6 and P10: visits (30 minutes) and per-user totals over a lake, bucket by bucket, against DuckDB on the same files.

    python benchmarks/speed/prepare.py [--rows 1000000 10000000] [--repeats 3] [--out benchmarks/speed] [--keep FOLDER]

Events are made by replication: a million of planted clicks of 50,000 users, then the next million of others. A bucket
holds 125,000 events whatever the size, so the memory should be flat and the time linear. Every measurement is a process
of its own on one thread, after one run that fills the page cache; the two programs take turns and must agree to the
digit. What is counted: from the lake's files to one row a user in memory. Times are CPU-seconds (and wall seconds), so
that a busy machine disturbs them little.
"""

from __future__ import annotations

import argparse
import datetime as dt
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from habitue.bench.speed import DUCKDB, _agree, _clicks
from habitue.core.lake import open_lake
from habitue.core.runtime import peak_mb
from habitue.core.schemas import EVENTS, METRICS
from habitue.evaluate import bench
from habitue.prepare import buckets

CHUNK, BUCKET = 1_000_000, 125_000
DATASET, PROTOCOL = "Planted clicks", "P6 prepare"
GAP = dt.timedelta(minutes=30)
PROGRAMS = ("habitue", "duckdb")
ONE_THREAD = {name: "1" for name in ("POLARS_MAX_THREADS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS")}


def main() -> None:
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("--rows", type=int, nargs="+", default=[1_000_000, 10_000_000])
    asked.add_argument("--repeats", type=int, default=3)
    asked.add_argument("--out", type=Path, default=Path(__file__).parent)
    asked.add_argument("--keep", type=Path, help="folder for the lakes; what is there is used again")
    asked.add_argument("--child", nargs=3, metavar=("WHAT", "LAKE", "ROWS"), help=argparse.SUPPRESS)
    options = asked.parse_args()
    if options.child:
        what, lake, rows = options.child
        print(json.dumps(make(Path(lake), int(rows)) if what == "make" else measure(what, Path(lake), int(rows))))
        return
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.keep or Path(temporary)
        told = {rows: _size(folder, rows, options.repeats) for rows in options.rows}
    commit = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=True).stdout.strip()
    for path in bench.write(table(told), options.out, commit=commit):
        print(path)


def make(folder: Path, rows: int) -> dict[str, Any]:
    """Write `rows` events into a lake, a million at a time, and merge the small files."""
    lake = open_lake(folder, buckets=max(1, rows // BUCKET))
    for part in range(max(1, rows // CHUNK)):
        events = _clicks(min(rows, CHUNK), seed=part)
        apart = {
            "user_key": pl.col("user_key") + part * 1_000_000,
            "event_id": pl.format("{}-{}", pl.lit(part), "event_id"),
        }
        lake.append(EVENTS, events.with_columns(**apart))
    lake.compact(EVENTS)  # a file a bucket, as `habitue lake compact` leaves a shop's lake
    return {"files": len(lake.files(EVENTS))}


def measure(program: str, folder: Path, rows: int) -> dict[str, Any]:
    """Run one program twice and time the second run; its answer is left beside the lake."""
    lake = open_lake(folder, buckets=max(1, rows // BUCKET))
    work = _ours if program == "habitue" else _theirs
    work(lake)
    wall, cpu = time.perf_counter(), time.process_time()
    found = work(lake)
    spent = {"wall": time.perf_counter() - wall, "cpu": time.process_time() - cpu, "peak_mb": peak_mb()}
    found.write_parquet(folder.parent / f"{program}-{rows}.parquet")
    return spent


def _ours(lake: Any) -> pl.DataFrame:
    return buckets.activity(lake, gap=GAP)


def _theirs(lake: Any) -> pl.DataFrame:
    import duckdb

    with duckdb.connect() as database:
        database.execute("set threads to 1")
        query = DUCKDB.replace("from events", "from read_parquet(?)")
        found = database.execute(query, [lake.files(EVENTS)]).fetchnumpy()
    names = ("user_key", "events", "sessions", "items", "money")
    return pl.DataFrame({name: found[name] for name in names})


def _size(folder: Path, rows: int, repeats: int) -> dict[str, list[dict[str, float]]]:
    """Return the measurements of each program, which take turns."""
    lake = folder / f"lake-{rows}"
    if not lake.exists():
        _child("make", lake, rows)
    told: dict[str, list[dict[str, float]]] = {program: [] for program in PROGRAMS}
    for _ in range(repeats):
        for program in PROGRAMS:
            told[program].append(_child(program, lake, rows))
            print(rows, program, told[program][-1], file=sys.stderr, flush=True)
    _agree(*(pl.read_parquet(folder / f"{program}-{rows}.parquet") for program in PROGRAMS))
    return told


def _child(what: str, lake: Path, rows: int) -> dict[str, float]:
    command = [sys.executable, __file__, "--child", what, str(lake), str(rows)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, env=os.environ | ONE_THREAD)
    told: dict[str, float] = json.loads(done.stdout)
    return told


def table(told: dict[int, dict[str, list[dict[str, float]]]]) -> pl.DataFrame:
    """Return METRICS: a slice a size, the median and the range of the repeats, the ratio to DuckDB, the growth."""
    rows = []
    smallest = min(told)
    for size, programs in told.items():
        median = {name: float(np.median([run["cpu"] for run in runs])) for name, runs in programs.items()}
        for name, runs in programs.items():
            cost = {"cpu_s": median[name], "peak_mb": max(run["peak_mb"] for run in runs)}
            common = {"dataset": DATASET, "protocol": PROTOCOL, "model": name, "slice": f"{size:,} events"}
            common |= {"n": len(runs), "seeds": 1, "modalities": [], **cost}
            for metric, key in (("CPU-seconds", "cpu"), ("wall seconds", "wall"), ("peak MB", "peak_mb")):
                values = [run[key] for run in runs]
                ends = {"low": min(values), "high": max(values)} if len(values) > 1 else {"low": None, "high": None}
                rows.append(common | {"metric": metric, "mean": float(np.median(values)), **ends})
            alone = {"low": None, "high": None}
            if name != "duckdb":
                rows.append(common | {"metric": "times DuckDB", "mean": median[name] / median["duckdb"], **alone})
            if size != smallest:
                first = float(np.median([run["cpu"] for run in told[smallest][name]]))
                growth = median[name] / first / (size / smallest)
                rows.append(common | {"metric": "times linear growth", "mean": growth, **alone})
    return METRICS.shape(
        pl.DataFrame(rows, infer_schema_length=None, schema_overrides={"modalities": pl.List(pl.String)})
    )


if __name__ == "__main__":
    main()
