"""What a closed form expects after each lesson: a part of what the flagship is asked to foretell.

A network told the next purchase alone learns its histories by heart, for it sees each of them many times; SLIST sees
all of them at once and is told apart only by what many have in common. So a share of every lesson's target goes to the
products that SLIST ranks highest for the same history (distillation: Hinton, Vinyals and Dean, 2015, section 2):

    target = (1 - taught) next set + taught t,    t_i = max(s_i, 0) / sum over the TOLD best of max(s_j, 0)

SLIST's scores s are shares of a next purchase already, no logits, so they are scaled and not put through a softmax.
What it brings, and that it brings nothing where there is much to learn from: LOG.md, "a closed form as teacher".
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp
import torch

from habitue.model import slist
from habitue.model.losses import Sparse
from habitue.model.past import PURCHASE, Floats, Histories, Ints, places, ranges

TOLD = 20  # products a lesson
LITTLE = 0.02  # a purchase worth less of a fresh one is no reason any more
LESSONS_A_CALL = 1024


@dataclass(frozen=True)
class Told:
    """What the teacher expects at each of L lessons."""

    item: npt.NDArray[np.int32]  # [L, K] its best products, in no order
    share: Floats  # [L, K] of the target; a row adds up to `taught`, or to 0 where the teacher has nothing to say


def told(
    every: Histories, target: Ints, teacher: slist.State, *, items: tuple[str, ...], taught: float, window: int
) -> Told:
    """Ask the teacher what comes at the sets `target`, from the `window` sets before each; O(L x reasons x I).

    items: the products of `every`, of which the teacher knows some; taught: its share of a target; 8 TOLD bytes a
    lesson.
    """
    knows = len(teacher.items)
    theirs, ours = places(teacher.items, items), places(items, teacher.items).astype(np.int32)
    best = min(TOLD, knows)
    item, share = np.empty((len(target), best), dtype=np.int32), np.empty((len(target), best), dtype=np.float32)
    for start in range(0, len(target), LESSONS_A_CALL):
        asked = target[start : start + LESSONS_A_CALL]
        reasons = reasons_of(
            every, asked, theirs, items=knows, window=window, half_life_days=teacher.history_half_life_days
        )
        reasons.data = np.minimum(reasons.data, 1)  # as `slist.score` does
        scores = np.asarray(reasons @ teacher.table)
        top = np.argpartition(-scores, best - 1, axis=1)[:, :best]
        kept = np.maximum(np.take_along_axis(scores, top, axis=1), 0)
        total = kept.sum(axis=1, keepdims=True)
        item[start : start + len(asked)] = ours[top]
        share[start : start + len(asked)] = taught * np.divide(kept, total, out=np.zeros_like(kept), where=total > 0)
    return Told(item, share)


def reasons_of(
    every: Histories, asked: Ints, column: Ints, *, items: int, window: int, half_life_days: float = np.inf
) -> sp.csr_matrix:
    """Return what the purchases of the `window` sets before each set `asked` are worth, [L, items]; O(their rows).

    column: of each product of `every`, -1 = leave it out. A fresh purchase is worth 1, bought again more.
    """
    first = np.maximum(every.set_start[every.set_user[asked]], asked - window)
    sets, lesson = ranges(first, asked), np.repeat(np.arange(len(asked)), asked - first)
    age = every.set_at[asked][lesson] - every.set_at[sets]
    worth = 0.5 ** (age / half_life_days) * (every.set_kind[sets] == every.kinds.index(PURCHASE))
    sets, lesson, worth = (part[worth > LITTLE] for part in (sets, lesson, worth))
    count = every.row_start[sets + 1] - every.row_start[sets]
    rows = column[every.row_item[ranges(every.row_start[sets], every.row_start[sets + 1])]]
    of, value = (np.repeat(part, count)[rows >= 0] for part in (lesson, worth.astype(np.float32)))
    reasons = sp.csr_matrix((value, (of, rows[rows >= 0])), shape=(len(asked), items))
    reasons.sum_duplicates()
    return reasons


def mixed(target: Sparse, expected: Told, asked: Ints, *, items: int) -> Sparse:
    """Give the teacher's part to `target` [Q, items], the next sets of the lessons `asked`; rows still add up to 1."""
    device = target.row.device
    item = torch.from_numpy(expected.item[asked].astype(np.int64)).to(device)
    part = torch.from_numpy(expected.share[asked]).to(device)
    own = 1 - part.sum(dim=1)
    row = torch.cat([target.row, torch.arange(len(asked), device=device).repeat_interleave(item.shape[1])])
    value = torch.cat([target.value * own[target.row], part.flatten()])
    place, of = torch.unique(row * items + torch.cat([target.column, item.flatten()]), return_inverse=True)
    value = value.new_zeros(len(place)).index_add(0, of, value)
    kept = value > 0
    return Sparse(place[kept] // items, place[kept] % items, value[kept])
