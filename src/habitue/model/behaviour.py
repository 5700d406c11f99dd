"""The flagship: a causal transformer over a customer's sets that is asked "what next?" at a moment.

One token is one set (a basket, or one click): its products, pooled, and the action; where there is a clock also the
hour, the weekday, the time gone by, its size and money. With a clock a question is a token too, with a moment and
nothing else; it sees the sets strictly before that moment. Without one (`clock=False`, for files that hold an order
only and for tables in which nobody is told the time) the newest set answers. Three terms score a product:

    fit      answer . product vector; a product's vector starts as what its words say and learns from sales; one
             without sales gets the vector that its words foretell, by a ridge regression over those with sales
    trend    what everybody bought lately, at the question's moment, weighed by the answer; with a clock only
    again    what this customer has met before: how often, how long ago, what share; a small network of its own, left
             out where the data hold next to no repeats

Every prefix is a lesson: its target is the whole next purchase, cross-entropy with the softmax over all products, the
target spread evenly over the members. No row of a set is input to predicting another row of it. With a clock a moment
is drawn in each pause between two purchases, and the questions of `past.train_labels` are asked in the same batches;
heads foretell no order, money (zero-inflated log-normal, Wang, Liu and Miao, 2019), the wait and what is done next.
Pre-norm blocks (Xiong et al., 2020) with learnt biases for distance in sets and in time. Why each part is here and what
it brought: LOG.md.
"""

from __future__ import annotations

import dataclasses
import hashlib
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import scipy.sparse as sp
import torch
from torch import Tensor

from habitue.core.errors import ModelError, SettingsError
from habitue.core.runtime import Runtime
from habitue.core.settings import check_range, tuned
from habitue.model import blocks, fuse, knowledge, seeds, slist, teacher, train
from habitue.model.batches import Batch, Questions, collate, first_in_sight, kind_places, known, told
from habitue.model.encoder import AGAIN_DAYS, TREND_DAYS, Model
from habitue.model.heads import HORIZONS, Outcomes
from habitue.model.lessons import Lessons, drawn, hold_back, lessons
from habitue.model.objective import Objective, outcomes
from habitue.model.past import Floats, Ints, Past, check_traits, columns, places, ranges
from habitue.model.trend import rates

ANSWERS = frozenset({"rank", "churn", "value"})
SEEDED = True  # another seed is another model

LOSSES = ("softmax", "gbce")
USERS_A_CALL = 256  # users scored at once
SHAPE = ("width", "blocks", "heads", "window", "clock", "mixer")  # an earlier model must share to go on from it
DROPPED, DROPPED_LESS = 0.337, 0.0915  # at one row to foretell per number of the table; for e times as many
DROPPED_WITHIN = (0.1, 0.5)


@dataclass(frozen=True)
class Config:
    """Settings, picked on Online Retail with the last 92 days before the cut as validation (LOG.md)."""

    width: int = tuned(64, values=(32, 64, 128))
    blocks: int = tuned(2, 1, 3)
    heads: int = 2
    dropout: float = tuned(1.0, 0.3, 2.0)  # times the share that the data ask for, see _dropout
    window: int = 64  # newest sets a question sees
    content: int = 128  # dimensions of the products' words; 0 = ids only
    clock: bool = True  # False: nobody is told the time
    mixer: str = "softmax"  # how tokens see each other: "softmax", "gated", "recurrent" (model/blocks.py)
    seed: float = tuned(0.3, 0.03, 1.0, log=True)  # root mean square of the table that training starts from
    passes: float = tuned(20.0, 4, 40, log=True)  # over all lessons
    steps: int = 100_000  # at most
    questions: int = 384  # a step
    learning_rate: float = tuned(2e-3, 3e-4, 6e-3, log=True)
    taught: float = 0.0  # share of a lesson's target that SLIST foretells at a `scarcity` of 1; 0 = no teacher
    loss: str = "softmax"  # or "gbce", for which a few products drawn at random stand for all others
    recipe: train.Recipe = field(default_factory=train.Recipe)
    fusion: fuse.Config = field(default_factory=fuse.Config)  # how the products' modalities become their vectors

    def __post_init__(self) -> None:
        """Refuse numbers that no network has. Raises SettingsError."""
        check_range(
            self,
            positive=("width", "blocks", "heads", "window", "questions", "passes", "learning_rate"),
            not_negative=("dropout", "content", "seed", "steps"),
            share=("taught",),
        )
        if self.width % self.heads:
            raise SettingsError(
                "model.behaviour, settings 'width' and 'heads'",
                found=f"{self.width} numbers for {self.heads} heads",
                consequence="Every head takes the same part of a vector, and here something would be left",
                remedy="Take a width that the number of heads divides",
            )


