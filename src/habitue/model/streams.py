"""Users' streams of sets -> flat tokens and the next set of each prefix; for models that read one set after the other.

A token is one set: the mean of its items' vectors, the kind of event and the time since the set before. A long stream
is read in stretches of `window` sets, counted back from the newest. Every set that a purchase follows is a lesson: its
target is the whole next purchase. Tokens of a step lie one after the other: no step and no logit is spent on padding.
"""

from __future__ import annotations

import dataclasses
import hashlib
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp
import torch
from torch import Tensor, nn

from habitue.core.errors import ModelError
from habitue.core.runtime import Runtime
from habitue.model import seeds, train
from habitue.model.fuse import Sum
from habitue.model.losses import Sparse, half_is_quick, set_cross_entropy
from habitue.model.past import PURCHASE, Floats, Histories, Ints, Past, columns, places, ranges

GAPS = 16  # classes of time between two sets, 1.5 log(1 + hours): 1 is an hour, 4 a day, 15 two and a half years
UNSOLD = -1e4  # score of a product without sales while training: no evidence against it
USERS_A_CALL = 256  # users scored at once
STEPS_A_PASS = 400  # fewer, larger steps learn less: LOG.md, "recurrent and convolutional nets"
LEAST_STRETCHES = 16  # a step, in a small shop

Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Batch:
    """Stretches one after the other, the longest first; N sets, Q lessons."""

    place: Tensor  # [N] 0 = the first set of its stretch
    kind: Tensor  # [N] index of the action
    gap: Tensor  # [N] class of the time since the set before
    row_set: Tensor  # [R]
    row_item: Tensor  # [R]
    row_share: Tensor  # [R] 1 / rows of the set
    lesson: Tensor  # [Q] the sets with a target, ascending
    target: Sparse  # [Q, I] the next purchase, each row adds up to 1

    def to(self, device: str) -> Batch:
        """Return the batch on a device."""
        target = Sparse(*(getattr(self.target, f.name).to(device) for f in dataclasses.fields(Sparse)))
        named = [f.name for f in dataclasses.fields(self) if f.name != "target"]
        return Batch(**{name: getattr(self, name).to(device) for name in named}, target=target)


class Reader(nn.Module):
    """The items' table, and sets as vectors of it."""

    def __init__(self, width: int, *, kinds: int, content: int, met: Bools, dropout: float) -> None:
        super().__init__()
        self.items = Sum(len(met), content, width, sold=torch.from_numpy(met.astype(np.float32)))
        self.kind, self.gap = (nn.Embedding(count, width) for count in (kinds + 1, GAPS))
        for clock in (self.kind, self.gap):
            nn.init.zeros_(clock.weight)
        self.norm = nn.LayerNorm(width)
        self.drop = nn.Dropout(dropout)

    def forward(self, batch: Batch, table: Tensor) -> Tensor:
        """Return the tokens [N, D]; table [I, D]."""
        rows = table[batch.row_item] * batch.row_share[:, None]
        sets = table.new_zeros(len(batch.place), table.shape[1]).index_add(0, batch.row_set, rows)
        tokens: Tensor = self.drop(self.norm(sets + self.kind(batch.kind) + self.gap(batch.gap)))
        return tokens


@dataclass(frozen=True)
class Lessons:
    """All that is learnt from: L stretches of the sets before `as_of`, each with a lesson."""

    every: Histories
    first: Ints  # [L] the first set of each stretch
    last: Ints  # [L] the set after its last
    target: Ints  # [S] the next purchase of the same user after each set, -1 where none is known
    met: Bools  # [I] items that anybody met


@dataclass(frozen=True)
class Course:
    """How long and how fast."""

    passes: int  # over all stretches
    steps: int  # at most
    stretches: int  # a step, at most: a pass is STEPS_A_PASS steps or more
    learning_rate: float


class Net(nn.Module):
    """What a file of a network defines."""

    read: Reader

    def forward(self, x: Tensor, place: Tensor) -> Tensor:
        """Return what to look for after each token, [N, D]; x [N, D] and `place` [N] as in Batch."""
        raise NotImplementedError


@dataclass(frozen=True)
class Trained:
    """A network with its weights, and what it was trained on."""

    model: Net
    items: tuple[str, ...]
    kinds: tuple[str, ...]
    content: Floats  # [I, C]
    popular: Floats  # [I]


