"""Histories and questions -> the flat tensors of one step; no row of padding anywhere.

Tokens are the S sets of the users, one after the other, then the Q questions ("what next, at this moment?"). A token
sees the sets of its user up to its own moment: a set itself and those before it, a question every set strictly before
it. No token sees a question but that question itself. All sums over money are made in whole cents, so that a user's
numbers do not depend on who else is in the batch.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from habitue.model.past import PURCHASE, Histories, Ints, ranges

Doubles = npt.NDArray[np.float64]

NUMBERS = 12  # what `numbers` holds, see _numbers
GAPS = 16  # classes of time between two sets
NEVER = 400.0  # days; stands for "no set before"
YEAR = 365.25


@dataclass(frozen=True)
class Batch:
    """One step's tensors; N = S + Q tokens, P pairs of tokens, C pairs of a question and a product met before it."""

    sets: int
    kind: Tensor  # [N] index of the action; a question has the last one
    hour: Tensor  # [S] UTC
    weekday: Tensor  # [S] 0 = Monday
    numbers: Tensor  # [N, NUMBERS]
    row_set: Tensor  # [R]
    row_item: Tensor  # [R]
    row_share: Tensor  # [R] 1 / rows of the set
    pair_from: Tensor  # [P] the token that looks, ascending
    pair_to: Tensor  # [P] the token looked at
    pair_back: Tensor  # [P] 0 = itself (a question), 1 = the newest set in sight, ...
    pair_gap: Tensor  # [P] class of the time between them
    met_query: Tensor  # [C] question, ascending
    met_item: Tensor  # [C]
    met: Tensor  # [C, len(half_lives) + 4]

    @property
    def queries(self) -> int:
        """Number of questions."""
        return len(self.kind) - self.sets

    def to(self, device: str) -> Batch:
        """Return the batch on a device."""
        moved = {f.name: getattr(self, f.name).to(device) for f in dataclasses.fields(self) if f.name != "sets"}
        return dataclasses.replace(self, **moved)


def collate(
    every: Histories,
    user: Ints,
    at: Doubles,
    *,
    kinds: Ints,
    window: int,
    half_lives: tuple[float, ...],
    season: bool,
    ranked: int | None = None,
) -> Batch:
    """Build the batch of the users in `every` and the questions (user, at); O(sets x window + rows in sight).

    user [Q] index into `every`; at [Q] days since 1970-01-01 UTC; kinds: place of each of `every.kinds` in the
    model's own list, and last the place of a question; `window`: newest sets that a token looks at and that count as
    met; half_lives: days; season: tell the place in the year (only a shop known for a year can learn from it);
    `ranked`: so many questions, the first ones, rank products and are told what was met before (None = all).
    """
    owner, sets = every.set_user, len(every.set_at)
    # The sets in sight of a token end before `end`; those strictly before its own moment end before `known`.
    known = np.r_[np.arange(sets), sets_before(every, user, at)]
    end = np.r_[np.arange(sets) + 1, known[sets:]]
    whose, when = np.r_[owner, user], np.r_[every.set_at, at]
    first = every.set_start[whose]
    start = np.maximum(first, end - window)
    back, gap, pair_from, pair_to = _pairs(every, start, end, when, sets)
    asked = slice(sets, None if ranked is None else sets + ranked)
    met_query, met_item, met = _met(every, at[:ranked], start[asked], end[asked], half_lives)
    size = np.diff(every.row_start)
    of_kind = np.r_[kinds[every.set_kind], np.full(len(user), kinds[-1])]
    tensor = torch.from_numpy
    return Batch(
        sets=sets,
        kind=tensor(of_kind.astype(np.int64)),
        hour=tensor((every.set_at % 1 * 24).astype(np.int64)),
        weekday=tensor(((np.floor(every.set_at) + 3) % 7).astype(np.int64)),  # 1970-01-01 was a Thursday
        numbers=tensor(_numbers(every, whose, when, first, known, season=season)),
        row_set=tensor(every.row_set),
        row_item=tensor(every.row_item.astype(np.int64)),
        row_share=tensor((1 / size[every.row_set]).astype(np.float32)),
        pair_from=tensor(pair_from),
        pair_to=tensor(pair_to),
        pair_back=tensor(back),
        pair_gap=tensor(gap),
        met_query=tensor(met_query),
        met_item=tensor(met_item),
        met=tensor(met),
    )


def sets_before(every: Histories, user: Ints, at: Doubles) -> Ints:
    """Return for each (user, at) the index of the first set of that user that is not strictly before `at`."""
    whose, when = np.r_[user, every.set_user], np.r_[at, every.set_at]
    is_set = np.arange(len(whose)) >= len(user)
    order = np.lexsort((is_set, when, whose))  # at the same moment the question comes first
    passed = np.empty(len(whose), dtype=np.int64)
    passed[order] = np.cumsum(is_set[order])
    return passed[: len(user)]


