"""'Because you bought X': X stays a reason only if the answer falls when X is taken out of the history."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl

from habitue.core.errors import ModelError
from habitue.core.schemas import REASONS, Reasons, check
from habitue.model.past import Floats, Ints, Past

Score = Callable[[Past], Floats]  # float32 [B, I], as a ranking model scores

VARIANTS = 256  # histories scored at once


def reasons(
    score: Score,
    past: Past,
    user: int,
    items: Sequence[int],
    *,
    model: str,
    most: int = 2,
    candidates: npt.NDArray[np.bool_] | None = None,
) -> Reasons:
    """Return REASONS of one user's recommended `items` (indices of `past.items`), at most `most` an item.

    For each distinct product X of the history all rows of X are deleted and the user is scored again, so an answer
    costs one score of X + 1 histories, 256 at once. X is a reason when the item's rank among `candidates` [I] (default:
    the whole catalogue; hold it to what the list was made of) gets worse. Reasons come with the largest fall of the
    rank first, then the largest fall of the score. `rank_with` and `rank_without` count from 1; items that score the
    same share their middle rank, rounded down. An item that no deletion harms has no reason, and no row. What the
    model reads besides the history (`past.features`) stays as it is.

    `user` is an index of `past.histories`. Raises ModelError, naming the model, for scores of the wrong shape, NaN or
    infinite, and for an item that is no candidate.
    """
    among = np.ones(len(past.items), dtype=bool) if candidates is None else candidates
    wanted = np.asarray(items, dtype=np.int64)
    if wanted.size and not among[wanted].all():
        raise _refused(
            model, "a recommended product is no candidate", "Give the candidates the list was made of, or none"
        )
    alone = past.take([user])
    told = _Answer.of(_asked(score, alone, model), wanted, among)
    because = np.unique(alone.histories.row_item).astype(np.int64)
    rows = []
    for start in range(0, because.size, VARIANTS):
        some = because[start : start + VARIANTS]
        without = _Answer.of(_asked(score, _without(alone, some), model), wanted, among)
        worse = without.rank > told.rank
        for x, i in zip(*np.nonzero(worse), strict=True):
            fall = float(told.score[0, i] - without.score[x, i])
            rows.append((int(wanted[i]), int(some[x]), int(told.rank[0, i]), int(without.rank[x, i]), fall))
    rows.sort(key=lambda row: (row[2] - row[3], -row[4], row[1]))
    kept = [row for item in dict.fromkeys(wanted.tolist()) for row in [r for r in rows if r[0] == item][:most]]
    frame = pl.DataFrame(
        [
            {
                "user_key": int(alone.histories.user_keys[0]),
                "as_of": past.as_of,
                "model": model,
                "task": "rank",
                "item_id": past.items[item],
                "code": "bought",
                "because": past.items[x],
                "rank_with": with_,
                "rank_without": without_,
                "weight": fall,
            }
            for item, x, with_, without_, fall in kept
        ],
        schema=REASONS.schema,
    )
    check(frame, REASONS, at="explain.reasons")
    return frame


@dataclass(frozen=True)
class _Answer:
    """Scores and ranks of the wanted items in N histories."""

    score: npt.NDArray[np.float64]  # [N, wanted]
    rank: Ints  # [N, wanted] from 1; of equal scores the middle one, rounded down

    @classmethod
    def of(cls, scores: Floats, wanted: Ints, among: npt.NDArray[np.bool_]) -> _Answer:
        mine, field = scores[:, wanted], scores[:, among]
        rank = np.empty(mine.shape, dtype=np.int64)
        for i in range(wanted.size):
            above = (field > mine[:, [i]]).sum(axis=1)
            tied = (field == mine[:, [i]]).sum(axis=1)
            rank[:, i] = above + (tied + 1) // 2
        return cls(mine.astype(np.float64), rank)


def _without(alone: Past, products: Ints) -> Past:
    """Return one history per product: the user's, without any row of it."""
    copies = alone.take(np.zeros(products.size, dtype=np.int64))
    owner = copies.histories.set_user[copies.histories.row_set]
    keep = copies.histories.row_item != products[owner]
    return dataclasses.replace(copies, histories=copies.histories.keep_rows(keep))


def _asked(score: Score, past: Past, model: str) -> Floats:
    scores = score(past)
    shape = (len(past.histories.user_keys), len(past.items))
    if scores.shape != shape:
        raise _refused(
            model, f"scores are {scores.shape}, not {shape}", "Score every user and product of the past, in its order"
        )
    if not np.isfinite(scores).all():
        raise _refused(model, "scores are NaN or infinite", "Mend the model's score function")
    return scores


def _refused(model: str, found: str, remedy: str) -> ModelError:
    return ModelError(
        f"explain.reasons, model '{model}'",
        found=found,
        consequence="A reason could not be checked against the answer",
        remedy=remedy,
    )
