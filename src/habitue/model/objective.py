"""What a step of the flagship's training is judged by: the next set, and in the same batch what came of the labels.

The next set's loss is the cross-entropy over all products, over a sample of them where the catalogue is large, or gBCE.
With a teacher (teacher.py) a share of the target is what a closed form expects. With several processes each takes its
stretches of the step, and the draws are those of one process.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from habitue.core.runtime import Runtime
from habitue.model import negatives, teacher
from habitue.model.batches import Batch, Doubles, Questions, collate, kind_places
from habitue.model.encoder import AGAIN_DAYS, Model
from habitue.model.heads import Outcomes
from habitue.model.lessons import Lessons, Stretches
from habitue.model.losses import Sparse, Trend, among_columns, generalised_bce, half_is_quick, set_cross_entropy
from habitue.model.past import Ints, ranges
from habitue.model.trend import Rates

if TYPE_CHECKING:
    from habitue.model.behaviour import Config

UNSOLD = -1e4  # score of a product without sales while training: no evidence against it
LABELS_A_STEP = 1.0  # questions about churn and money, per question about the next set
FORECAST_WEIGHT = 0.2  # of churn, money, the wait and the next kind in the loss
FULL = 50_000  # products; with more the softmax of a step goes over a sample of them
NEGATIVES = 8_192  # products of a sample, beside the targets
GBCE_NEGATIVES, TRUST = 256, 0.75  # as Petrov and Macdonald have them


@dataclass(frozen=True)
class Objective:
    """Callable: step -> the loss of its lessons, and how many of them it is the mean of."""

    model: Model
    lessons: Lessons
    config: Config  # of the flagship: clock, window, questions, loss
    trend: Rates | None
    sold: Tensor  # [I] rows of the past
    stretches: Callable[[int], Stretches]
    runtime: Runtime
    expected: teacher.Told | None = None

    def __call__(self, step: int) -> tuple[Tensor, int]:
        """Draw the step's questions from (seed, step), ask them, and return the loss and the number of lessons."""
        lessons, model, device = self.lessons, self.model, self.runtime.device
        rng = np.random.default_rng((self.runtime.seed, step))
        some = self.stretches(step)
        asked, asked_of = some.about(lessons.key)
        labelled, labelled_of = some.about(lessons.label_key)
        kept = rng.random(len(labelled)) < LABELS_A_STEP * len(asked) / max(len(labelled), 1)
        labelled, labelled_of = labelled[kept], labelled_of[kept]
        at, before = self.moments(asked, rng)
        if (world := self.runtime.world) > 1:  # the draws are those of one process; each takes its stretches of them
            mine = asked_of % world == self.runtime.rank
            asked, asked_of, at, before = asked[mine], asked_of[mine] // world, at[mine], before[mine]
            every_label, theirs = len(labelled), labelled_of % world == self.runtime.rank
            labelled, labelled_of = labelled[theirs], labelled_of[theirs] // world
            some = some.take(np.arange(self.runtime.rank, len(some.user), world))
        else:
            every_label = len(labelled)
        if not len(asked):
            return model.items.sum() * 0, 0  # the loss of a fused table is told by whoever has lessons
        questions = Questions(
            user=some.user,
            start=some.start,
            end=some.end,
            of=np.r_[asked_of, labelled_of],
            before=np.r_[before, lessons.label_key[labelled] - some.user[labelled_of]],
            at=np.r_[at, lessons.label_at[labelled]],
            ranked=len(asked),
        )
        batch = collate(
            lessons.known,
            questions,
            kinds=kind_places(lessons.known.every.kinds, lessons.known.every.kinds),
            half_lives=AGAIN_DAYS if lessons.again else (),
            clock=self.config.clock,
            window=self.config.window,
        ).to(device)
        vectors = model(batch)
        loss = self.next_set(batch, vectors[: len(asked)], asked, at, rng)
        if model.made is not None:
            loss = loss + model.made[1] / world
        if len(labelled):
            told = model.foretell(vectors, batch)[len(asked) :]
            share = len(labelled) / every_label  # the mean is over the labels of all processes
            parts = share * model.forecast.losses(told, outcomes(lessons, labelled, device))
            loss = loss + FORECAST_WEIGHT * parts.sum()
        return loss, len(asked)

    def moments(self, asked: Ints, rng: np.random.Generator) -> tuple[Doubles, Ints]:
        """Draw when each lesson is asked, and return the first set it does not see.

        With a clock a moment after the purchase before and not after the target, else the target's own.
        """
        lessons, clock = self.lessons, self.lessons.known.every.set_at
        target, since = lessons.target[asked], lessons.since[asked]
        if not self.config.clock:
            return clock[target], target
        at = clock[target] - (clock[target] - lessons.after[asked]) * rng.random(len(asked))
        between, of = ranges(since, target), np.repeat(np.arange(len(asked)), target - since)
        return at, since + np.bincount(of[clock[between] < at[of]], minlength=len(asked))

    def next_set(self, batch: Batch, vectors: Tensor, asked: Ints, at: Doubles, rng: np.random.Generator) -> Tensor:
        """Return the cross-entropy of the sets asked for, a mean over a step's lessons."""
        lessons, model, device = self.lessons, self.model, self.runtime.device
        every, sets = lessons.known.every, lessons.target[asked]
        count = every.row_start[sets + 1] - every.row_start[sets]
        rows = ranges(every.row_start[sets], every.row_start[sets + 1])
        target = Sparse(
            torch.from_numpy(np.repeat(np.arange(len(asked)), count)).to(device),
            torch.from_numpy(every.row_item[rows].astype(np.int64)).to(device),
            torch.from_numpy(np.repeat(1 / count, count).astype(np.float32)).to(device),
        )
        if self.expected is not None:
            target = teacher.mixed(target, self.expected, asked, items=len(model.table))
        trend = None
        if self.trend is not None:
            row = torch.from_numpy(self.trend.at(at)[0]).to(device)
            trend = Trend(self.trend.rates.to(device), row, model.trend(model.drop(vectors)))
        table = model.table
        bias = UNSOLD * (self.sold == 0).to(torch.float32)
        extra = model.met_before(vectors, batch) if lessons.again else None
        weight = torch.from_numpy(lessons.weight[asked] / np.float32(self.config.questions)).to(device)
        if self.config.loss == "gbce":
            on_sale = np.flatnonzero(self.sold.cpu().numpy())
            drawn = rng.choice(on_sale, min(GBCE_NEGATIVES, len(on_sale)), replace=False)
            return generalised_bce(
                model.drop(vectors) if self.config.clock else vectors,
                table,
                target=target,
                weight=weight,
                negatives=torch.from_numpy(drawn).to(device),
                trust=TRUST,
                trend=trend,
                extra=extra,
            )
        if len(table) > FULL:
            table, bias, trend, extra, target = self.sampled(trend, extra, target, rng)
        return set_cross_entropy(
            model.drop(vectors) if self.config.clock else vectors,
            table,
            bias=bias,
            trend=trend,
            extra=extra,
            target=target,
            weight=weight,
            half=half_is_quick(device),
        )

    def sampled(
        self, trend: Trend | None, extra: Sparse | None, target: Sparse, rng: np.random.Generator
    ) -> tuple[Tensor, Tensor, Trend | None, Sparse | None, Sparse]:
        """Return table, bias, trend, extra and target of the products that stand for the catalogue in this step."""
        device = self.runtime.device
        wanted = target.column if extra is None else torch.cat([target.column, extra.column])
        sample = negatives.draw(wanted.cpu().numpy(), self.sold.cpu().numpy(), NEGATIVES, rng)
        kept = torch.from_numpy(sample.items).to(device)
        if trend is not None:
            trend = dataclasses.replace(trend, rates=trend.rates.index_select(2, kept))
        return (
            self.model.table.index_select(0, kept),
            torch.from_numpy(sample.correction).to(device),
            trend,
            None if extra is None else among_columns(extra, kept, len(self.sold)),
            among_columns(target, kept, len(self.sold)),
        )


def outcomes(lessons: Lessons, some: Ints, device: str = "cpu") -> Outcomes:
    """Return what came of the labels `some`."""
    columns = (lessons.churned, lessons.money, lessons.wait, lessons.seen, lessons.next_kind)
    return Outcomes(*(torch.from_numpy(column[some]).to(device) for column in columns))
