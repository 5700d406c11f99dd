"""Q1 to Q3: every model that ranks, on public files, by `habitue bench ranking`: one command a table.

    python benchmarks/quality/ranking.py beauty ml-1m        these two
    python benchmarks/quality/ranking.py                     all of them: some hours on two cores

Each line of TABLES is a command line of its own; the JSON beside this file is what it wrote. Data: $HABITUE_DATA, and
docs/data.md says where each set is published. `known` holds two classical models at the settings of published tables,
fitted with the validation event: they prove the protocol (tests/bench/test_known_values.py).
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
BEAUTY = ["amazon_s3rec/Beauty_sequences.parquet", "--items", "amazon_s3rec/Beauty_items.parquet"]
SPORTS = [
    "amazon_s3rec/Sports_and_Outdoors_sequences.parquet",
    "--items",
    "amazon_s3rec/Sports_and_Outdoors_items.parquet",
]
ML_1M = ["ml1m/sequences_sasrec_order.parquet"]
ML_100K = ["ml100k/interactions.parquet", "--items", "ml100k/items_multimodal.parquet", "--protocol", "time"]
BUDGET = ["--cpu-hours", "0.25"]
NETS = ["--models", "popular,neighbours,rules,ease,slist,als,graph,vae,gru,cnn,behaviour,blend"]
TABLES = {
    "beauty": [*BEAUTY, *BUDGET, *NETS],
    "beauty-seeds": [*BEAUTY, "--cpu-hours", "0.75", "--seeds", "3", "--models", "popular,slist,behaviour,blend"],
    "ml-100k-seeds": [*ML_100K, "--cpu-hours", "0.15", "--seeds", "3", "--models", "popular,slist,behaviour,blend"],
    "sports-seeds": [*SPORTS, "--cpu-hours", "1", "--seeds", "3", "--models", "popular,slist,behaviour,blend"],
    "ml-1m-seeds": [*ML_1M, "--cpu-hours", "2", "--seeds", "3", "--models", "popular,slist,behaviour,blend"],
    "beauty-refit": [*BEAUTY, *BUDGET, "--refit", "--models", "popular,slist,behaviour,blend"],
    "beauty-ids": [BEAUTY[0], *BUDGET, *NETS],
    "sports": [*SPORTS, *BUDGET, *NETS],
    "ml-1m": [*ML_1M, "--cpu-hours", "0.5", *NETS],
    "ml-100k": [*ML_100K, "--cpu-hours", "0.05", *NETS],
    "known-beauty": [BEAUTY[0], "--refit", "--models", "neighbours,ease", "--settings", "known-beauty.toml"],
    "known-ml-1m": [*ML_1M, "--refit", "--models", "neighbours,ease", "--settings", "known-ml-1m.toml"],
}


def main(names: list[str]) -> int:
    if "HABITUE_DATA" not in os.environ:
        print("Nothing measured: HABITUE_DATA is not set, and these data may not ship.")
        return 0
    unknown = [name for name in names if name not in TABLES]
    if unknown:
        print(f"No table '{unknown[0]}'. Known: {', '.join(TABLES)}.")
        return 2
    data = Path(os.environ["HABITUE_DATA"])
    for name in names or TABLES:
        words = [str(data / word) if word.endswith(".parquet") else word for word in TABLES[name]]
        words = [str(HERE / word) if word.endswith(".toml") else word for word in words]
        out = HERE / f"ranking-{name}.json"
        command = [str(Path(sys.executable).with_name("habitue")), "bench", "ranking", "--events", *words]
        print(f"\n== {name}", flush=True)
        done = subprocess.run([*command, "--out", str(out)], check=False)
        if done.returncode:
            return done.returncode
        out.with_suffix(".html").unlink()  # the documentation draws its own
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