# Without a clock a "day" is one step of a user's sequence (bench/sequences.py); LOG.md, "behaviour on sequences".
SEQUENCE = Config(window=200, clock=False, seed=0.1, passes=16, questions=1024, learning_rate=3e-3, taught=0.35)


@dataclass(frozen=True)
class State:
    """A trained model and what it was trained on."""

    config: Config
    day: float  # `as_of` of the fit, days since 1970-01-01 UTC
    items: tuple[str, ...]
    kinds: tuple[str, ...]
    season: bool
    again: bool  # False: next to nothing is bought again, products met before gain nothing
    labelled: bool  # False: no horizon had closed, or nobody is told the time: churn and money were not trained
    seen: float  # days that followed the earliest moment at which churn was asked; 0 = never asked
    weights: dict[str, Tensor]  # of Model
    told: Tensor  # [I, D] the vectors that the words alone foretell; zeros without words
    trend: Floats  # [K, I] at `as_of`; K = 0 without a clock
    sold: Floats  # [I] rows of the past, what a stranger is told without a clock
    steps: int  # trained
    planned: int  # more than `steps` where the budget of CPU time ended
    traits: int = 0  # numbers known of a person


def fit(
    past: Past,
    config: Config,
    *,
    runtime: Runtime,
    folder: Path | None = None,
    progress: train.Progress | None = None,
    start: State | None = None,
    closed_form: slist.State | None = None,
) -> State:
    """Train for `config.passes` passes over the lessons; on one core with bfloat16 about 45 ms a step of 384 questions
    and 3,700 products, 7,000 targets a second over 12,101 products and 18,000 over 3,416 without a clock.

    `folder`: where to keep checkpoints and to go on from one; `progress(done, steps, words)`: called after each step.
    With `config.recipe.patience` the last horizon of some customers is held back and decides when training ends.
    `start`: an earlier model of this shop to go on from; fewer passes do then, products and actions new to it begin as
    `score` would take them. `closed_form`: the teacher that `config.taught` asks for, where it is fitted on this past
    already; else it is fitted here. Same seed, machine, build and threads: the same State, bit for bit.

    Raises ModelError when nobody bought anything, when there is nobody to hold back though `patience` asks for it, and
    when `start` has another shape or knows what came later.
    """
    started = time.process_time()
    if config.loss not in LOSSES:
        raise ModelError(
            "model.behaviour, setting 'loss'",
            found=f"there is no loss '{config.loss}'",
            consequence="What is to be learnt is not known",
            remedy=f"Write {' or '.join(LOSSES)}",
        )
    whole, held = past, hold_back(past) if config.recipe.patience else None
    past = held.past if held else past
    asked = lessons(past, clock=config.clock)
    every = asked.known.every
    sold = np.bincount(every.row_item, minlength=len(past.items)).astype(np.float32)
    content = seeds.content(past.words, config.content, len(past.items))
    trend = rates(past, TREND_DAYS) if config.clock else None
    expected = None
    share = config.taught * _scarcity(asked, len(past.items), config)
    known_by = None if held else closed_form  # a teacher must not have seen what is held back
    if share:
        known_by = known_by or _teacher(past, config, runtime)
        expected = teacher.told(every, asked.target, known_by, items=past.items, taught=share, window=config.window)
    if past.knowledge is not None:
        rules = knowledge.told(every, asked.target, past.knowledge, items=len(past.items), window=config.window)
        expected = knowledge.beside(expected, rules)
    a_pass, stretches = drawn(
        asked, window=config.window, questions=config.questions, clock=config.clock, seed=runtime.seed
    )
    planned = min(config.steps, math.ceil(config.passes * a_pass))

    def state(model: Model, day: float, steps: int) -> State:
        """Return what the model has learnt so far, to be asked at `day`."""
        learnt = {name: tensor for name, tensor in model.state_dict().items() if not name.startswith("fused.")}
        weights = {name: tensor.detach().cpu().clone() for name, tensor in learnt.items()}
        if model.fused is not None:  # who asks needs the table it made, not the layers that made it
            with torch.no_grad():
                weights["items"] = model.fused(model.items)[0].cpu().clone()
        told = torch.from_numpy(seeds.foretold(content, weights["items"].numpy(), sold))
        weights["items"] = torch.where(torch.from_numpy(sold > 0)[:, None], weights["items"], told)
        return State(
            config=config,
            day=day,
            items=past.items,
            kinds=past.histories.kinds,
            season=asked.known.season,
            again=asked.again,
            labelled=len(asked.label_at) > 0,
            seen=float(asked.seen.max(initial=0)),
            weights=weights,
            told=told,
            trend=np.zeros((0, len(sold)), dtype=np.float32) if trend is None else trend.at(np.array([day]))[1].copy(),
            sold=sold,
            steps=steps,
            planned=planned,
            traits=asked.known.traits.shape[1],
        )

    begun = time.process_time()  # a budget pays for the teacher too
    with train.seeded(runtime.seed), train.threads(runtime.threads):
        model = _new(
            config,
            kinds=len(past.histories.kinds),
            items=seeds.start(content, every, width=config.width, scale=config.seed),
            labels=outcomes(asked, np.arange(len(asked.churned))),
            dropout=_dropout(asked, len(past.items), config),
            traits=asked.known.traits.shape[1],
            fused=_fused(past, config, sold),
        )
        _scale(model, asked)
        if start is not None:
            _go_on(model, start, past, config)
        model.to(runtime.device)
        sales = torch.from_numpy(sold).to(runtime.device)
        trained = train.run(
            model,
            Objective(model, asked, config, trend, sales, stretches, runtime, expected),
            train.Schedule(planned, config.learning_rate, config.recipe),
            seed=runtime.seed,
            validate=(lambda: held.ndcg(score(state(model, held.asked.day, 0), held.asked))) if held else None,
            folder=folder,
            fingerprint=_fingerprint(whole, config, runtime, start, closed_form) if folder else "",
            progress=progress,
            budget_s=None if runtime.budget_s is None else runtime.budget_s - (begun - started),
            rank=runtime.rank,
            world=runtime.world,
        )
    return state(model, past.day, trained.steps)


