"""Stretches of histories and questions -> the flat tensors of one step; no step and no logit of padding.

A stretch is a run of one user's sets, read as tokens one after the other. A question ("what next, at this moment?")
belongs to a stretch and sees the sets of it that came strictly before its moment. Where there is a clock a question is
a token of its own, which tells the moment; without one the newest set it sees answers for it. No token sees a question.
All sums over money are made in whole cents, so that a user's numbers do not depend on who else is in the batch.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from habitue.model.past import PURCHASE, Floats, Histories, Ints, ranges

Doubles = npt.NDArray[np.float64]

NUMBERS = 12  # what `numbers` holds, see _numbers
GAPS = 16  # classes of time between two sets
RECENT_DAYS = (30, 90)
RECENT = 128  # recent purchases are counted up to here, so that what is kept of a customer has a bound
NEVER = 400.0  # days; stands for "no set before"
YEAR = 365.25
ALIKE = 2  # stretches attended together: none more than so many times longer than another
SHORT = 8  # sets; stretches up to this long are alike


@dataclass(frozen=True)
class Known:
    """Histories, and what is told of each set; made once, read by every step."""

    every: Histories
    season: bool  # tell the place in the year: only a shop known for a year can learn from it
    cents: Ints  # [S + 1] of all sets before each
    bought: Ints  # [S + 1] purchases among all sets before each
    numbers: Floats  # [S, NUMBERS]; none without a clock
    traits: Floats  # [B, U] what is known of the person; U = 0 where nothing is of anybody


@dataclass(frozen=True)
class Questions:
    """Q questions about G stretches; the first `ranked` of them are told what was met before."""

    start: Ints  # [G] the stretch's sets are start:end of the histories, all of one user
    end: Ints  # [G]
    user: Ints  # [G]
    of: Ints  # [Q] the stretch
    before: Ints  # [Q] the question sees sets start[of]:before
    at: Doubles  # [Q] moment, days since 1970-01-01 UTC; later than every set it sees
    ranked: int


@dataclass(frozen=True)
class Group:
    """Stretches of like length, attended together: b stretches, T tokens that look at K sets at most."""

    token: Tensor  # [b, T] place among the tokens that look; their number = none
    seen: Tensor  # [b, K] place among the S sets; S = none
    back: Tensor  # [b, T, K], or [1, T, K] when the same for all: 0 = out of sight, 1 = the newest set in sight, ...
    gap: Tensor | None  # [b, T, K] class of the time between; None without a clock
    asks: Tensor | None  # [1, T] 1.0 = a question, which is no set; None = there is none among them


@dataclass(frozen=True)
class Sight:
    """Which tokens look at which sets."""

    sets: int
    pause: Tensor  # [N] days since the set before each token, of all tokens
    groups: tuple[Group, ...]
    order: Tensor  # where each token that looks lies in the groups' tokens, one group after the other


@dataclass(frozen=True)
class Batch:
    """One step's tensors; N = S sets + the questions that are tokens, C pairs of a question and a product met."""

    sets: int
    length: Ints  # [G] sets of each stretch
    kind: Tensor  # [N] index of the action; a question has the last one
    hour: Tensor  # [S] UTC
    weekday: Tensor  # [S] 0 = Monday
    numbers: Tensor  # [N, NUMBERS]; zeros without a clock
    row_set: Tensor  # [R]
    row_item: Tensor  # [R]
    row_share: Tensor  # [R] 1 / rows of the set
    asked: Tensor  # [Q] the token that answers each question
    every: Sight  # of all N tokens
    last: Sight | None  # of the Q tokens that answer only; None where they are most of all
    met_query: Tensor  # [C] question, ascending
    met_item: Tensor  # [C]
    met: Tensor  # [C, len(half_lives) + 4]
    traits: Tensor  # [Q, U] of the person who is asked

    def to(self, device: str) -> Batch:
        """Return the batch on a device."""
        moved: Batch = _moved(self, device)
        return moved


