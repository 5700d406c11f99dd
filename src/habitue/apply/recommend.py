"""The first n products of every customer, from any model's scores; never empty, and the fallback is named."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import polars as pl
import scipy.sparse as sp

from habitue.core.errors import ModelError
from habitue.core.schemas import SCORES, Scores
from habitue.model.past import Floats, Ints, Past

ROWS = 512  # customers ranked at once


def top(
    scores: Floats,
    past: Past,
    *,
    model: str,
    n: int = 10,
    exclude: sp.csr_matrix | None = None,
    fallback: npt.NDArray[np.floating] | None = None,
    fallback_model: str = "popular",
) -> Scores:
    """Return SCORES (task "rank") of the first `n` of `past.items` for each user: at most n rows each, at least one.

    `scores` [B, I] as a model gives them; products with equal scores stand in order of item_id. `exclude` [B, <= I]:
    non-zero = never recommended to this user. A user of whom the model knows nothing (all scores equal) gets the
    first n of `fallback` [I], one score a product for everyone, and those rows name `fallback_model`. O(B I). Raises
    ModelError for scores of another shape, NaN or infinity, a user who would get nothing, and a user of whom nothing
    is known when there is no fallback.
    """
    users, items = len(past.histories.user_keys), len(past.items)
    if n < 1 or not items:
        raise _refused(f"{n} of {items:,} products are asked for", "Ask for at least one of at least one product")
    if scores.shape != (users, items) or not np.isfinite(scores).all():
        raise _refused(
            f"'{model}' gave scores of shape {scores.shape}, or NaN or infinite ones, for {users:,} users and "
            f"{items:,} products",
            "Ask the model about this very past",
        )
    frames = [
        _ranked(scores[start : start + ROWS], past, np.arange(start, min(start + ROWS, users)), n, exclude, fallback)
        for start in range(0, users, ROWS)
    ]
    table = pl.concat(frames) if frames else pl.DataFrame(schema={**SCORES.schema, "known": pl.Boolean})
    return SCORES.shape(
        table.with_columns(
            as_of=pl.lit(past.as_of, dtype=SCORES.schema["as_of"]),
            model=pl.when("known").then(pl.lit(model)).otherwise(pl.lit(fallback_model)),
            task=pl.lit("rank"),
        ).drop("known")
    )


def _ranked(
    scores: Floats,
    past: Past,
    users: Ints,
    n: int,
    exclude: sp.csr_matrix | None,
    fallback: npt.NDArray[np.floating] | None,
) -> pl.DataFrame:
    """Return user_key, item_id, score, rank and whether the model knew something, for a block of users."""
    known = np.ptp(scores, axis=1) > 0
    if not known.all() and fallback is None:
        raise _refused(
            f"of {int((~known).sum()):,} customers the model knows nothing, and there is no fallback",
            "Give the scores of a count, e.g. what sells this month",
        )
    ranked = scores.astype(np.float64)
    if fallback is not None:
        ranked[~known] = fallback
    if exclude is not None:
        hidden = exclude[users].tocoo()
        ranked[hidden.row[hidden.data != 0], hidden.col[hidden.data != 0]] = -np.inf
    empty = ~np.isfinite(ranked).any(axis=1)
    if empty.any():
        raise _refused(f"for {int(empty.sum()):,} customers every product is excluded", "Exclude fewer products")
    last = min(n, ranked.shape[1]) - 1
    least = -np.partition(-ranked, last, axis=1)[:, last]  # score of place n; of its equals the first by item_id stay
    row, item = np.nonzero((ranked >= least[:, None]) & np.isfinite(ranked))
    order = np.lexsort((item, -ranked[row, item], row))
    row, item = row[order], item[order]
    place = np.arange(len(row)) - np.searchsorted(row, row)
    row, item, place = row[place < n], item[place < n], place[place < n]
    return pl.DataFrame(
        {
            "user_key": past.histories.user_keys[users][row],
            "item_id": [past.items[i] for i in item],
            "score": ranked[row, item],
            "rank": (place + 1).astype(np.int32),
            "known": known[row],
        }
    )


def _refused(found: str, remedy: str) -> ModelError:
    return ModelError(
        "apply.recommend",
        found=found,
        consequence="Somebody would get an empty or meaningless list",
        remedy=remedy,
    )
