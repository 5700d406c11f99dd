"""BASKET: the next order of each customer after the cut, as a set, ranked in the full catalogue."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import scipy.sparse as sp

from habitue.core import metrics
from habitue.core.errors import ModelError
from habitue.evaluate.measured import Measured, per_user
from habitue.model.past import Floats, Past, bought

PROTOCOL = "BASKET"
USERS = 512  # rows of scores looked at together


def basket(
    scores: Floats, past: Past, target: sp.csr_matrix, *, model: str, cutoffs: Sequence[int] = (10,)
) -> list[Measured]:
    """Measure `scores` [B, I] of `past`'s users and items against their next order, `target` [B, <= I].

    Slices, over known users whose relevant set is not empty:
      all         nothing masked; relevant = the whole order
      repeat      nothing masked; relevant = products of the order bought before the cut
      first_time  products bought before are no candidates; relevant = products of the order never bought before
    A slice that no user is in has no rows. Products of the order outside `past.items` cannot be ranked and are not in
    `target`. Metrics per cutoff k: ndcg@k, hit@k, recall@k; and mrr. Holds 512 rows of scores beyond the arguments.
    Raises ModelError, naming the model, for scores of the wrong shape, NaN or infinite, and when nobody has a target.
    """
    users, items = len(past.histories.user_keys), len(past.items)
    if scores.shape != (users, items):
        raise _refused(
            model,
            f"scores are {' x '.join(f'{size:,}' for size in scores.shape)}, not {users:,} users x {items:,} products",
            "Score every user and product of the past, in its order",
        )
    if target.shape[0] != users or target.shape[1] > items:
        raise _refused(
            model,
            f"the target is {target.shape[0]:,} x {target.shape[1]:,}, not {users:,} users x {items:,} products",
            "Build it over the same users and products as the past",
        )
    for start in range(0, users, USERS):
        bad = ~np.isfinite(scores[start : start + USERS])
        if bad.any():
            raise _refused(model, f"{int(bad.sum()):,} scores are NaN or infinite", "Mend the model's score function")
    measured = [
        one
        for name, (relevant, masked) in slices(target, bought(past.histories, items)).items()
        for one in _slice(scores, past, relevant, masked, model=model, name=name, cutoffs=cutoffs)
    ]
    if not measured:
        raise _refused(
            model, "no known customer ordered a known product after the cut", "Take an earlier cut, or wait for orders"
        )
    return measured


def slices(target: sp.csr_matrix, had: sp.csr_matrix) -> dict[str, tuple[sp.csr_matrix, sp.csr_matrix | None]]:
    """Return slice -> (relevant, masked) [B, I] of the next order `target` of users who had `had` [B, I], 0/1."""
    order = _binary(target, had.shape[1])
    again = order.multiply(had).tocsr()
    return {"all": (order, None), "repeat": (again, None), "first_time": (_binary(order - again, had.shape[1]), had)}


def values(
    scores: Floats, relevant: sp.csr_matrix, masked: sp.csr_matrix | None, *, cutoffs: Sequence[int]
) -> dict[str, metrics.Floats]:
    """Return metric -> its value of each user [B]: ndcg@k, hit@k and recall@k per cutoff, and mrr."""
    at = metrics.places(scores, relevant, masked=masked)
    found: dict[str, metrics.Floats] = {}
    for k in cutoffs:
        found[f"ndcg@{k}"] = metrics.ndcg_at(at, k)
        found[f"hit@{k}"] = metrics.hit_at(at, k)
        found[f"recall@{k}"] = metrics.recall_at(at, k)
    return found | {"mrr": metrics.reciprocal_rank(at)}


def _slice(
    scores: Floats,
    past: Past,
    relevant: sp.csr_matrix,
    masked: sp.csr_matrix | None,
    *,
    model: str,
    name: str,
    cutoffs: Sequence[int],
) -> list[Measured]:
    rows = np.flatnonzero(past.known & (np.diff(relevant.indptr) > 0))
    parts: dict[str, list[metrics.Floats]] = {}
    for start in range(0, rows.size, USERS):
        some = rows[start : start + USERS]
        told = values(scores[some], relevant[some], None if masked is None else masked[some], cutoffs=cutoffs)
        for metric, part in told.items():
            parts.setdefault(metric, []).append(part)
    keys = past.histories.user_keys[rows]
    return [per_user(PROTOCOL, model, name, metric, keys, np.concatenate(part)) for metric, part in parts.items()]


def _binary(matrix: sp.csr_matrix, items: int) -> sp.csr_matrix:
    """Return a copy with 1 in each non-zero cell and `items` columns."""
    clean = sp.csr_matrix(matrix, copy=True)
    clean.sum_duplicates()
    clean.eliminate_zeros()
    clean.data = np.ones_like(clean.data)
    clean.resize(clean.shape[0], items)
    return clean


def _refused(model: str, found: str, remedy: str) -> ModelError:
    return ModelError(
        f"evaluate.basket, model '{model}'",
        found=found,
        consequence="A ranking metric over them would mean nothing",
        remedy=remedy,
    )