def _pairs(every: Histories, start: Ints, end: Ints, when: Doubles, sets: int) -> tuple[Ints, Ints, Ints, Ints]:
    """Return (steps back, class of gap, from, to) of every pair in sight, and of each question with itself."""
    count = end - start
    tokens = np.arange(len(end))
    pair_from, pair_to = np.repeat(tokens, count), ranges(start, end)
    back = np.repeat(end, count) - pair_to
    gap = when[pair_from] - every.set_at[pair_to]
    itself = tokens[sets:]
    pair_from, pair_to = np.r_[pair_from, itself], np.r_[pair_to, itself]
    back, gap = np.r_[back, np.zeros_like(itself)], np.r_[gap, np.zeros(len(itself))]
    order = np.argsort(pair_from, kind="stable")
    classes = np.minimum(2 * np.log1p(np.maximum(gap, 0)), GAPS - 1).astype(np.int64)
    return back[order], classes[order], pair_from[order], pair_to[order]


def _numbers(
    every: Histories, whose: Ints, when: Doubles, first: Ints, known: Ints, *, season: bool
) -> npt.NDArray[np.float32]:
    """Return what is known of the user just before each token, on log scales, and the token's own size and money."""
    sets = len(every.set_at)
    cents = np.rint(every.row_value.astype(np.float64) * 100).astype(np.int64)
    money = _before(np.add.reduceat(cents, every.row_start[:-1]) if sets else cents)
    bought = _before((every.set_kind == every.kinds.index(PURCHASE)).astype(np.int64))
    own = np.r_[np.arange(sets), np.full(len(known) - sets, sets)]  # a question has neither size nor money
    own_money = np.r_[np.diff(money), 0][own] / 100
    size = np.r_[np.diff(every.row_start), 0][own]
    orders, spent = bought[known] - bought[first], (money[known] - money[first]) / 100
    some = known > first
    clock = np.r_[every.set_at, 0.0]
    since = np.where(some, when - clock[np.maximum(known - 1, 0)], NEVER)
    tenure = np.where(some, when - clock[first], 0.0)
    recent = [bought[known] - bought[np.maximum(first, sets_before(every, whose, when - d))] for d in (30, 90)]
    angle = when / YEAR * 2 * np.pi
    columns = [
        np.log1p(since),
        np.log1p(tenure),
        np.log1p(orders),
        np.log1p(size),
        np.sign(own_money) * np.log1p(np.abs(own_money)),
        np.log1p(np.maximum(spent, 0) / np.maximum(orders, 1)),
        *(np.log1p(np.maximum(count, 0)) for count in recent),
        np.log1p(tenure / np.maximum(orders, 1)),
        some,
        np.sin(angle) * season,
        np.cos(angle) * season,
    ]
    return np.stack(columns, axis=1).astype(np.float32)


def _met(
    every: Histories, at: Doubles, start: Ints, end: Ints, half_lives: tuple[float, ...]
) -> tuple[Ints, Ints, npt.NDArray[np.float32]]:
    """Return (question, product, features) for each product in a question's sight, ordered by question and product.

    Features: log of its purchases, each worth half as much after a half-life, one column each; log days since it was
    last met; log purchases; log of its share in the user's purchases; log units a purchase.
    """
    sets = ranges(start, end)
    query_of_set = np.repeat(np.arange(len(at)), end - start)
    count = every.row_start[sets + 1] - every.row_start[sets]
    rows, row_of = ranges(every.row_start[sets], every.row_start[sets + 1]), np.repeat(np.arange(len(sets)), count)
    query = query_of_set[row_of]
    width = int(every.row_item.max(initial=0)) + 1
    places, inverse = np.unique(query * width + every.row_item[rows], return_inverse=True)
    met_query, met_item = places // width, places % width
    age = (at[query_of_set] - every.set_at[sets])[row_of]
    is_purchase = (every.set_kind[sets] == every.kinds.index(PURCHASE)).astype(np.float64)
    bought = is_purchase[row_of]

    def per_product(values: Doubles) -> Doubles:
        return np.bincount(inverse, weights=values, minlength=len(places)).astype(np.float64)

    last = np.full(len(places), np.inf)
    np.minimum.at(last, inverse, age)
    times = per_product(bought)
    orders = np.bincount(query_of_set, weights=is_purchase, minlength=len(at))[met_query]
    units = per_product(bought * np.log1p(np.abs(every.row_quantity[rows]))) / np.maximum(times, 1)
    columns = [np.log(per_product(bought * 0.5 ** (age / half_life)) + 0.05) for half_life in half_lives]
    columns += [np.log1p(last) - 3, np.log(times + 0.5), np.log((times + 0.2) / (orders + 0.4)), units - 2]
    return met_query, met_item, np.stack(columns, axis=1).astype(np.float32)


def _before(values: Ints) -> Ints:
    """Return the sum of all values before each place, and of all."""
    return np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(values)])
