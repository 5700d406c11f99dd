"""What is asked of a model: a past to fit on, a past to ask with, and what came next. One function a protocol.

leave-one-out   last event = test, last but one = validation; order alone, no clock
time            everything from one moment on is test, the next set is the target; validation = the last set before it
basket          the next set within a horizon after a moment; validation = the same, one horizon earlier
next            nothing is test: validation = each user's last set, then everything is fitted
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
import scipy.sparse as sp

from habitue.bench.sequences import NO_CLOCK, Sequences, steps
from habitue.core.errors import SchemaError
from habitue.evaluate.ranking import slices
from habitue.model.past import Ints, Past, bought, next_sets

TIES = 0.05  # above this share an order of single events is invented
TIME_SHARE = 0.9  # of the rows lie before the moment of `time`
BASKET_SHARE = 0.75

Slices = Mapping[str, tuple[sp.csr_matrix, sp.csr_matrix | None]]  # name -> relevant, no candidates [B, I] 0/1


@dataclass(frozen=True)
class Question:
    """Fit on `fit`, ask `ask` about its users; no slices = lists for everybody, and nothing to measure."""

    fit: Past
    ask: Past
    slices: Slices

    @property
    def asked(self) -> Ints:
        """Users to whom something came; without slices everybody."""
        came = [np.diff(relevant.indptr) > 0 for relevant, _ in self.slices.values()]
        return np.flatnonzero(np.any(came, axis=0)) if came else np.arange(len(self.ask.known))


@dataclass(frozen=True)
class Task:
    """A protocol on a file."""

    name: str
    validation: Question
    test: Question
    refit: bool  # the model tested is fitted anew; False = it is the one fitted for validation
    repeats: bool  # what a user has may stand in the lists
    clock: bool = True  # False: a day is a step of a user's sequence
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Settings:
    """How a protocol cuts, and what may be recommended; None = its default."""

    cut: dt.datetime | None = None
    horizon_days: int = 92
    refit: bool = False  # leave-one-out: fit with the validation event before the test
    repeats: bool = False  # what a user has is a candidate


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
        validation=_question(two, two, settings, all=last_but_one),
        test=_question(one if settings.refit else two, one, settings, all=last),
        refit=settings.refit,
        repeats=settings.repeats,
        clock=False,
        notes=(f"{left:,} users with fewer than 3 events are learnt from and not asked",) if left else (),
    )


def time(data: Sequences, settings: Settings) -> Task:
    """Slices: all = the next set; later = everything after the moment. Users without a past are not asked.

    Validation asks the same of an earlier moment: the last set of everybody, whenever that was, would teach settings
    for a question months after it, and the test is asked of those who have just been here.
    """
    whole = _clocked(data, "time").past(horizon_days=settings.horizon_days)
    cut = _cut(whole, settings.cut, TIME_SHARE)
    past = whole.rewind(cut)
    target, new = _known(past, next_sets(whole.histories, after=past.day, until=np.inf))
    later, _ = _known(past, bought(whole.histories.keep_sets(whole.histories.set_at >= past.day), len(past.items)))
    earlier = past.rewind(_cut(past, None, TIME_SHARE))
    before, _ = _known(earlier, next_sets(past.histories, after=earlier.day, until=past.day))
    return Task(
        name="time",
        validation=_question(earlier, earlier, settings, all=before),
        test=_question(past, past, settings, all=target, later=later),
        refit=True,
        repeats=settings.repeats,
        notes=(f"test from {cut:%Y-%m-%d %H:%M} UTC on", *new),
    )


def basket(data: Sequences, settings: Settings) -> Task:
    """Slices all, repeat and first_time of the next set within the horizon; users without a past are not asked."""
    whole = _clocked(data, "basket").past(horizon_days=settings.horizon_days)
    cut = _cut(whole, settings.cut, BASKET_SHARE)
    past = whole.rewind(cut)
    earlier = past.rewind(cut - dt.timedelta(days=settings.horizon_days))
    if not len(earlier.histories.set_at):
        raise SchemaError(
            "bench ranking, protocol basket",
            found=f"no event lies more than {settings.horizon_days} days before {cut:%Y-%m-%d}",
            consequence="There is no earlier horizon to choose settings on",
            remedy="Give a later --cut or a shorter --horizon-days",
        )
    before, _ = _known(earlier, next_sets(whole.histories, after=earlier.day, until=past.day))
    until = min(past.day + settings.horizon_days, whole.day)
    target, new = _known(past, next_sets(whole.histories, after=past.day, until=until))
    return Task(
        name="basket",
        validation=Question(earlier, earlier, slices(before, bought(earlier.histories, len(earlier.items)))),
        test=Question(past, past, slices(target, bought(past.histories, len(past.items)))),
        refit=True,
        repeats=settings.repeats,
        notes=(f"next order within {settings.horizon_days} days of {cut:%Y-%m-%d %H:%M} UTC", *new),
    )


def next(data: Sequences, settings: Settings) -> Task:
    """Fit everything; nothing is measured but the validation on each user's last set."""
    whole = data.past(horizon_days=settings.horizon_days if data.clock else 1)
    if data.clock:
        validation = _last_sets(whole, settings)
    else:
        one = whole.rewind(whole.as_of - dt.timedelta(days=1))
        last, _ = _known(one, next_sets(whole.histories, after=one.day, until=whole.day))
        validation = _question(one, one, settings, all=last)
    return Task("next", validation, Question(whole, whole, {}), refit=True, repeats=settings.repeats, clock=data.clock)