def lessons(past: Past, *, window: int, model: str) -> Lessons:
    """Cut every stream into stretches, counted back from the newest set; O(sets).

    Raises ModelError when no purchase follows a set.
    """
    every = past.histories.before(past.day)
    target = _next_purchase(every)
    if not (target >= 0).any():
        raise ModelError(
            model,
            found="no user has a purchase after another event before as_of",
            consequence="There is no next set to learn from",
            remedy="Import a longer history, or move as_of behind the second order of some user",
        )
    count = np.diff(every.set_start)
    pieces = -(-count // window)
    end = np.repeat(every.set_start[1:], pieces)
    back = np.arange(len(end)) - np.repeat(np.cumsum(pieces) - pieces, pieces)
    last = end - back * window
    first = np.maximum(last - window, np.repeat(every.set_start[:-1], pieces))
    taught = np.concatenate([[0], np.cumsum(target >= 0)])
    some = taught[last] > taught[first]
    return Lessons(every, first[some], last[some], target, sold(past))


def collate(
    every: Histories, first: Ints, last: Ints, *, kinds: Ints, target: Ints | None = None
) -> tuple[Batch, Ints]:
    """Return the batch of the stretches first[i]:last[i], and the order they lie in: longest first; O(rows).

    `kinds`: place of each of `every.kinds` in the model's own list; `target` as in Lessons, None = nothing is taught.
    """
    order = np.argsort(first - last, kind="stable")
    first, last = first[order], last[order]
    sets, length = ranges(first, last), last - first
    place = np.arange(len(sets)) - np.repeat(np.cumsum(length) - length, length)
    before = np.maximum(sets - 1, every.set_start[every.set_user[sets]])
    gap = np.minimum(1.5 * np.log1p(24 * (every.set_at[sets] - every.set_at[before])), GAPS - 1)
    size = every.row_start[sets + 1] - every.row_start[sets]
    row_set = np.repeat(np.arange(len(sets)), size)
    follows = np.full(len(sets), -1) if target is None else target[sets]
    lesson = np.flatnonzero(follows >= 0)
    wanted = follows[lesson]
    count = every.row_start[wanted + 1] - every.row_start[wanted]
    tensor = torch.from_numpy
    batch = Batch(
        place=tensor(place),
        kind=tensor(kinds[every.set_kind[sets]]),
        gap=tensor(gap.astype(np.int64)),
        row_set=tensor(row_set),
        row_item=tensor(_items(every, sets)),
        row_share=tensor((1 / size[row_set]).astype(np.float32)),
        lesson=tensor(lesson),
        target=Sparse(
            tensor(np.repeat(np.arange(len(lesson)), count)),
            tensor(_items(every, wanted)),
            tensor(np.repeat(1 / count, count).astype(np.float32)),
        ),
    )
    return batch, order


def content(words: sp.csr_matrix | None, dimensions: int, items: int) -> Floats:
    """Return the words' leading singular vectors [I, C], mean square 1; one column of zeros where none are read."""
    told = seeds.content(words, dimensions, items)
    return told if told.shape[1] else np.zeros((items, 1), dtype=np.float32)


def sold(past: Past) -> Bools:
    """Return [I] whether anybody met the item before `as_of`."""
    met: Bools = np.bincount(past.histories.before(past.day).row_item, minlength=len(past.items)) > 0
    return met


def popular(past: Past) -> Floats:
    """Return [I] the log of 1 + the sales of each item before `as_of`."""
    sales = np.bincount(past.histories.before(past.day).of_kind(PURCHASE).row_item, minlength=len(past.items))
    return np.log1p(sales).astype(np.float32)


def learn(
    model: Net,
    lessons: Lessons,
    content: Floats,
    course: Course,
    *,
    runtime: Runtime,
    folder: Path | None,
    fingerprint: str,
    progress: train.Progress | None,
) -> tuple[int, int]:
    """Train on every stretch `course.passes` times, each time in another order; return the steps done and planned.

    Cross-entropy of the softmax over all items met, the target spread evenly over the next set. (Hidasi et al. have one
    item as target and a sample of the others.) 6 I D multiplications a lesson beside the network's own.
    """
    model.to(runtime.device)
    shown = torch.from_numpy(content).to(runtime.device)
    kinds = np.arange(len(lessons.every.kinds))
    bias = torch.from_numpy(np.where(lessons.met, 0, UNSOLD).astype(np.float32)).to(runtime.device)
    enough = max(LEAST_STRETCHES, math.ceil(len(lessons.first) / STEPS_A_PASS))
    together = min(course.stretches, enough)
    steps = math.ceil(len(lessons.first) / together)  # a pass
    half = half_is_quick(runtime.device)

    def loss(step: int) -> tuple[Tensor, int]:
        drawn = np.random.default_rng((runtime.seed, step // steps)).permutation(len(lessons.first))
        some = drawn[step % steps * together :][:together]
        batch, _ = collate(lessons.every, lessons.first[some], lessons.last[some], kinds=kinds, target=lessons.target)
        batch = batch.to(runtime.device)
        table = model.read.items(shown)
        asked = model(model.read(batch, table), batch.place)[batch.lesson]
        weight = asked.new_full((len(asked),), 1 / len(asked))
        told = set_cross_entropy(asked, table, bias=bias, target=batch.target, weight=weight, half=half)
        return told, len(asked)

    planned = min(course.passes * steps, course.steps)
    trained = train.run(
        model,
        loss,
        train.Schedule(planned, course.learning_rate),
        seed=runtime.seed,
        folder=folder,
        fingerprint=fingerprint,
        progress=progress,
        budget_s=runtime.budget_s,
    )
    return trained.steps, planned


def weights(model: nn.Module) -> dict[str, Tensor]:
    """Return the trained weights by name, on the processor."""
    return {name: tensor.detach().cpu() for name, tensor in model.state_dict().items()}


def scores(trained: Trained, past: Past, *, window: int) -> Floats:
    """Return float32 [B, I], logits of the next purchase at `past.as_of`; the newest `window` sets are read.

    A user without a set is told the log of the sales; an item never met scores as low as the row's lowest.
    """
    index = places(trained.items, past.items)
    every = past.histories.before(past.day)
    every = every.keep_rows(index[every.row_item] >= 0)
    every = dataclasses.replace(every, row_item=index[every.row_item].astype(np.int32))
    kinds = np.array([trained.kinds.index(k) if k in trained.kinds else len(trained.kinds) for k in every.kinds])
    model = trained.model.eval()
    told = np.empty((len(past.known), len(past.items)), dtype=np.float32)
    with torch.inference_mode():
        table = model.read.items(torch.from_numpy(trained.content))
        for start in range(0, len(told), USERS_A_CALL):
            users = np.arange(start, min(start + USERS_A_CALL, len(told)))
            last = every.set_start[users + 1]
            first = np.maximum(every.set_start[users], last - window)
            batch, order = collate(every, first, last, kinds=kinds)
            some = order[(last > first)[order]]
            row = np.tile(trained.popular, (len(users), 1))
            if len(some):
                newest = torch.from_numpy(np.cumsum((last - first)[some]) - 1)
                row[some] = (model(model.read(batch, table), batch.place)[newest] @ table.T).numpy()
            told[users] = columns(row, index, missing=np.nan)
    lowest = np.where(np.isnan(told), np.inf, told).min(axis=1, keepdims=True, initial=0.0)
    answer: Floats = np.where(np.isnan(told), lowest, told)
    return answer


def fingerprint(past: Past, config: Any, runtime: Runtime) -> str:
    """Return a sha256 over everything that decides the weights."""
    digest = hashlib.sha256(repr((config, runtime, torch.__version__, past.as_of, past.items)).encode())
    for field in dataclasses.fields(past.histories):
        digest.update(np.ascontiguousarray(getattr(past.histories, field.name)).tobytes())
    for part in (past.words.indptr, past.words.indices, past.words.data) if past.words is not None else ():
        digest.update(np.ascontiguousarray(part).tobytes())
    return digest.hexdigest()


def _next_purchase(every: Histories) -> Ints:
    """Return for each set the same user's first purchase after it, -1 without one."""
    sets = len(every.set_at)
    purchase = every.set_kind == every.kinds.index(PURCHASE)
    place = np.where(purchase, np.arange(sets), sets)
    here_or_later = np.minimum.accumulate(place[::-1])[::-1]
    after = np.append(here_or_later[1:], sets)
    return np.where(after < every.set_start[every.set_user + 1], after, -1)


def _items(every: Histories, sets: Ints) -> Ints:
    rows = ranges(every.row_start[sets], every.row_start[sets + 1])
    return every.row_item[rows].astype(np.int64)
