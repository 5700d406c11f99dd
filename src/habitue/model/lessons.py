"""What the flagship is asked while it trains, and about which stretches of whose history.

Every purchase is a lesson: what was it, asked in the pause before it, or without a clock after the set before it? The
questions of `past.train_labels` about churn and money are asked in the same steps. A pass cuts every history into
stretches of at most `window` sets, at places drawn anew, and asks every lesson once.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import functools
import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import polars as pl
import scipy.sparse as sp

from habitue.core import metrics
from habitue.core.errors import ModelError
from habitue.model.batches import Doubles, Known, known, sets_before
from habitue.model.past import DAY_US, PURCHASE, Floats, Histories, Ints, Past, check_traits, next_sets, ranges

FIRST_WEIGHT = 0.3  # of a customer's first order among the questions: LOG.md, "first orders"
LEAST_REPEATS = 0.02  # share of the rows to foretell that the customer had met; with fewer there are no repeats
HELD, LEAST_HELD, MOST_HELD = 20, 200, 2_000  # customers held back to look at while training: one in so many


@dataclass(frozen=True)
class Lessons:
    """All questions whose answer is known, by user and moment: L next sets and M labels."""

    known: Known
    again: bool  # things are bought again
    user: Ints  # [L]
    target: Ints  # [L] the set to foretell, ascending
    key: Ints  # [L] target + user
    since: Ints  # [L] the first set after the purchase before it; the target itself when there is none
    after: Doubles  # [L] moment of the purchase before it; its own moment when there is none
    weight: Floats  # [L] mean 1
    label_key: Ints  # [M] index of the first set the label's question does not see + user, ascending
    label_at: Doubles  # [M]
    churned: Floats  # [M]
    money: Floats  # [M] at least 0
    wait: Floats  # [M] days until the next purchase, infinite where none is known
    seen: Floats  # [M] days between the label's question and `as_of`
    next_kind: Ints  # [M] of the first set after the question, -1 = none in the horizon


def lessons(past: Past, *, clock: bool) -> Lessons:
    """Collect every question whose answer is known at `past.as_of`; O(rows log rows).

    Without a clock a customer's first set is no lesson (nothing answers for it), and nothing is asked about churn and
    money. Raises ModelError when nobody bought anything.
    """
    check_traits(past)
    every = past.histories.before(past.day)
    target = np.flatnonzero(every.set_kind == every.kinds.index(PURCHASE))
    if not len(target):
        raise ModelError(
            "model.behaviour",
            found="no purchase of any product before as_of",
            consequence="There is no next order to learn from",
            remedy="Import orders, or move as_of behind the first of them",
        )
    user = every.set_user[target]
    again = np.r_[False, user[1:] == user[:-1]]
    since = np.where(again, np.r_[0, target[:-1] + 1], target)
    after = np.where(again, every.set_at[since - 1], every.set_at[target])
    count = np.bincount(user, minlength=len(every.user_keys))
    # One over the root: a customer with 100 orders says more than one with two, but not fifty times more.
    weight = np.where(again, np.maximum(count[user] - 1, 1) ** -0.5, FIRST_WEIGHT)
    if not clock:  # the newest set answers: where there is none nothing can
        kept = target > every.set_start[user]
        user, target, since, after, weight = (part[kept] for part in (user, target, since, after, weight))
    labels = past.train_labels.filter(pl.col("user_key").is_in(every.user_keys.tolist()), clock)
    labels = labels.sort("user_key", "as_of")
    owner = np.searchsorted(every.user_keys, labels["user_key"].to_numpy())
    at = labels["as_of"].dt.epoch("us").to_numpy() / DAY_US
    unseen = sets_before(every, owner, at)
    wait, next_kind = _what_came(every, owner, unseen, at, past.horizon_days)
    return Lessons(
        known=known(every, season=bool(np.ptp(every.set_at) >= 366), traits=past.traits),
        again=_repeats(every, target) >= LEAST_REPEATS,
        user=user,
        target=target,
        key=target + user,
        since=since,
        after=after,
        weight=(weight / weight.mean()).astype(np.float32),
        label_key=unseen + owner,
        label_at=at,
        churned=labels["churned"].to_numpy().astype(np.float32),
        money=np.maximum(labels["value"].to_numpy(), 0).astype(np.float32),
        wait=wait,
        seen=(past.day - at).astype(np.float32),
        next_kind=next_kind,
    )


def _what_came(every: Histories, owner: Ints, unseen: Ints, at: Doubles, horizon_days: int) -> tuple[Floats, Ints]:
    """Return the days until each owner's next purchase, and the kind of the next set of all; `unseen` = that set."""
    sets = len(every.set_at)
    purchase = np.where(every.set_kind == every.kinds.index(PURCHASE), np.arange(sets), sets)
    bought = np.append(np.minimum.accumulate(purchase[::-1])[::-1], sets)[unseen]
    end, clock = every.set_start[owner + 1], np.append(every.set_at, np.inf)
    wait = np.where(bought < end, clock[bought] - at, np.inf)
    soon = (unseen < end) & (clock[unseen] - at < horizon_days)
    kind = np.where(soon, np.append(every.set_kind, -1)[unseen], -1)
    return wait.astype(np.float32), kind.astype(np.int64)


@dataclass(frozen=True)
class Held:
    """What training does not see, to look at how good it is."""

    past: Past  # without what the held customers did in the last horizon
    asked: Past  # those customers, one horizon earlier
    target: sp.csr_matrix  # [B, I] the first set each bought in that horizon, 0 or 1

    def ndcg(self, scores: Floats) -> float:
        """Return the mean NDCG@10 of scores [B, I], over the whole catalogue."""
        return float(metrics.ndcg_at(metrics.places(scores, self.target), 10).mean())