PROTOCOLS: Mapping[str, Callable[[Sequences, Settings], Task]] = MappingProxyType(
    {"leave-one-out": leave_one_out, "time": time, "basket": basket, "next": next}
)


def fingerprint(task: Task) -> str:
    """Return 12 letters that change with anything the value of a trial rests on: the file, the protocol, its cut."""
    question = task.validation
    digest = hashlib.sha256(repr((task.name, task.repeats)).encode())
    for past in (question.fit, question.ask):
        digest.update(repr((past.as_of, past.horizon_days, past.items)).encode())
        for array in vars(past.histories).values():
            digest.update(np.asarray(array).tobytes())
    for matrix in (question.fit.words, *(matrix for pair in question.slices.values() for matrix in pair)):
        for part in (matrix.indptr, matrix.indices, matrix.data) if matrix is not None else ():
            digest.update(part.tobytes())
    return digest.hexdigest()[:12]


def _question(fit: Past, ask: Past, settings: Settings, **targets: sp.csr_matrix) -> Question:
    """Ask for `targets`; what a user has is no candidate and not relevant, unless repeats are."""
    had, kept = bought(ask.histories, len(ask.items)), "all" if settings.repeats else "first_time"
    return Question(fit, ask, {name: slices(target, had)[kept] for name, target in targets.items()})


def _last_sets(past: Past, settings: Settings) -> Question:
    """Take away each user's last set, and ask for it; a user of one set keeps it and is not asked."""
    count = np.diff(past.histories.set_start)
    ends = past.histories.set_start[1:][count > 1] - 1
    last = np.zeros(len(past.histories.set_at), dtype=bool)
    last[ends] = True
    earlier = dataclasses.replace(past, histories=past.histories.keep_sets(~last))
    return _question(earlier, earlier, settings, all=bought(past.histories.keep_sets(last), len(past.items)))


def _known(past: Past, target: sp.csr_matrix) -> tuple[sp.csr_matrix, tuple[str, ...]]:
    """Leave only users with a history in `target`, and say how many others there were."""
    known = np.diff(past.histories.set_start) > 0
    new = int((~known & (np.diff(target.indptr) > 0)).sum())
    return _only(target, known), (f"{new:,} users have no event before it and are not asked",) if new else ()


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