@dataclass(frozen=True)
class Answers:
    """Scores before the product is taken: score = queries . products + extra. B users, I products."""

    queries: Floats  # [B, E]
    products: Floats  # [I, E]
    extra: sp.csr_matrix  # [B, I] what products gain for being in the history


def answers(state: State, past: Past) -> Answers:
    """Return what `score` multiplies out, E = D and some; O(newest sets x D).

    A customer without a set gets the score of a stranger: with a clock what the model has learnt of first orders,
    without one the logarithm of how often a product was bought. A product the state has never met borrows from those
    whose words are nearest (`past.words`), its trend is that of a product nobody buys.
    """
    users, width = len(past.known), state.config.width
    with torch.inference_mode():
        model, products = opened(state, past)
        queries = np.zeros((users, products.shape[1]), dtype=np.float32)
        if not state.config.clock:  # with a clock a stranger is asked like everybody
            queries[:, width] = np.diff(past.histories.before(past.day).set_start) == 0
        gains = []
        for some, batch in _batches(state, past):
            asked = model(batch)
            queries[some, :width] = asked
            if state.config.clock:
                queries[some, width:] = model.trend(asked)
            if state.again:
                gain = model.met_before(asked, batch)
                gains.append((gain.value.numpy(), some[gain.row.numpy()], gain.column.numpy()))
    value, row, column = (np.concatenate(part) for part in zip(*gains, strict=True)) if gains else (np.zeros(0),) * 3
    extra = sp.csr_matrix((value.astype(np.float32), (row, column)), shape=(users, len(past.items)))
    return Answers(queries, products, extra)


def opened(state: State, past: Past) -> tuple[Model, Floats]:
    """Return the model with its table in the order of `past.items`, and what answers are multiplied with, [I, E].

    Beside a product's vector stand its trends, and without a clock what a stranger is told.
    """
    index = places(state.items, past.items)
    model = _restored(state, past, index)
    if state.config.clock:
        rows = np.where(index < 0, len(state.items), index)
        beside = np.c_[state.trend, state.trend.min(axis=1, initial=0)][:, rows]  # [K, I]
    else:
        beside = columns(np.log1p(state.sold), index)[None]
    return model, np.concatenate([model.items.detach().numpy(), beside.T], axis=1)