def known(every: Histories, *, season: bool, clock: bool = True, traits: Floats | None = None) -> Known:
    """Tell of every set what is known at its moment, its own products included; O(S log S).

    Without a clock nothing is told.
    """
    cents = np.rint(every.row_value.astype(np.float64) * 100).astype(np.int64)
    bare = Known(
        every,
        season,
        cents=_before(np.add.reduceat(cents, every.row_start[:-1]) if len(every.set_at) else cents),
        bought=_before((every.set_kind == every.kinds.index(PURCHASE)).astype(np.int64)),
        numbers=np.zeros((0, NUMBERS), dtype=np.float32),
        traits=np.zeros((len(every.user_keys), 0), dtype=np.float32) if traits is None else traits,
    )
    if not clock:
        return bare
    sets = np.arange(len(every.set_at))
    money = np.diff(bare.cents) / 100
    own = [np.log1p(np.diff(every.row_start)), np.sign(money) * np.log1p(np.abs(money))]
    return dataclasses.replace(bare, numbers=_numbers(bare, every.set_user, sets, every.set_at, own))


def told(known: Known, user: Ints, before: Ints, at: Doubles) -> Floats:
    """Return the numbers of questions [Q, NUMBERS]: what is known at `at` of the user's sets before `before`."""
    return _numbers(known, user, before, at, [np.zeros(len(user))] * 2)


def collate(
    known: Known, ask: Questions, *, kinds: Ints, half_lives: tuple[float, ...], clock: bool, window: int
) -> Batch:
    """Build the batch of some questions; O(sets of the stretches + pairs in sight).

    kinds: place of each of the histories' kinds in the model's own list, and last the place of a question;
    half_lives: days; () = nothing is told of products met before; `clock`: a question is a token that tells its
    moment, else it must see a set; `window`: newest sets whose products count as met.
    """
    every = known.every
    sets = ranges(ask.start, ask.end)
    length = ask.end - ask.start
    first = _before(length)[:-1]  # place of each stretch's first token
    count, asked = len(sets), len(ask.of) if clock else 0
    rows = ranges(every.row_start[sets], every.row_start[sets + 1])
    size = np.diff(every.row_start)[sets]
    row_set = np.repeat(np.arange(count), size)
    numbers, when = np.zeros((count, NUMBERS), dtype=np.float32), every.set_at[sets]
    if clock:
        user = ask.user[ask.of]
        numbers = np.r_[known.numbers[sets], told(known, user, ask.before, ask.at)]
        when = np.r_[when, ask.at]
    tensor = torch.from_numpy
    pause = tensor(np.expm1(numbers[:, 0]))
    all_tokens, those_asked = _sight(ask, length, first, when, clock)
    met_query, met_item, met = met_before(every, ask, half_lives, window)
    of_kind = np.r_[kinds[every.set_kind[sets]], np.full(asked, kinds[-1])]
    return Batch(
        sets=count,
        length=length,
        kind=tensor(of_kind.astype(np.int64)),
        hour=tensor((every.set_at[sets] % 1 * 24).astype(np.int64)),
        weekday=tensor(((np.floor(every.set_at[sets]) + 3) % 7).astype(np.int64)),  # 1970-01-01 was a Thursday
        numbers=tensor(numbers),
        row_set=tensor(row_set),
        row_item=tensor(every.row_item[rows].astype(np.int64)),
        row_share=tensor((1 / size[row_set]).astype(np.float32)),
        asked=tensor(count + np.arange(asked) if clock else first[ask.of] + ask.before - ask.start[ask.of] - 1),
        every=Sight(count, pause, *all_tokens),
        last=None if those_asked is None else Sight(count, pause, *those_asked),
        met_query=tensor(met_query),
        met_item=tensor(met_item),
        met=tensor(met),
        traits=tensor(known.traits[ask.user[ask.of]]),
    )


