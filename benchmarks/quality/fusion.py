"""Q3: what demographics, plots and posters buy on MovieLens-100k by time: every fusion, new films, with part lost.

    python benchmarks/quality/fusion.py [--folder FITS] [--cpu-hours H] [--seeds N]

Data: $HABITUE_DATA/ml100k, and docs/data.md says where it is published. The posters are encoded by
`image-efficientnet-lite0` (`habitue models fetch image-efficientnet-lite0`). Plots: title, genres, overview, tagline;
what the films earned and how they were voted later is not read. Demographics: age, gender, occupation. The flagship is
a small one (fusion-ml-100k.toml). With --folder the fits are kept, and the same command goes on from them; every cell
has its first seed before any has its second.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import polars as pl

HERE = Path(__file__).parent
MODELS = "popular,neighbours,rules,ease,slist,als,behaviour"
CONDITIONS = "as it is,cold,missing 30,missing 50,missing 70,missing 100"


def main() -> int:
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("--folder", type=Path, help="keep every fit here")
    asked.add_argument("--cpu-hours", default="2.2")
    asked.add_argument("--seeds", default="3")
    options = asked.parse_args()
    if "HABITUE_DATA" not in os.environ:
        print("Nothing measured: HABITUE_DATA is not set, and these data may not ship.")
        return 0
    data = Path(os.environ["HABITUE_DATA"]) / "ml100k"
    out = HERE / "fusion-ml-100k.json"
    with tempfile.TemporaryDirectory() as beside:
        films, people, ratings = (Path(beside) / f"{name}.parquet" for name in ("films", "people", "ml-100k"))
        told = ("item_id", "title", "genres", "overview", "tagline", "poster_jpg")
        pl.read_parquet(data / "items_multimodal.parquet").select(told).write_parquet(films)
        pl.read_parquet(data / "users.parquet").drop("zip_code").write_parquet(people)
        ratings.symlink_to(data / "interactions.parquet")  # the table is named after the file
        command = [
            str(Path(sys.executable).with_name("habitue")), "bench", "fusion", "--events", str(ratings),
            "--items", str(films), "--users", str(people), "--models", MODELS, "--conditions", CONDITIONS,
            "--settings", str(HERE / "fusion-ml-100k.toml"), "--cpu-hours", options.cpu_hours, "--seeds", options.seeds,
            "--out", str(out),
            *(["--folder", str(options.folder)] if options.folder else []),
        ]  # fmt: skip
        done = subprocess.run(command, check=False)
    if not done.returncode:
        out.with_suffix(".html").unlink()  # the documentation draws its own
    return done.returncode


if __name__ == "__main__":
    sys.exit(main())
