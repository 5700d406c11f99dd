"""What is asked of a model: a past to fit on, a past to ask with, and what came next. One function a protocol.

leave-one-out   last event = test, last but one = validation; order alone, no clock
time            everything from one moment on is test, the next set is the target; validation = the last set before it
basket          the next set within a horizon after a moment; validation = the same, one horizon earlier
next            nothing is test: validation = each user's last set, then everything is fitted
"""

from __future__ import annotations

import dataclasses
import datetime as dt
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

import numpy as np
import scipy.sparse as sp

from habitue.bench.sequences import NO_CLOCK, Sequences, steps
from habitue.core.errors import SchemaError
from habitue.model.past import PURCHASE, Histories, Past, next_sets

TIES = 0.05  # above this share an order of single events is invented
TIME_SHARE = 0.9  # of the rows lie before the moment of `time`
BASKET_SHARE = 0.75


@dataclass(frozen=True)
class Question:
    """Fit on `fit`, ask `ask` about its users; `slices`: name -> what came [B, <= I] 0/1."""

    fit: Past
    ask: Past
    slices: Mapping[str, sp.csr_matrix]


@dataclass(frozen=True)
class Task:
    """A protocol on a file. `test` None = nothing to measure: `final` is fitted and asked for lists."""

    name: str
    validation: Question
    test: Question | None
    final: Past | None = None  # `next`: everything
    refit: bool = False  # the model tested is fitted anew, else the one of the validation is
    notes: tuple[str, ...] = field(default=())


@dataclass(frozen=True)
class Settings:
    """How a protocol cuts; None = its default."""

    cut: dt.datetime | None = None
    horizon_days: int = 92
    refit: bool = False  # leave-one-out: fit with the validation event before the test


def leave_one_out(data: Sequences, settings: Settings) -> Task:
    """Users with fewer than three events are learnt from and not asked. Raises SchemaError above 5 % ties."""
    if data.ties > TIES:
        raise SchemaError(
            "bench ranking, protocol leave-one-out",
            found=f"{data.ties:.0%} of the rows share user and moment with another row",
            consequence="Which of them came last would be invented, and most of the score with it",
            remedy="Use --protocol time (clicks, ratings) or --protocol basket (orders), or name a column that tells "
            "the order with --order",
        )
    whole = dataclasses.replace(data, histories=steps(data.histories), clock=False).past(horizon_days=1)
    whole = dataclasses.replace(whole, as_of=NO_CLOCK)
    one, two = whole.rewind(whole.as_of - dt.timedelta(days=1)), whole.rewind(whole.as_of - dt.timedelta(days=2))
    long_enough = np.diff(whole.histories.set_start) >= 3
    last = _only(next_sets(whole.histories, after=one.day, until=whole.day), long_enough)
    last_but_one = _only(next_sets(whole.histories, after=two.day, until=one.day), long_enough)
    left = int((~long_enough).sum())
    return Task(
        name="leave-one-out-refit" if settings.refit else "leave-one-out",
        validation=Question(two, two, {"all": last_but_one}),
        test=Question(one if settings.refit else two, one, {"all": last}),
        refit=settings.refit,
        notes=(f"{left:,} users with fewer than 3 events are learnt from and not asked",) if left else (),
    )


def time(data: Sequences, settings: Settings) -> Task:
    """Slices: all = the next set; later = everything after the moment. Users without a past are not asked."""
    whole = _clocked(data, "time").past(horizon_days=settings.horizon_days)
    cut = _cut(whole, settings.cut, TIME_SHARE)
    past = whole.rewind(cut)
    target = next_sets(whole.histories, after=past.day, until=np.inf)
    later = _rows(whole.histories.keep_sets(whole.histories.set_at >= past.day))
    has_past = np.diff(past.histories.set_start) > 0
    new = int((~has_past & (np.diff(target.indptr) > 0)).sum())
    asked = {"all": _only(target, has_past), "later": _only(later, has_past)}
    notes = [f"test from {cut:%Y-%m-%d %H:%M} UTC on"]
    if new:
        notes.append(f"{new:,} users have no event before it and are not asked")
    return Task("time", _last_sets(past), Question(past, past, asked), refit=True, notes=tuple(notes))