def score(state: State, past: Past) -> Floats:
    """Return float32 [B, I], logits of the next set at `past.as_of`; O(newest sets x D + B x I x D). See `answers`."""
    told = answers(state, past)
    scores: Floats = told.queries @ told.products.T
    scores[np.repeat(np.arange(len(scores)), np.diff(told.extra.indptr)), told.extra.indices] += told.extra.data
    return scores


def predict(state: State, past: Past) -> pl.DataFrame:
    """Return user_key, churn (probability of no order) and value (expected money) in the horizon; beside them

    churn_7, churn_30, churn_90   probability of no order within so many days; only those that the past was long enough
                                  to show
    next_order_completed, ...     one column a kind of action: probability that it is the next thing done, given that
                                  anything is done in the horizon

    Raises ModelError when the state was fitted before any horizon had closed.
    """
    if not state.labelled:
        raise ModelError(
            "model.behaviour",
            found="it was trained on a past in which no horizon had closed, or without a clock",
            consequence="It never saw who stays away and what is spent, so it would be guessing",
            remedy="Give a longer ledger or a shorter horizon, and leave `clock` on",
        )
    found: dict[str, Any] = {}
    with torch.inference_mode():
        model = _restored(state, past, places(state.items, past.items))
        for users, batch in _batches(state, past):
            for name, answer in model.forecast.read(model.foretell(model(batch), batch)).items():
                found.setdefault(name, np.empty((len(past.known), *answer.shape[1:])))[users] = answer.numpy()
    kinds = found.pop("kind")
    found |= {f"next_{kind.lower().replace(' ', '_')}": kinds[:, place] for place, kind in enumerate(state.kinds)}
    unseen = [f"churn_{days}" for days in HORIZONS if days > state.seen]
    return pl.DataFrame({"user_key": past.histories.user_keys, **found}).drop(unseen)


def vectors(state: State, past: Past) -> Floats:
    """Return float32 [B, 2 D]: a customer's answer at `past.as_of`, and the mean over the newest sets' vectors.

    Zeros for what is not there: the mean of no set, and without a clock the answer of a customer without a set.
    """
    width = state.config.width
    found = np.zeros((len(past.known), 2 * width), dtype=np.float32)
    with torch.inference_mode():
        model = _restored(state, past, places(state.items, past.items))
        for users, batch in _batches(state, past):
            read = model.read(batch)
            owner = torch.from_numpy(np.repeat(np.arange(len(users)), batch.length))
            summed = read.new_zeros(len(users), width).index_add(0, owner, read[: batch.sets])
            mean = summed / torch.from_numpy(np.maximum(batch.length, 1))[:, None]
            found[users] = torch.cat([read[batch.asked], mean], dim=1).numpy()
    return found


def _teacher(past: Past, config: Config, runtime: Runtime) -> slist.State:
    """Fit the closed form that teaches; it reads the words where the flagship does."""
    settings = slist.Config() if config.clock else slist.SEQUENCE
    if not config.content:
        settings = dataclasses.replace(settings, words=0.0)
    return slist.fit(past, settings, runtime=runtime)


def scarcity(past: Past, config: Config) -> float:
    """Return 1 where there is next to nothing to learn from, 0 from one row to foretell per number of the table on."""
    return _scarcity(lessons(past, clock=config.clock), len(past.items), config)


def _scarcity(lessons: Lessons, items: int, config: Config) -> float:
    return max(0.0, 1.0 - _rows_a_number(lessons, items, config))


def _dropout(lessons: Lessons, items: int, config: Config) -> float:
    """Return the share to drop: less of it the more rows there are to foretell per number in the table.

    A line through what validation chose on three data sets (LOG.md, "how much to drop"): Beauty, 0.17 rows a number,
    one half; Online Retail, 1.4, three tenths; MovieLens-1M, 4.5, one fifth.
    """
    asked_for = DROPPED - DROPPED_LESS * math.log(_rows_a_number(lessons, items, config))
    return float(np.clip(config.dropout * np.clip(asked_for, *DROPPED_WITHIN), 0.0, 0.8))