def hold_back(past: Past) -> Held:
    """Hold back the last horizon of one customer in HELD (LEAST_HELD or more, MOST_HELD or fewer) who bought in it.

    Never more than half of those who did. Raises ModelError when nobody known from before did.
    """
    earlier = past.rewind(past.as_of - dt.timedelta(days=past.horizon_days))
    target = next_sets(past.histories, after=earlier.day, until=past.day)
    able = np.flatnonzero((np.diff(target.indptr) > 0) & (np.diff(earlier.histories.set_start) > 0) & past.known)
    count = min(max(len(able) // HELD, LEAST_HELD), MOST_HELD, len(able) // 2)
    if not count:
        raise ModelError(
            "model.behaviour, setting 'patience'",
            found=f"{len(able):,} customers bought before and in the last {past.horizon_days} days",
            consequence="There is nobody to look at while training, so nothing can end it early",
            remedy="Set patience = 0, or give a longer ledger",
        )
    users = able[np.linspace(0, len(able) - 1, count).astype(np.int64)]
    every = past.histories
    hidden = np.isin(every.set_user, users) & (every.set_at >= earlier.day)
    theirs = pl.col("user_key").is_in(every.user_keys[users].tolist()) & (pl.col("horizon_end") > earlier.as_of)
    kept = past.train_labels.filter(~theirs)
    return Held(
        past=dataclasses.replace(past, histories=every.keep_sets(~hidden), train_labels=kept),
        asked=earlier.take(users),
        target=sp.csr_matrix((target.data, target.indices, target.indptr), (target.shape[0], len(past.items)))[users],
    )


def _repeats(every: Histories, target: Ints) -> float:
    """Return the share of the targets' rows whose user had met the item in an earlier set."""
    owner = every.set_user[every.row_set]
    pair = owner * (int(every.row_item.max(initial=0)) + 1) + every.row_item
    first = np.unique(pair, return_index=True)[1]  # rows ascend by user and time
    met = np.ones(len(pair), dtype=bool)
    met[first] = False
    asked = np.isin(every.row_set, target)
    return float(met[asked].mean()) if asked.any() else 0.0


@dataclass(frozen=True)
class Stretches:
    """G runs of sets start:end, at most `window` long; everything about user u and the sets before k is at k + u."""

    user: Ints
    start: Ints
    end: Ints
    low: Ints  # questions with low <= k + u < high belong to the stretch
    high: Ints

    def take(self, some: Ints) -> Stretches:
        """Return some of them, in this order."""
        return Stretches(*(getattr(self, field.name)[some] for field in dataclasses.fields(self)))

    def about(self, key: Ints) -> tuple[Ints, Ints]:
        """Return the questions of these stretches, by stretch, and whose they are; `key` = k + u, ascending."""
        first, last = np.searchsorted(key, self.low), np.searchsorted(key, self.high)
        return ranges(first, last), np.repeat(np.arange(len(first)), last - first)


def stretches(every: Histories, window: int, rng: np.random.Generator, *, last: bool) -> Stretches:
    """Cut every history into stretches at places drawn anew; `last` False leaves out everybody's newest set."""
    first = every.set_start[:-1]
    length = np.maximum(np.diff(every.set_start) - (not last), 0)
    head = np.where(length <= window, length, rng.integers(1, window + 1, len(length)))
    count = np.where(length > 0, 1 + -(-(length - head) // window), 0)
    user = np.repeat(np.arange(len(first)), count)
    place = np.arange(len(user)) - edges(count)[user]
    start = first[user] + np.where(place, head[user] + (place - 1) * window, 0)
    end = first[user] + np.minimum(head[user] + place * window, length[user])
    return Stretches(user, start, end, start + user + (place > 0), end + user + 1)


def drawn(
    lessons: Lessons, *, window: int, questions: int, clock: bool, seed: int
) -> tuple[int, Callable[[int], Stretches]]:
    """Return the steps of a pass, and step -> its stretches; every pass takes each lesson once, in an order of its own.

    A step holds about `questions` lessons; where one stretch has more, more.
    """
    every, total = lessons.known.every, len(lessons.key)
    with_lessons = len(np.unique(lessons.user))
    steps: int = min(math.ceil(total / questions), with_lessons)

    @functools.lru_cache(maxsize=1)
    def a_pass(number: int) -> tuple[Stretches, Ints]:
        rng = np.random.default_rng((seed, number, 1))
        cut = stretches(every, window, rng, last=clock)
        count = np.searchsorted(lessons.key, cut.high) - np.searchsorted(lessons.key, cut.low)
        cut, count = cut.take(np.flatnonzero(count)), count[count > 0]
        order = rng.permutation(len(count))
        places = np.arange(steps + 1)  # no step without a stretch, however many lessons one of them has
        bounds = np.searchsorted(np.cumsum(count[order]), places * (total / steps), side="right") - places
        bounds = np.minimum(np.maximum.accumulate(bounds), len(order) - steps) + places
        bounds[0], bounds[-1] = 0, len(order)
        return cut.take(order), bounds

    def of_step(step: int) -> Stretches:
        cut, bounds = a_pass(step // steps)
        return cut.take(np.arange(bounds[step % steps], bounds[step % steps + 1]))

    return steps, of_step


def edges(count: Ints) -> Ints:
    """Return where each of some runs begins, and where the last one ends."""
    return np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(count)])