def basket(data: Sequences, settings: Settings) -> Task:
    """Slices all, repeat and first_time are cut by `evaluate.basket`; here is the next set within the horizon.

    Users without a past are not asked.
    """
    whole = _clocked(data, "basket").past(horizon_days=settings.horizon_days)
    horizon = dt.timedelta(days=settings.horizon_days)
    cut = _cut(whole, settings.cut, BASKET_SHARE)
    past = whole.rewind(cut)
    earlier = past.rewind(cut - horizon)
    if not len(earlier.histories.set_at):
        raise SchemaError(
            "bench ranking, protocol basket",
            found=f"no event lies more than {settings.horizon_days} days before {cut:%Y-%m-%d}",
            consequence="There is no earlier horizon to choose settings on",
            remedy="Give a later --cut or a shorter --horizon-days",
        )
    until = min(past.day + settings.horizon_days, whole.day)
    asked = []
    for known, after, end in ((earlier, earlier.day, past.day), (past, past.day, until)):
        target = next_sets(whole.histories, after=after, until=end)
        has_past = np.diff(known.histories.set_start) > 0
        new = int((~has_past & (np.diff(target.indptr) > 0)).sum())
        asked.append(Question(known, known, {"all": _only(target, has_past)}))
    notes = [f"next order within {settings.horizon_days} days of {cut:%Y-%m-%d %H:%M} UTC"]
    if new:
        notes.append(f"{new:,} users have no event before it and are not asked")
    return Task("basket", asked[0], asked[1], refit=True, notes=tuple(notes))


def next(data: Sequences, settings: Settings) -> Task:
    """Fit everything; nothing is measured but the validation on each user's last set."""
    if data.clock:
        whole = data.past(horizon_days=settings.horizon_days)
        return Task("next", _last_sets(whole), None, final=whole, refit=True)
    whole = data.past(horizon_days=1)
    one = whole.rewind(whole.as_of - dt.timedelta(days=1))
    some = np.diff(one.histories.set_start) > 0
    last = _only(next_sets(whole.histories, after=one.day, until=whole.day), some)
    return Task("next", Question(one, one, {"all": last}), None, final=whole, refit=True)


PROTOCOLS: Mapping[str, Callable[[Sequences, Settings], Task]] = MappingProxyType(
    {"leave-one-out": leave_one_out, "time": time, "basket": basket, "next": next}
)


def _last_sets(past: Past) -> Question:
    """Take away each user's last set, and ask for it; a user of one set keeps it and is not asked."""
    count = np.diff(past.histories.set_start)
    ends = past.histories.set_start[1:][count > 1] - 1
    last = np.zeros(len(past.histories.set_at), dtype=bool)
    last[ends] = True
    earlier = dataclasses.replace(past, histories=past.histories.keep_sets(~last))
    return Question(earlier, earlier, {"all": _rows(past.histories.keep_sets(last))})


def _rows(every: Histories) -> sp.csr_matrix:
    """Return [B, items seen] 1 where the user met the item."""
    bought = every.of_kind(PURCHASE)
    width = int(every.row_item.max()) + 1 if len(every.row_item) else 0
    place = (bought.set_user[bought.row_set], bought.row_item)
    matrix = sp.csr_matrix((np.ones(len(bought.row_item), dtype=np.float32), place), (len(every.user_keys), width))
    matrix.sum_duplicates()
    matrix.data[:] = 1
    return matrix


def _only(target: sp.csr_matrix, users: np.ndarray) -> sp.csr_matrix:
    """Empty the rows of all other users."""
    kept = sp.csr_matrix(sp.diags_array(users.astype(np.float32)) @ target)
    kept.eliminate_zeros()
    return kept


def _clocked(data: Sequences, protocol: str) -> Sequences:
    if not data.clock:
        raise SchemaError(
            f"bench ranking, protocol {protocol}",
            found="the file has an order but no times",
            consequence="There is no moment to cut at that is the same for everybody",
            remedy="Use --protocol leave-one-out, or name a column of times with --time",
        )
    return data


def _cut(whole: Past, given: dt.datetime | None, share: float) -> dt.datetime:
    """Return the moment asked for, or the one before which `share` of the rows lie."""
    at = whole.histories.set_at[whole.histories.row_set]
    cut = given or dt.datetime.fromtimestamp(float(np.quantile(at, share)) * 86_400, tz=dt.UTC)
    day = cut.timestamp() / 86_400
    if not (at < day).any() or not (at >= day).any():
        first, last = (dt.datetime.fromtimestamp(d * 86_400, tz=dt.UTC) for d in (at.min(), at.max()))
        raise SchemaError(
            "bench ranking",
            found=f"the cut {cut:%Y-%m-%d %H:%M} leaves nothing on one side; events run from {first:%Y-%m-%d} to "
            f"{last:%Y-%m-%d}",
            consequence="There is nothing to learn from, or nothing to test on",
            remedy="Give a --cut between the two",
        )
    return cut