def first_in_sight(count: Ints, window: int) -> Ints:
    """Return the place of the first set of the newest stretch, of histories of `count` sets.

    A stretch grows to `window` sets; the next set finds it full, and it begins again with the newest half. So a stretch
    that is kept up to date is computed anew once in `window` / 2 sets, and is the same whenever it is asked for.
    """
    half = max(window // 2, 1)
    return np.maximum(-((window - count) // half), 0) * half


def first_in_sight_of(count: int, window: int) -> int:
    """The same of one token, in plain numbers."""
    half = max(window // 2, 1)
    return max(-((window - count) // half), 0) * half


def gaps(apart: Doubles) -> Ints:
    """Return the class of each time between two sets, in days."""
    classes: Ints = np.minimum(2 * np.log1p(np.maximum(apart, 0)), GAPS - 1).astype(np.int64)
    return classes


def kind_places(known: tuple[str, ...], asked: tuple[str, ...]) -> Ints:
    """Return the place of each kind: known ones first, then one for any other, last the question."""
    return np.array([*(known.index(k) if k in known else len(known) for k in asked), len(known) + 1])


def sets_before(every: Histories, user: Ints, at: Doubles) -> Ints:
    """Return for each (user, at) the index of the first set of that user that is not strictly before `at`.

    One binary search for all, O(Q log(sets of a user)).
    """
    low, high = every.set_start[user].copy(), every.set_start[user + 1].copy()
    clock = np.r_[every.set_at, np.inf]
    while (low < high).any():
        middle = (low + high) // 2
        earlier = (clock[middle] < at) & (low < high)
        low, high = np.where(earlier, middle + 1, low), np.where(earlier, high, np.minimum(middle, high))
    return low


Looking = tuple[tuple[Group, ...], Tensor]  # the groups, and where each token lies in them


def _sight(ask: Questions, length: Ints, first: Ints, when: Doubles, clock: bool) -> tuple[Looking, Looking | None]:
    """Return how all tokens look, and how those do that answer, where these are fewer."""
    sets = int(length.sum())
    many = np.bincount(ask.of, minlength=len(length))
    turn, first_question = np.argsort(ask.of, kind="stable"), _before(many)[:-1]  # questions by stretch
    seen = np.r_[ask.before - ask.start[ask.of], 0]  # sets that each question sees
    alike = np.ceil(np.log(np.maximum(length, SHORT) / SHORT) / np.log(ALIKE) - 1e-9).astype(np.int64)
    some_by_class = [np.flatnonzero(alike == one) for one in np.unique(alike)]
    every: list[tuple[Any, ...]] = []
    last: list[tuple[Any, ...]] = []
    at = np.r_[when, 0.0]
    for some in some_by_class:
        wide, more = int(length[some].max()), int(many[some].max(initial=0))
        mine, asked = np.arange(wide), np.arange(more)
        is_set, is_question = mine < length[some, None], asked < many[some, None]
        place = np.where(is_set, first[some, None] + mine, sets)
        question = np.full(is_question.shape, len(ask.of))
        question[is_question] = turn[(first_question[some, None] + asked)[is_question]]
        end = seen[question]
        if clock:
            token = np.c_[np.where(is_set, place, sets + len(ask.of)), sets + question]
            end = np.c_[np.broadcast_to(mine + 1, (len(some), wide)), end]
            asks = np.repeat([0.0, 1.0], [wide, more]).astype(np.float32)[None]
            back = np.maximum(end[:, :, None] - mine, 0) * is_set[:, None]
            gap = gaps(at[token][:, :, None] - at[place][:, None])
            every.append((token, place, back, gap, asks))
            last.append((question, place, back[:, wide:], gap[:, wide:], asks[:, wide:]))
        else:  # the same for all: no token sees further than itself, and what pads comes last
            every.append((place, place, np.maximum(mine[:, None] + 1 - mine, 0)[None], None, None))
            last.append((question, place, np.maximum(end[:, :, None] - mine, 0), None, None))
    tokens = sets + (len(ask.of) if clock else 0)
    fewer = clock or int(many.max(initial=0)) <= 1
    return _looking(every, tokens), _looking(last, len(ask.of)) if fewer else None


def _looking(groups: list[tuple[Any, ...]], tokens: int) -> Looking:
    """Return groups as tensors, and where each of their tokens lies."""
    laid = np.concatenate([g[0].ravel() for g in groups] or [np.zeros(0, dtype=np.int64)])
    there = np.flatnonzero(laid < tokens)
    order = np.empty(tokens, dtype=np.int64)
    order[laid[there]] = there
    tensors: list[list[Any]] = [[None if part is None else torch.from_numpy(part) for part in g] for g in groups]
    return tuple(Group(*parts) for parts in tensors), torch.from_numpy(order)


def _moved(part: Any, device: str) -> Any:
    """Return a tensor, or a dataclass or a tuple with tensors in it, on a device."""
    if isinstance(part, Tensor):
        return part.to(device)
    if isinstance(part, tuple):
        return tuple(_moved(one, device) for one in part)
    if dataclasses.is_dataclass(part) and not isinstance(part, type):
        return type(part)(**{f.name: _moved(getattr(part, f.name), device) for f in dataclasses.fields(part)})
    return part


def _numbers(known: Known, user: Ints, before: Ints, when: Doubles, own: list[Doubles]) -> Floats:
    """Return what is known at `when` of the user's sets before `before` [N, NUMBERS]; `own`: see `scaled`."""
    every = known.every
    first = every.set_start[user]
    some = before > first
    clock = np.r_[every.set_at, 0.0]
    recent = [known.bought[before] - known.bought[sets_before(every, user, when - days)] for days in RECENT_DAYS]
    return scaled(
        since=np.where(some, when - clock[np.maximum(before - 1, 0)], NEVER),
        tenure=np.where(some, when - clock[first], 0.0),
        orders=known.bought[before] - known.bought[first],
        spent=(known.cents[before] - known.cents[first]) / 100,
        recent=recent,
        own=own,
        angle=when / YEAR * 2 * np.pi,
        some=some,
        season=known.season,
    )


def scaled(
    *,
    since: Doubles,
    tenure: Doubles,
    orders: Ints,
    spent: Doubles,
    recent: list[Ints],
    own: list[Doubles],
    angle: Doubles,
    some: npt.NDArray[np.bool_],
    season: bool,
) -> Floats:
    """Return what is known at a moment, on log scales [N, NUMBERS].

    Days since the newest set and the oldest, purchases and money before, purchases of RECENT_DAYS, size and money of
    the set itself (`own`), the place in the year, whether there is any set before.
    """
    columns = [
        np.log1p(since),
        np.log1p(tenure),
        np.log1p(orders),
        *own,
        np.log1p(np.maximum(spent, 0) / np.maximum(orders, 1)),
        *(np.log1p(np.clip(count, 0, RECENT)) for count in recent),
        np.log1p(tenure / np.maximum(orders, 1)),
        some,
        np.sin(angle) * season,
        np.cos(angle) * season,
    ]
    return np.stack(columns, axis=1).astype(np.float32)


def met_before(
    every: Histories, ask: Questions, half_lives: tuple[float, ...], window: int
) -> tuple[Ints, Ints, Floats]:
    """Return (question, product, features) of what each question's user met in `window` sets, ordered by both.

    Features: log of its purchases, each worth half as much after a half-life, one column each; log days since it was
    last met; log purchases; log of its share in the user's purchases; log units a purchase.
    """
    if not half_lives:
        none = np.zeros(0, dtype=np.int64)
        return none, none, np.zeros((0, 4), dtype=np.float32)
    of, before, at = ask.of[: ask.ranked], ask.before[: ask.ranked], ask.at[: ask.ranked]
    start = np.maximum(every.set_start[ask.user[of]], before - window)
    sets = ranges(start, before)
    query_of_set = np.repeat(np.arange(ask.ranked), before - start)
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
    orders = np.bincount(query_of_set, weights=is_purchase, minlength=ask.ranked)[met_query]
    units = per_product(bought * np.log1p(np.abs(every.row_quantity[rows]))) / np.maximum(times, 1)
    columns = [np.log(per_product(bought * 0.5 ** (age / half_life)) + 0.05) for half_life in half_lives]
    columns += [np.log1p(last) - 3, np.log(times + 0.5), np.log((times + 0.2) / (orders + 0.4)), units - 2]
    return met_query, met_item, np.stack(columns, axis=1).astype(np.float32)


def _before(values: Ints) -> Ints:
    """Return the sum of all values before each place, and of all."""
    return np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(values)])
