"""Histories as bags: what a user had before a moment, each item worth less the older it is; for models of bags.

A bag is all that such a model sees of a user. A row of its newest set is worth 1, of a set one half-life before that
one half: a bag says what somebody is like, and not how long the last order is ago. A lesson is a bag and the sets to
foretell from it. Bags of a step lie one after the other: no row of all items is ever held for a user.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from habitue.core.errors import ModelError
from habitue.model.losses import Sparse
from habitue.model.past import PURCHASE, Floats, Histories, Ints, Past, columns, places, ranges

WINDOW = 50  # newest sets in a bag
USERS_A_CALL = 256  # users scored at once


@dataclass(frozen=True)
class Bags:
    """Q bags, N rows together; an item that was bought twice has two rows."""

    start: Tensor  # int64 [Q] the first row of each
    item: Tensor  # int64 [N]
    worth: Tensor  # float32 [N]

    def total(self, table: Tensor) -> Tensor:
        """Return the sum of worth x table[item] over each bag's rows, [Q, D]; zeros for an empty one. O(N D)."""
        total: Tensor = F.embedding_bag(self.item, table, self.start, mode="sum", per_sample_weights=self.worth)
        return total

    @property
    def of(self) -> Tensor:
        """[N] index of the bag of each row."""
        end = self.start.new_full((1,), len(self.item))
        return torch.repeat_interleave(torch.diff(self.start, append=end))

    def length(self) -> Tensor:
        """Return the Euclidean length of each bag's rows of worth, [Q]."""
        return self.worth.new_zeros(len(self.start)).index_add(0, self.of, self.worth.square()).sqrt()

    def thinned(self, share: float) -> Bags:
        """Return the bags with this share of the rows left out, by torch's generator."""
        kept = torch.rand(len(self.item), device=self.item.device) >= share
        count = torch.bincount(self.of[kept], minlength=len(self.start))
        return Bags(torch.cumsum(count, 0) - count, self.item[kept], self.worth[kept])

    def to(self, device: str) -> Bags:
        """Return the bags on a device."""
        return Bags(self.start.to(device), self.item.to(device), self.worth.to(device))


@dataclass(frozen=True)
class Lessons:
    """All that is learnt from: L bags, and the sets to foretell from each."""

    every: Histories  # purchases before `as_of`
    bag: Ints  # [L, 2] the first set of each and the one after its last
    wanted: Ints  # [L, 2] the same

    def drawn(self, step: int, count: int, *, seed: int) -> Ints:
        """Return `count` lessons of a step, at most L; each pass takes every lesson once, in an order of its own."""
        steps = -(-len(self.bag) // count)  # a pass
        return _order(len(self.bag), seed, step // steps)[step % steps * count :][:count]

    def asked(self, lessons: Ints, *, half_life_days: float, device: str) -> tuple[Bags, Sparse]:
        """Return the bag of each of these lessons, and the items wanted: equal shares of a sum of 1."""
        bag, wanted = self.bag[lessons], self.wanted[lessons]
        sets = ranges(wanted[:, 0], wanted[:, 1])
        rows = ranges(self.every.row_start[sets], self.every.row_start[sets + 1])
        count = self.every.row_start[wanted[:, 1]] - self.every.row_start[wanted[:, 0]]
        items = int(self.every.row_item.max()) + 1
        place = np.repeat(np.arange(len(lessons)), count) * items + self.every.row_item[rows]
        row, column = divmod(np.unique(place), items)  # an item of several sets is wanted once
        share = 1 / np.bincount(row, minlength=len(lessons))[row]
        target = (torch.from_numpy(part).to(device) for part in (row, column, share.astype(np.float32)))
        return bags(self.every, bag[:, 0], bag[:, 1], half_life_days=half_life_days).to(device), Sparse(*target)


def lessons(past: Past, *, model: str, ahead: bool = True) -> Lessons:
    """Ask for every purchase that follows another of its user; not `ahead`: for everybody's bag, shown itself. O(sets).

    Raises ModelError, naming the model, when there is nothing to ask for.
    """
    every = past.histories.of_kind(PURCHASE).before(past.day)
    start, end = every.set_start[:-1], every.set_start[1:]
    if ahead:
        target = np.setdiff1d(np.arange(len(every.set_at)), start)
        bag, wanted = (start[every.set_user[target]], target), (target, target + 1)
    else:
        user = np.flatnonzero(end > start)
        bag = wanted = (np.maximum(start, end - WINDOW)[user], end[user])
    if not len(bag[0]):
        raise ModelError(
            model,
            found=f"no user has {'two purchases' if ahead else 'a purchase'} before as_of",
            consequence="There is nothing to learn from",
            remedy="Import a longer history, or move as_of forward",
        )
    return Lessons(every, np.stack(bag, axis=1), np.stack(wanted, axis=1))


@functools.lru_cache(maxsize=1)
def _order(count: int, seed: int, turn: int) -> Ints:
    return np.random.default_rng((seed, turn)).permutation(count)


def bags(every: Histories, first: Ints, last: Ints, *, half_life_days: float) -> Bags:
    """Return the bag of the sets first[q]:last[q], the newest WINDOW of them, for each q; O(rows)."""
    first = np.maximum(first, last - WINDOW)
    sets, of = ranges(first, last), np.repeat(np.arange(len(first)), last - first)
    age = every.set_at[last[of] - 1] - every.set_at[sets]
    size = every.row_start[sets + 1] - every.row_start[sets]
    rows = ranges(every.row_start[sets], every.row_start[sets + 1])
    count = every.row_start[last] - every.row_start[first]
    return Bags(
        start=torch.from_numpy(np.cumsum(count) - count),
        item=torch.from_numpy(every.row_item[rows].astype(np.int64)),
        worth=torch.from_numpy(np.repeat(0.5 ** (age / half_life_days), size).astype(np.float32)),
    )


def scores(past: Past, items: tuple[str, ...], answer: Callable[[Bags], Tensor], *, half_life_days: float) -> Floats:
    """Return float32 [B, I]: what `answer` [Q, items] says of each user's bag as of now, USERS_A_CALL at once.

    `items` are those `answer` knows; another one gets the lowest score of its row, and does not count in a bag.
    """
    index = places(items, past.items)
    every = past.histories.of_kind(PURCHASE).before(past.day)
    every = every.keep_rows(index[every.row_item] >= 0)
    every = dataclasses.replace(every, row_item=index[every.row_item].astype(np.int32))
    told = np.empty((len(every.user_keys), len(past.items)), dtype=np.float32)
    with torch.inference_mode():
        for start in range(0, len(told), USERS_A_CALL):
            users = slice(start, min(start + USERS_A_CALL, len(told)))
            first, last = every.set_start[:-1][users], every.set_start[1:][users]
            row = answer(bags(every, first, last, half_life_days=half_life_days)).numpy()
            told[users] = columns(row, index, missing=np.nan)
    lowest = np.nanmin(told, axis=1, keepdims=True, initial=0)
    return np.where(np.isnan(told), lowest, told)
