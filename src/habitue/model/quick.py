"""The closed-form views of one customer at once, without a matrix of one row: what a server asks at every answer.

`score` of a view builds a sparse matrix of the history and multiplies; for one customer that is mostly SciPy's own
checks. Here the same sums are taken over plain arrays that were made ready once a catalogue:

    views = {name: quick.ready(name, state, past.items) ...}
    told = views[name](bought(past))             `told.scores()`, float32 [I]: what `score` of that view says

neighbours, rules, ease and slist are a history times a table; popular is what everybody buys and the customer's own
purchases. Of tens of thousands of products most get nothing, or what everybody gets: told is what is added to that, and
at which products, so that a mean, a spread and a sum of views cost what is added and no pass over the catalogue. A view
of another kind is not ready: it is asked through its module.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

from habitue.model import popular
from habitue.model.batches import Doubles
from habitue.model.past import PURCHASE, Floats, Ints, Past, columns, places, ranges

LINEAR = ("neighbours", "rules", "ease", "slist")
NOTHING = 1e-12  # share of the mean square below which a variance is rounding
DENSE = 8  # sums over so many products for each number are made in a row as long as the catalogue, fewer by sorting


@dataclass(frozen=True)
class Bought:
    """Every purchase of one customer, a product as often as it was bought."""

    item: Ints  # [R] places in `past.items`
    age: Doubles  # [R] days before the question

    @functools.cached_property
    def _once(self) -> tuple[Ints, Ints]:
        return np.unique(self.item, return_inverse=True)

    def worth(self, half_life_days: float, *, cap: float = np.inf) -> tuple[Ints, Floats]:
        """Return each product once and what its purchases are worth, as `past.purchases`."""
        item, inverse = self._once
        worth = np.bincount(inverse, weights=0.5 ** (self.age / half_life_days), minlength=len(item))
        return item, np.minimum(worth, cap).astype(np.float32)


@dataclass(frozen=True)
class Base:
    """Scores [I] that are the same for everybody, with what their mean and spread are made of."""

    values: Floats
    total: float
    squares: float


def base(values: Floats) -> Base:
    """Sum up what everybody is told; O(I)."""
    return Base(values, float(values.sum(dtype=np.float64)), float(np.dot(values, values.astype(np.float64))))


@dataclass(frozen=True)
class Told:
    """What a view says of every product to one customer: `base` (None = 0), and what is added to some."""

    size: int  # I
    places: Ints  # [N] ascending, each once
    added: Floats  # [N]
    base: Base | None = None

    def scores(self) -> Floats:
        """Return float32 [I]; O(I)."""
        found = np.zeros(self.size, dtype=np.float32) if self.base is None else self.base.values.copy()
        found[self.places] += self.added
        return found

    def at(self, places: Ints) -> Floats:
        """Return the scores of some products [K]; O(K log N)."""
        found = np.zeros(len(places), dtype=np.float32) if self.base is None else self.base.values[places]
        if len(self.places):
            near = np.minimum(np.searchsorted(self.places, places), len(self.places) - 1)
            found += np.where(self.places[near] == places, self.added[near], np.float32(0))
        return found

    def moments(self) -> tuple[float, float]:
        """Return mean and spread over all I products, 0 and 0 without differences; O(N)."""
        if not self.size:
            return 0.0, 0.0
        added = self.added.astype(np.float64)
        total, squares = float(added.sum()), float(np.dot(added, added))
        if self.base is not None:
            total += self.base.total
            squares += self.base.squares + 2 * float(np.dot(added, self.base.values[self.places]))
        mean = total / self.size
        variance = squares / self.size - mean**2
        return mean, variance**0.5 if variance > NOTHING * squares / self.size else 0.0


View = Callable[[Bought], Told]


def bought(past: Past) -> Bought:
    """Return the purchases of the first customer of a past."""
    h = past.histories
    kind = h.kinds.index(PURCHASE) if PURCHASE in h.kinds else -1
    last = h.set_start[1]
    sets = np.flatnonzero(h.set_kind[:last] == kind)
    size = h.row_start[sets + 1] - h.row_start[sets]
    return Bought(
        h.row_item[ranges(h.row_start[sets], h.row_start[sets + 1])].astype(np.int64),
        np.repeat(past.day - h.set_at[sets], size),
    )


def ready(name: str, state: Any, items: tuple[str, ...]) -> View | None:
    """Make a fitted view ready for the products `items`; None for one that is asked through its module."""
    if name == "popular":
        return _popular(state, items)
    return _linear(state, items) if name in LINEAR else None


def standard(scores: Floats, *, out: Floats | None = None) -> Floats:
    """Bring scores [I] to mean 0 and spread 1, as `fuse.standard` a row; without differences they become 0.

    `out`: where they are written to; `scores` itself saves a pass through memory.
    """
    middle: Floats = np.subtract(scores, scores.mean(), out=out)
    spread = np.sqrt(np.dot(middle, middle) / max(len(middle), 1))
    middle *= 1 / spread if spread > 0 else np.float32(0)
    return middle


def _linear(state: Any, items: tuple[str, ...]) -> View:
    table, half_life = state.table, state.history_half_life_days
    to_state, to_items = places(state.items, items), places(items, state.items)
    same, width, every = state.items == items, table.shape[1], np.arange(table.shape[1])

    def score(bought: Bought) -> Told:
        item, worth = bought.worth(half_life)
        row = to_state[item]
        met = row >= 0
        row, worth = row[met], np.minimum(worth[met], np.float32(1))
        if sp.issparse(table):
            start, stop = table.indptr[row].astype(np.int64), table.indptr[row + 1].astype(np.int64)
            some = ranges(start, stop)
            at, added = summed(table.indices[some], table.data[some] * np.repeat(worth, stop - start), width)
        else:
            at, added = every, worth @ table[row] if len(row) else np.zeros(width, dtype=np.float32)
        if not same:
            at = to_items[at]  # both ascend, so these do
            at, added = at[at >= 0], added[at >= 0]
        return Told(len(items), at, added)

    return score


def summed(index: npt.NDArray[Any], weights: Floats, size: int) -> tuple[Ints, Floats]:
    """Return the places below `size` that are met, ascending, and the sum of the weights at each."""
    if len(index) * DENSE < size:
        at, inverse = np.unique(index, return_inverse=True)
        return at.astype(np.int64), np.bincount(inverse, weights, minlength=len(at)).astype(np.float32)
    sums = np.bincount(index, weights, minlength=size)
    at = np.flatnonzero(sums)
    return at, sums[at].astype(np.float32)


def _popular(state: popular.State, items: tuple[str, ...]) -> View:
    floor = float(state.trend.min(initial=1.0))
    trend = columns(state.trend, places(state.items, items), missing=floor)
    everybody, lifted = base((state.background * trend).astype(np.float32)), (trend**state.lift).astype(np.float32)

    def score(bought: Bought) -> Told:
        item, worth = bought.worth(state.half_life_days)
        return Told(len(items), item, worth * lifted[item], everybody)

    return score


class Trend(Protocol):
    """What everybody buys now, as it is counted on: `trend` [I] moves in place, `version` says that it did."""

    trend: Floats
    version: int


def popularity(state: popular.State, counted: Trend) -> View:
    """Return the view `popular` with a trend that moves."""
    made: list[tuple[int, Base]] = []

    def score(bought: Bought) -> Told:
        if not made or made[0][0] != counted.version:
            made[:] = [(counted.version, base((state.background * counted.trend).astype(np.float32)))]
        item, worth = bought.worth(state.half_life_days)
        lifted = (counted.trend[item] ** state.lift).astype(np.float32)
        return Told(len(counted.trend), item, worth * lifted, made[0][1])

    return score
