"""Runs inside the environment of `implicit`: python drive_implicit.py MODEL GIVEN.npz TOLD.npz (see run.py)."""

from __future__ import annotations

import sys
import time

import implicit
import numpy as np
import scipy.sparse as sp

MODELS = {
    "als": lambda: implicit.als.AlternatingLeastSquares(
        factors=64, regularization=1.0, alpha=10.0, iterations=15, random_state=0, num_threads=1
    ),
    "bm25": lambda: implicit.nearest_neighbours.BM25Recommender(K=200, num_threads=1),
    "cosine": lambda: implicit.nearest_neighbours.CosineRecommender(K=200, num_threads=1),
}


def main(name: str, given: str, told: str) -> None:
    with np.load(given) as data:
        users, items, count = (int(n) for n in data["shape"])
        fit, ask = (
            sp.csr_matrix(
                (np.ones(len(data[f"{part}_user"]), dtype=np.float32), (data[f"{part}_user"], data[f"{part}_item"])),
                shape=(users, items),
            )
            for part in ("fit", "ask")
        )
        asked = data["asked"]
    for matrix in (fit, ask):
        matrix.sum_duplicates()
        matrix.data[:] = 1
    begun = time.process_time()
    model = MODELS[name]()
    model.fit(fit, show_progress=False)
    # Users are asked with all they did before the test, which the fit may not have seen.
    more = {"recalculate_user": True} if name == "als" else {}
    lists = np.full((len(asked), count), -1, dtype=np.int64)
    for start in range(0, len(asked), 1_000):
        some = asked[start : start + 1_000]
        found, scores = model.recommend(some, ask[some], N=count, filter_already_liked_items=True, **more)
        # Where a user has fewer candidates than places, implicit fills up with the smallest float: no answer.
        lists[start : start + 1_000] = np.where(np.isfinite(scores) & (scores > -1e30), found, -1)
    cpu_s = time.process_time() - begun
    np.savez(told, lists=lists, cpu_s=cpu_s, peak_mb=peak_mb())


def peak_mb() -> float:
    """Return this program's own peak; getrusage would begin with that of the process that started it (Linux)."""
    with open("/proc/self/status", encoding="ascii") as status:
        return next(int(line.split()[1]) / 1024 for line in status if line.startswith("VmHWM"))


if __name__ == "__main__":
    main(*sys.argv[1:])