def _rows_a_number(lessons: Lessons, items: int, config: Config) -> float:
    """Return how many rows there are to foretell per number in the products' table."""
    every = lessons.known.every
    rows = int((every.row_start[lessons.target + 1] - every.row_start[lessons.target]).sum())
    return max(rows, 1) / (items * config.width)


def _scale(model: Model, lessons: Lessons) -> None:
    """Take mean and spread of the numbers from up to 4,096 users' sets and labels, evenly spaced."""
    every = lessons.known.every
    users = np.unique(np.linspace(0, len(every.user_keys) - 1, 4096).astype(np.int64))
    sets = ranges(every.set_start[users], every.set_start[users + 1])
    label = ranges(
        np.searchsorted(lessons.label_key, every.set_start[users] + users),
        np.searchsorted(lessons.label_key, every.set_start[users + 1] + users, side="right"),
    )
    owner = np.searchsorted(every.set_start + np.arange(len(every.set_start)), lessons.label_key[label], "right") - 1
    asked = told(lessons.known, owner, lessons.label_key[label] - owner, lessons.label_at[label])
    numbers = np.concatenate([lessons.known.numbers[sets], asked])
    model.centre.copy_(torch.from_numpy(numbers.mean(0)))
    model.spread.copy_(torch.from_numpy(numbers.std(0)).clamp_min(1e-3))


def _go_on(model: Model, start: State, past: Past, config: Config) -> None:
    """Put the weights of an earlier model into a new one, each product and action in its place."""
    shape = [f"{name} {getattr(start.config, name)}" for name in SHAPE]
    wanted = [f"{name} {getattr(config, name)}" for name in SHAPE]
    if shape != wanted:
        raise ModelError(
            "model.behaviour, the model to start from",
            found=f"it has {', '.join(sorted(set(shape) - set(wanted)))}, "
            f"the settings say {', '.join(sorted(set(wanted) - set(shape)))}",
            consequence="Its weights have no place in this one",
            remedy="Give the settings it was trained with, or train without it",
        )
    if start.day > past.day:
        raise ModelError(
            "model.behaviour, the model to start from",
            found=f"it was trained {start.day - past.day:,.1f} days after as_of",
            consequence="It knows what came later, and every forecast from here would be too good",
            remedy="Start from a model of as_of or before",
        )
    weights, fresh = _restored(start, past, places(start.items, past.items)).state_dict(), model.state_dict()
    moved = {}
    of_kinds = {
        "kind.weight": 0,
        **{f"forecast.layers.2.{part}": -len(past.histories.kinds) for part in ("weight", "bias")},
    }
    for name, first in of_kinds.items():  # rows of actions, and beside them rows that every model has
        here, there = fresh[name].clone(), weights[name]
        first = first % len(here)
        here[:first] = there[:first]
        here[first + len(past.histories.kinds) :] = there[first + len(start.kinds) :]
        for place, kind in enumerate(past.histories.kinds):
            if kind in start.kinds:
                here[first + place] = there[first + start.kinds.index(kind)]
        moved[name] = here
    same = {name: weight for name, weight in weights.items() if name in fresh and weight.shape == fresh[name].shape}
    model.load_state_dict({**fresh, **same, **moved})
    if model.fused is not None:  # its table was made of its modalities: what they now add is taken off, and comes back
        with torch.no_grad():
            model.items.sub_(model.fused.eval()(torch.zeros_like(model.items))[0])


def _new(
    config: Config,
    *,
    kinds: int,
    items: Tensor,
    labels: Outcomes,
    dropout: float,
    traits: int,
    fused: fuse.Table | None = None,
) -> Model:
    """Return a new model; where the table is `fused`, content adds what the products' own vectors else begin with."""
    shape = blocks.Shape(config.width, config.heads, config.window, config.clock, dropout)
    if fused is not None:
        items = seeds.SMALL * torch.randn_like(items)
    who = fuse.Customer(config.fusion, traits, config.width) if traits else None
    depth, mixer = config.blocks, config.mixer
    return Model(shape, mixer=mixer, depth=depth, kinds=kinds, items=items, labels=labels, fused=fused, who=who)


