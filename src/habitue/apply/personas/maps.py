"""Customers on a sheet of paper: who lies near is alike.

t-SNE (van der Maaten and Hinton 2008) keeps neighbours, not distances: gaps and sizes on the map say nothing. It begins
at the two main directions, so the same customers give the same map.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import polars as pl
from sklearn.manifold import TSNE

Floats = npt.NDArray[np.float64]
FEW = 12  # fewer customers lie where their two main directions put them


def draw(points: Floats, keys: Sequence[int], names: Sequence[str], *, rows: int, seed: int) -> pl.DataFrame:
    """Return user_key, name, x, y of at most `rows` customers drawn at random; x and y within -1 and 1."""
    drawn = np.sort(np.random.default_rng(seed).permutation(len(points))[:rows])
    chosen = points[drawn] - points[drawn].mean(axis=0)
    flat = np.hstack([chosen, np.zeros((len(chosen), 2))])[:, :2]
    if len(drawn) >= FEW and np.ptp(flat[:, 0]) > 0:
        near = min(30.0, (len(drawn) - 1) / 3)
        start = flat / max(float(flat[:, 0].std()), 1e-12) * 1e-4
        flat = TSNE(2, init=start, perplexity=near, max_iter=500, random_state=seed).fit_transform(chosen)
    flat = flat / max(float(np.abs(flat).max()), 1e-12)
    return pl.DataFrame(
        {
            "user_key": [int(keys[i]) for i in drawn],
            "name": [names[i] for i in drawn],
            "x": flat[:, 0].astype(np.float64).round(3),
            "y": flat[:, 1].astype(np.float64).round(3),
        },
        schema={"user_key": pl.Int64, "name": pl.String, "x": pl.Float64, "y": pl.Float64},
    )
