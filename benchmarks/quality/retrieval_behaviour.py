"""Words and posters find what is bought together: from content into behaviour's space, on films nobody has met there.

    python benchmarks/quality/retrieval_behaviour.py [--cache FOLDER] [--out benchmarks/quality]

MovieLens-100k ($HABITUE_DATA/ml100k). Behaviour's vector of a film: the factorised mutual information of what is met
within five sets of it (model/seeds.py, `together`), from everybody's events; films with fewer than 20 are left out. One
film in five, drawn by a hash, is never learnt from: `encode.space` (CCA) learns from the others, title and plot
(TF-IDF, its first 128 directions) or poster on one side, behaviour on the other. Then the film's content asks for its
neighbours in behaviour's space; right are the ten that its own behaviour finds. Beside it: what is near in content
itself, popular films, and chance.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path

import numpy as np
import polars as pl

from habitue import evaluate
from habitue.bench import fusion_fits, modalities, sequences
from habitue.core import runtime
from habitue.encode import space
from habitue.evaluate import bench
from habitue.evaluate.measured import per_user
from habitue.model import fuse, seeds

DATASET, PROTOCOL = "MovieLens-100k, content to behaviour", "retrieval"
LEAST, NEAREST, WIDTH = 20, 10, 64


def nearest(asked: np.ndarray, found: np.ndarray, own: np.ndarray) -> np.ndarray:
    """Return the NEAREST rows of `found` to each of `asked`, never itself; unit rows."""
    near = asked @ found.T
    near[np.arange(len(own)), own] = -np.inf
    return np.argsort(-near, axis=1, kind="stable")[:, :NEAREST]


def unit(rows: np.ndarray) -> np.ndarray:
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-9)


def main() -> None:
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("--out", type=Path, default=Path(__file__).parent)
    asked.add_argument("--cache", type=Path, help="folder where vectors are kept")
    options = asked.parse_args()
    if "HABITUE_DATA" not in os.environ:
        sys.exit("Nothing measured: HABITUE_DATA is not set, and these data may not ship.")
    home = Path(os.environ["HABITUE_DATA"]) / "ml100k"
    films = pl.read_parquet(home / "items_multimodal.parquet")
    films = films.select("item_id", "title", "genres", "overview", "tagline", "poster_jpg")
    wanted = (modalities.TEXT, modalities.PICTURE)
    events = pl.read_parquet(home / "interactions.parquet")
    data = sequences.read(events, films, wanted=wanted, cache=options.cache)
    every = data.histories
    sold = np.bincount(every.row_item, minlength=len(data.items))
    past = data.past(horizon_days=1)
    content = fuse.content(past.words, past.modalities, 128, len(data.items))
    there = (sold >= LEAST) & (content.there != fuse.MISSING).all(axis=1)
    behaviour = unit(seeds.together(every, len(data.items), WIDTH)[there])
    held = np.flatnonzero(fusion_fits.hashes([i for i, t in zip(data.items, there, strict=True) if t], "held") < 0.2)
    learn = np.setdiff1d(np.arange(there.sum()), held)
    right = nearest(behaviour[held], behaviour, held)
    views = dict(zip(content.names, (view[there] for view in content.views), strict=True))
    views["text + picture"] = np.hstack([unit(view) for view in views.values()])
    answers, costs = {}, {}
    for name, view in views.items():
        began = time.process_time()
        common = space.fit(view[learn], behaviour[learn], space.Config(width=WIDTH))
        left, where = space.place(common.left, view[held]), space.place(common.right, behaviour)
        answers[f"{name}, by CCA"] = nearest(left, where, held)
        costs[f"{name}, by CCA"] = time.process_time() - began
        answers[f"{name}, near in itself"] = nearest(unit(view)[held], unit(view), held)
    top = np.argsort(-sold[there], kind="stable")
    answers["popular"] = np.array([[i for i in top[: NEAREST + 1] if i != own][:NEAREST] for own in held])
    rng = np.random.default_rng(0)
    answers["chance"] = np.stack(
        [rng.choice(np.setdiff1d(np.arange(there.sum()), [own]), NEAREST, False) for own in held]
    )
    tables = []
    for name, told in answers.items():
        hits = np.array([len(set(a) & set(b)) / NEAREST for a, b in zip(told, right, strict=True)])
        row = per_user(PROTOCOL, name, "films not learnt from", "recall@10", held, hits)
        read = [part for part in ("text", "picture") if part in name]
        tables.append(
            evaluate.table(
                [row], dataset=DATASET, modalities=[*read, "events"], cpu_s=costs.get(name), peak_mb=runtime.peak_mb()
            )
        )
    table = pl.concat(tables)
    print(bench.save(bench.document(table), options.out / "retrieval-behaviour.json"), int(there.sum()), len(held))
    with pl.Config(tbl_rows=-1):
        print(table.select("model", "mean", "low", "high", "n"))


if __name__ == "__main__":
    main()