def _fused(past: Past, config: Config, sold: Floats) -> fuse.Table | None:
    """Return what makes the products' table of their modalities; None: there are none, or it only starts as them."""
    if config.fusion.kind == "seed":
        return None
    told = fuse.content(past.words, past.modalities, config.content, len(past.items), fill=config.fusion.fill)
    if not told.names:
        return None
    return fuse.Table(config.fusion, told, config.width, sold=torch.from_numpy(sold), scale=config.seed)


def _restored(state: State, past: Past, index: Ints) -> Model:
    """Return the trained model with its table in the order of `past.items`, `index` their places in the state."""
    met = torch.from_numpy(index >= 0)
    place = torch.from_numpy(np.maximum(index, 0))
    foretold = torch.from_numpy(seeds.borrowed(state.told.numpy(), index, past.words))
    table = torch.where(met[:, None], state.weights["items"][place], foretold)
    habit = torch.where(met, state.weights["again_item"][place], 0.0)
    none = torch.zeros(0)
    nobody = Outcomes(none, none, none, none, none.long())
    with train.seeded(0):  # the weights drawn here are replaced at once
        model = _new(state.config, kinds=len(state.kinds), items=table, labels=nobody, dropout=0.0, traits=state.traits)
    model.load_state_dict({**state.weights, "items": table, "again_item": habit})
    return model.eval()


def _batches(state: State, past: Past) -> Iterator[tuple[Ints, Batch]]:
    """Ask users at `as_of`, USERS_A_CALL at once, those of like length together: the users and their batch.

    Everybody is asked; without a clock only those who have a set.
    """
    every = past.histories.before(past.day)
    length = np.diff(every.set_start)
    askable = np.argsort(np.minimum(length, state.config.window), kind="stable")
    askable = askable[length[askable] >= (not state.config.clock)]
    for start in range(0, len(askable), USERS_A_CALL):
        users = askable[start : start + USERS_A_CALL]
        theirs = every.take(users)
        mine, end = np.arange(len(users)), theirs.set_start[1:]
        batch = collate(
            known(theirs, season=state.season, clock=state.config.clock, traits=_traits(state, past, users)),
            Questions(
                user=mine,
                start=theirs.set_start[:-1] + first_in_sight(np.diff(theirs.set_start), state.config.window),
                end=end,
                of=mine,
                before=end,
                at=np.full(len(users), past.day),
                ranked=len(users),
            ),
            kinds=kind_places(state.kinds, every.kinds),
            half_lives=AGAIN_DAYS if state.again else (),
            clock=state.config.clock,
            window=state.config.window,
        )
        yield users, batch


def _traits(state: State, past: Past, users: Ints) -> Floats:
    """Return what is known of some users [b, U], as many numbers as the model was trained with; zeros for nothing."""
    check_traits(past)
    told = past.traits
    if told is None or not state.traits:
        return np.zeros((len(users), state.traits), dtype=np.float32)
    if told.shape[1] != state.traits:
        raise ModelError(
            "the customers' traits",
            found=f"{told.shape[1]} numbers a customer; the model was trained with {state.traits}",
            consequence="They would be taken for others",
            remedy="Encode the customers as for the training, or give no traits",
        )
    return told[users]


def _fingerprint(
    past: Past, config: Config, runtime: Runtime, start: State | None, closed_form: slist.State | None
) -> str:
    """Return a sha256 over everything that decides the weights."""
    digest = hashlib.sha256(repr((config, runtime, torch.__version__, past.as_of, past.items, past.parts)).encode())
    digest.update(np.ascontiguousarray(past.traits if past.traits is not None else 0).tobytes())
    for part in dataclasses.fields(past.histories):
        digest.update(np.ascontiguousarray(getattr(past.histories, part.name)).tobytes())
    for array in (past.words.indptr, past.words.indices, past.words.data) if past.words is not None else ():
        digest.update(np.ascontiguousarray(array).tobytes())
    digest.update(past.train_labels.write_csv().encode())
    if (rules := past.knowledge) is not None:
        for array in (rules.left.toarray(), rules.right.toarray(), rules.share):
            digest.update(np.ascontiguousarray(array).tobytes())
    if config.taught and closed_form:
        digest.update(repr(closed_form.history_half_life_days).encode() + closed_form.table.tobytes())
    for name, weight in start.weights.items() if start else ():
        digest.update(name.encode() + np.ascontiguousarray(weight.numpy()).tobytes())
    return digest.hexdigest()
