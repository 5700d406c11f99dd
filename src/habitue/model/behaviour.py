"""The flagship: a causal transformer over a customer's sets that is asked "what next?" at a moment.

One token is one set (a basket): its products, pooled, the action, the clock, the time gone by, its size and money. A
question is a token too, with a moment and nothing else; it sees the sets strictly before that moment. Three terms
score a product for a question (all learnt together):

    fit      question vector . product vector; a product vector = id embedding + projected words
    trend    what everybody bought lately, at the question's moment, weighed by the question vector
    again    what this customer has met before: how often, how long ago, what share; a small network of its own

Training draws a moment in each pause between two purchases and asks for the whole next set: cross-entropy with the
softmax over the products, the target spread evenly over the members. No row of a set is input to predicting another.
The questions of `past.train_labels` are asked in the same batches; two heads foretell no order and money (zero-inflated
log-normal, Wang, Liu and Miao, 2019). Pre-norm blocks (Xiong et al., 2020) with learnt biases for distance in sets and
in time. Why each part is here and what it brought: LOG.md.
"""

from __future__ import annotations

import dataclasses
import hashlib
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
import scipy.sparse as sp
import torch
from sklearn.utils.extmath import randomized_svd
from torch import Tensor, nn

from habitue.core.errors import ModelError
from habitue.core.runtime import Runtime
from habitue.core.settings import tuned
from habitue.model import train
from habitue.model.batches import GAPS, NUMBERS, Batch, Doubles, collate
from habitue.model.fuse import Sum
from habitue.model.heads import Forecast
from habitue.model.losses import Sparse, set_cross_entropy
from habitue.model.past import DAY_US, PURCHASE, Floats, Histories, Ints, Past, places, ranges

ANSWERS = frozenset({"rank", "churn", "value"})
SEEDED = True  # another seed is another model

UNSOLD = -1e4  # score of a product without sales while training: no evidence against it
FIRST_WEIGHT = 0.3  # of a customer's first order among the questions: LOG.md, "first orders"
LESSONS_A_PASS = 16  # of one customer: a hundred questions to one history cost more than they teach
LABELS_A_STEP = 1.0  # questions about churn and money, per question about the next set
BOUND = 3.0  # numbers are cut this many spreads from their mean: later moments lie outside what was trained on
MOMENTS = 400  # trend is kept for at most so many moments
USERS_A_CALL = 64  # users scored at once
SIMILAR = 8  # products whose content a product new to the state borrows


@dataclass(frozen=True)
class Config:
    """Settings, picked on Online Retail with the last 92 days before the cut as validation (LOG.md)."""

    width: int = tuned(64, values=(32, 64, 128))
    blocks: int = tuned(2, 1, 3)
    heads: int = 2
    dropout: float = tuned(0.3, 0.1, 0.6)
    window: int = 64  # newest sets a question sees
    content: int = 128  # dimensions of the products' words
    trend_days: tuple[float, ...] = (7.0, 30.0, 90.0)  # half-lives
    again_days: tuple[float, ...] = (15.0, 60.0, 240.0)  # half-lives
    forecast_weight: float = 0.2  # of churn and money in the loss
    steps: int = tuned(500, 200, 4000, log=True)  # LOG.md, "attempts against that": 800 rank no better on validation
    questions: int = 384  # a step
    learning_rate: float = tuned(2e-3, 3e-4, 6e-3, log=True)


# Without a clock a "day" is one step of a user's sequence (bench/sequences.py); LOG.md, "behaviour on sequences".
SEQUENCE = Config(dropout=0.2, steps=3000, learning_rate=4e-3)


@dataclass(frozen=True)
class State:
    """A trained model and what it was trained on."""

    config: Config
    items: tuple[str, ...]
    kinds: tuple[str, ...]
    season: bool
    labelled: bool  # False: no horizon had closed, churn and money were not trained
    weights: dict[str, Tensor]  # of Model
    content: Tensor  # [I, C] words of the products, projected
    trend: Floats  # [K, I] at `as_of`
    steps: int  # trained; fewer than in `config` where the budget of CPU time ended


class Block(nn.Module):
    """Pre-norm attention over pairs of tokens in sight, then a feed-forward layer."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        width, self.heads = config.width, config.heads
        self.before_attention, self.before_forward = nn.LayerNorm(width), nn.LayerNorm(width)
        self.all_three, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.back = nn.Parameter(torch.zeros(config.window + 1, config.heads))
        self.gap = nn.Parameter(torch.zeros(GAPS, config.heads))
        self.wide, self.narrow = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
        self.drop = nn.Dropout(config.dropout)

    def forward(self, x: Tensor, batch: Batch) -> Tensor:
        """Return [N, D] from [N, D]."""
        x = x + self.drop(self.out(self.attend(self.before_attention(x), batch)))
        hidden = nn.functional.gelu(self.wide(self.before_forward(x)))
        x = x + self.drop(self.narrow(hidden))
        return x

    def attend(self, x: Tensor, batch: Batch) -> Tensor:
        """Softmax over each token's pairs; O(pairs x D)."""
        tokens, width = x.shape
        query, key, value = self.all_three(x).view(tokens, 3, self.heads, -1).unbind(1)  # each [N, H, D / H]
        score = (query[batch.pair_from] * key[batch.pair_to]).sum(-1) / math.sqrt(width / self.heads)
        score = score + self.back[batch.pair_back] + self.gap[batch.pair_gap]  # [P, H]
        index = batch.pair_from[:, None].expand_as(score)
        top = score.new_full((tokens, self.heads), -torch.inf).scatter_reduce(0, index, score.detach(), "amax")
        score = (score - top[batch.pair_from]).exp()
        total = score.new_zeros(tokens, self.heads).index_add(0, batch.pair_from, score)
        mixed = torch.zeros_like(value).index_add(0, batch.pair_from, score[..., None] * value[batch.pair_to])
        mean: Tensor = mixed / total[..., None]
        return mean.reshape(tokens, width)


class Model(nn.Module):
    """Sets and questions in, one vector a question out; and the three terms of a score."""

    centre: Tensor
    spread: Tensor

    def __init__(
        self, config: Config, *, kinds: int, content: int, sold: Tensor, labels: tuple[Tensor, Tensor]
    ) -> None:
        super().__init__()
        width, items = config.width, len(sold)
        self.items = Sum(items, content, width, sold=sold)
        self.kind, self.hour, self.weekday = (_embedding(n, width) for n in (kinds + 2, 24, 7))
        self.register_buffer("centre", torch.zeros(NUMBERS))
        self.register_buffer("spread", torch.ones(NUMBERS))
        self.numbers = nn.Linear(NUMBERS, width)
        self.pooled, self.entry, self.exit = (nn.LayerNorm(width) for _ in range(3))
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.blocks))
        self.fit = nn.Linear(width, width)
        self.trend = _constant(nn.Linear(width, len(config.trend_days)), 1 / len(config.trend_days))
        self.again = nn.Sequential(nn.Linear(len(config.again_days) + 4, 16), nn.GELU(), nn.Linear(16, 1))
        self.again_customer = _constant(nn.Linear(width, 1), 0.0)
        self.again_item = nn.Parameter(torch.zeros(items))
        self.forecast = Forecast(width + NUMBERS, churned=labels[0], money=labels[1])
        self.drop = nn.Dropout(config.dropout)

    def forward(self, batch: Batch, table: Tensor) -> Tensor:
        """Return one vector a question, [Q, D]; table [I, D]."""
        members = table[batch.row_item] * batch.row_share[:, None]
        baskets = table.new_zeros(batch.sets, table.shape[1]).index_add(0, batch.row_set, members)  # [S, D]
        baskets = self.pooled(self.drop(baskets)) + self.hour(batch.hour) + self.weekday(batch.weekday)
        moments = self.kind(batch.kind) + self.numbers(self.scaled(batch.numbers))  # [N, D]
        x = self.drop(self.entry(moments + torch.cat([baskets, table.new_zeros(batch.queries, table.shape[1])])))
        for block in self.blocks:
            x = block(x, batch)
        answer: Tensor = self.exit(x)[batch.sets :]
        return answer

    def scaled(self, numbers: Tensor) -> Tensor:
        """Bring the numbers to mean 0 and spread 1, cut at BOUND spreads."""
        return ((numbers - self.centre) / self.spread).clamp(-BOUND, BOUND)

    def met_before(self, asked: Tensor, batch: Batch) -> Sparse:
        """Return what products gain for being in the history; `asked` = vectors of the batch's first questions."""
        count = int(torch.searchsorted(batch.met_query, len(asked)))
        query, item = batch.met_query[:count], batch.met_item[:count]
        met = nn.functional.pad(batch.met[:count], (0, 0, 0, -count % 64))  # whole blocks of rows, see _asked
        habit = self.again(met)[:count, 0] + self.again_item[item]
        return Sparse(query, item, habit + self.again_customer(asked)[query, 0])

    def foretell(self, asked: Tensor, batch: Batch) -> Tensor:
        """Return the heads' answer for each question, [Q, 4]."""
        numbers = self.scaled(batch.numbers[batch.sets :])
        answer: Tensor = self.forecast(torch.cat([self.drop(asked), numbers], dim=1))
        return answer


def fit(
    past: Past,
    config: Config,
    *,
    runtime: Runtime,
    folder: Path | None = None,
    progress: train.Progress | None = None,
) -> State:
    """Train for `config.steps` steps; about 45 ms a step of 384 questions and 3,700 products on one core.

    `folder`: where to keep checkpoints and to go on from one; `progress(done, steps)`: called after each step. Same
    seed, machine, build and threads: the same State, bit for bit. Raises ModelError when nobody bought anything.
    """
    lessons = _lessons(past)
    sold = np.bincount(past.histories.row_item, minlength=len(past.items)) > 0
    content = _content(past.words, config.content, len(past.items))
    trend = _trend(past, config.trend_days)
    with train.seeded(runtime.seed), train.threads(runtime.threads):
        model = Model(
            config,
            kinds=len(past.histories.kinds),
            content=content.shape[1],
            sold=torch.from_numpy(sold.astype(np.float32)),
            labels=(torch.from_numpy(lessons.churned), torch.from_numpy(lessons.money)),
        )
        _scale(model, lessons, config)
        model.to(runtime.device)
        done = train.run(
            model,
            _Steps(model, lessons, config, content, trend, sold, runtime),
            train.Schedule(config.steps, config.learning_rate),
            seed=runtime.seed,
            folder=folder,
            fingerprint=_fingerprint(past, config, runtime) if folder else "",
            progress=progress,
            budget_s=runtime.budget_s,
        )
    return State(
        config=config,
        items=past.items,
        kinds=past.histories.kinds,
        season=lessons.season,
        labelled=len(lessons.label_user) > 0,
        weights={name: tensor.detach().cpu() for name, tensor in model.state_dict().items()},
        content=torch.from_numpy(content),
        trend=trend.at(np.array([past.day]))[1].copy(),
        steps=done,
    )


def score(state: State, past: Past) -> Floats:
    """Return float32 [B, I], logits of the next set at `past.as_of`; O(sets x D + B x I x D).

    A customer without a set gets the score of a stranger; a product the state has never met borrows from those whose
    words are nearest (`past.words`), its trend is that of a product nobody buys.
    """
    index = places(state.items, past.items)
    with torch.inference_mode():
        model, table = _restored(state, past, index)
        rows = torch.from_numpy(np.where(index < 0, len(state.items), index))
        trend = torch.from_numpy(np.c_[state.trend, state.trend.min(axis=1, initial=0)])[:, rows]
        scores = np.empty((len(past.known), len(past.items)), dtype=np.float32)
        for users, batch, asked in _asked(state, past, model, table):
            answer = model.fit(asked) @ table.T + model.trend(asked) @ trend
            gain = model.met_before(asked, batch)
            answer[gain.row, gain.column] += gain.value
            scores[users] = answer.numpy()
    return scores


def predict(state: State, past: Past) -> pl.DataFrame:
    """Return user_key, churn (probability of no order) and value (expected money) in the horizon.

    Raises ModelError when the state was fitted before any horizon had closed.
    """
    if not state.labelled:
        raise ModelError(
            "model.behaviour",
            found="it was trained on a past in which no horizon had closed",
            consequence="It never saw who stays away and what is spent, so it would be guessing",
            remedy="Give a longer ledger or a shorter horizon",
        )
    churn, value = np.empty(len(past.known)), np.empty(len(past.known))
    with torch.inference_mode():
        model, table = _restored(state, past, places(state.items, past.items))
        for users, batch, asked in _asked(state, past, model, table):
            churn[users], value[users] = (a.numpy() for a in model.forecast.read(model.foretell(asked, batch)))
    return pl.DataFrame({"user_key": past.histories.user_keys, "churn": churn, "value": value})


@dataclass(frozen=True)
class _Lessons:
    """All questions whose answer is known, by user: L next sets and M labels."""

    every: Histories
    first: Ints  # [B + 1] lessons of user b are first[b]:first[b + 1]
    target: Ints  # [L] the set to foretell
    after: Doubles  # [L] moment of the purchase before it; its own moment when there is none
    weight: Floats  # [L] mean 1
    label_first: Ints  # [B + 1]
    label_user: Ints  # [M]
    label_at: Doubles  # [M]
    churned: Floats  # [M]
    money: Floats  # [M] at least 0
    season: bool


def _lessons(past: Past) -> _Lessons:
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
    after = np.where(again, every.set_at[np.r_[target[0], target[:-1]]], every.set_at[target])
    count = np.bincount(user, minlength=len(every.user_keys))
    # One over the root: a customer with 100 orders says more than one with two, but not fifty times more.
    weight = np.where(again, np.maximum(count[user] - 1, 1) ** -0.5, FIRST_WEIGHT)
    weight *= np.maximum(count[user] / LESSONS_A_PASS, 1)  # those drawn stand for those left out
    labels = past.train_labels.filter(pl.col("user_key").is_in(every.user_keys.tolist())).sort("user_key", "as_of")
    owner = np.searchsorted(every.user_keys, labels["user_key"].to_numpy())
    return _Lessons(
        every=every,
        first=_edges(count),
        target=target,
        after=after,
        weight=(weight / weight.mean()).astype(np.float32),
        label_first=_edges(np.bincount(owner, minlength=len(every.user_keys))),
        label_user=owner,
        label_at=labels["as_of"].dt.epoch("us").to_numpy() / DAY_US,
        churned=labels["churned"].to_numpy().astype(np.float32),
        money=np.maximum(labels["value"].to_numpy(), 0).astype(np.float32),
        season=bool(np.ptp(every.set_at) >= 366),
    )


@dataclass(frozen=True)
class _Trend:
    """Log of what was bought lately at each of G moments, step days apart, the last one `as_of`; mean 0 a row."""

    day: float
    step: float
    rates: Tensor  # [K, G, I], moment g is `day - g * step`

    def at(self, moments: Doubles) -> tuple[Ints, Floats]:
        """Return the place of the newest row that is not younger than each moment, and the first such row [K, I]."""
        row = np.ceil((self.day - moments) / self.step - 1e-9).astype(np.int64)
        row = np.clip(row, 0, self.rates.shape[1] - 1)
        return row, self.rates[:, row[0]].numpy()


def _trend(past: Past, half_lives: tuple[float, ...]) -> _Trend:
    """Count purchases, each worth half as much after a half-life, strictly before each moment; O(K G I)."""
    bought, items = past.histories.before(past.day).of_kind(PURCHASE), len(past.items)
    span = past.day - bought.set_at.min()
    step = max(1.0, span / MOMENTS)
    moments = int(np.ceil(span / step)) + 1
    row = np.clip(np.ceil((past.day - bought.set_at) / step).astype(np.int64), 1, moments)
    sold = np.zeros((moments + 1, items), dtype=np.float32)
    np.add.at(sold, (row[bought.row_set], bought.row_item), 1)
    rates = np.empty((len(half_lives), moments, items), dtype=np.float32)
    little = 0.05 * len(bought.row_item) / span / items  # a product nobody bought lately can still be bought
    for k, half_life in enumerate(half_lives):
        kept, fade = np.zeros(items, dtype=np.float32), np.float32(0.5 ** (step / half_life))
        for g in reversed(range(moments)):
            kept = kept * fade + sold[g + 1]
            rates[k, g] = np.log(kept / half_life + little)
    rates -= rates.mean(axis=2, keepdims=True)
    return _Trend(past.day, step, torch.from_numpy(rates))


def _content(words: sp.csr_matrix | None, dimensions: int, items: int) -> Floats:
    """Return the words' leading singular vectors [I, C], mean square 1; without words one column of zeros."""
    if words is None or not words.nnz:
        return np.zeros((items, 1), dtype=np.float32)
    kept = min(dimensions, *words.shape)
    left, size, _ = randomized_svd(words, kept, random_state=0)
    content = left * size
    scaled: Floats = (content / np.sqrt(np.square(content).mean())).astype(np.float32)
    return scaled


@dataclass(frozen=True)
class _Steps:
    """loss(step): a step's users, its questions and their answers."""

    model: Model
    lessons: _Lessons
    config: Config
    content: Floats
    trend: _Trend
    sold: np.ndarray
    runtime: Runtime

    def __call__(self, step: int) -> Tensor:
        lessons, device = self.lessons, self.runtime.device
        rng = np.random.default_rng((self.runtime.seed, step))
        users = self.users(step)
        asked, asker = self.drawn(users, rng)
        labelled = ranges(lessons.label_first[users], lessons.label_first[users + 1])
        share = LABELS_A_STEP * len(asked) / max(len(labelled), 1)
        labelled = labelled[rng.random(len(labelled)) < share]
        labelled_asker = np.searchsorted(users, lessons.label_user[labelled])
        until = lessons.every.set_at[lessons.target[asked]]
        at = until - (until - lessons.after[asked]) * rng.random(len(asked))  # in (after, until]
        batch = collate(
            lessons.every.take(users),
            np.r_[asker, labelled_asker],
            np.r_[at, lessons.label_at[labelled]],
            kinds=_kinds(lessons.every.kinds, lessons.every.kinds),
            window=self.config.window,
            half_lives=self.config.again_days,
            season=lessons.season,
            ranked=len(asked),
        ).to(device)
        model = self.model
        table = model.items(torch.from_numpy(self.content).to(device))
        vectors = model(batch, table)
        loss = self.next_set(batch, table, vectors[: len(asked)], asked, at) / self.config.questions
        if len(labelled):
            told = model.foretell(vectors, batch)[len(asked) :]
            churned, money = (torch.from_numpy(v[labelled]).to(device) for v in (lessons.churned, lessons.money))
            loss = loss + self.config.forecast_weight * model.forecast.loss(told, churned, money)
        return loss

    def users(self, step: int) -> Ints:
        """Return the users of a step, ascending: every pass takes each user once, in an order of its own."""
        count = np.minimum(np.diff(self.lessons.first), LESSONS_A_PASS)
        askers = np.flatnonzero(count)
        steps = min(math.ceil(count.sum() / self.config.questions), len(askers))  # a pass
        order = np.random.default_rng((self.runtime.seed, step // steps, 1)).permutation(askers)
        shares = np.arange(steps + 1) * (count.sum() / steps)
        places = np.arange(steps + 1)  # no step without a user, however many lessons one of them has
        edges = np.searchsorted(np.cumsum(count[order]), shares, side="right") - places
        edges = np.minimum(np.maximum.accumulate(edges), len(askers) - steps) + places
        edges[0], edges[-1] = 0, len(askers)
        return np.sort(order[edges[step % steps] : edges[step % steps + 1]])

    def drawn(self, users: Ints, rng: np.random.Generator) -> tuple[Ints, Ints]:
        """Return up to LESSONS_A_PASS lessons of each user, and whose they are as an index into `users`."""
        first = self.lessons.first
        count = np.diff(first)[users]
        every, asker = ranges(first[users], first[users + 1]), np.repeat(np.arange(len(users)), count)
        shuffled = np.lexsort((rng.random(len(every)), asker))  # each user's own
        place = np.arange(len(every)) - _edges(count)[asker]
        kept = np.sort(shuffled[place < LESSONS_A_PASS])
        return every[kept], asker[kept]

    def next_set(self, batch: Batch, table: Tensor, vectors: Tensor, asked: Ints, at: Doubles) -> Tensor:
        lessons, model, device = self.lessons, self.model, self.runtime.device
        sets = lessons.target[asked]
        count = lessons.every.row_start[sets + 1] - lessons.every.row_start[sets]
        rows = ranges(lessons.every.row_start[sets], lessons.every.row_start[sets + 1])
        target = Sparse(
            torch.from_numpy(np.repeat(np.arange(len(asked)), count)).to(device),
            torch.from_numpy(lessons.every.row_item[rows].astype(np.int64)).to(device),
            torch.from_numpy(np.repeat(1 / count, count).astype(np.float32)).to(device),
        )
        bias = torch.from_numpy(np.where(self.sold, 0, UNSOLD).astype(np.float32))
        return set_cross_entropy(
            model.fit(model.drop(vectors)),
            table,
            bias.to(device),
            trend=self.trend.rates.to(device),
            trend_row=torch.from_numpy(self.trend.at(at)[0]).to(device),
            trend_weight=model.trend(model.drop(vectors)),
            extra=model.met_before(vectors, batch),
            target=target,
            weight=torch.from_numpy(lessons.weight[asked]).to(device),
        )


def _scale(model: Model, lessons: _Lessons, config: Config) -> None:
    """Take mean and spread of the numbers from up to 4,096 users, evenly spaced."""
    users = np.unique(np.linspace(0, len(lessons.every.user_keys) - 1, 4096).astype(np.int64))
    labelled = ranges(lessons.label_first[users], lessons.label_first[users + 1])
    numbers = collate(
        lessons.every.take(users),
        np.searchsorted(users, lessons.label_user[labelled]),
        lessons.label_at[labelled],
        kinds=_kinds(lessons.every.kinds, lessons.every.kinds),
        window=1,
        half_lives=config.again_days,
        season=lessons.season,
    ).numbers
    model.centre.copy_(numbers.mean(0))
    model.spread.copy_(numbers.std(0, correction=0).clamp_min(1e-3))


def _restored(state: State, past: Past, index: Ints) -> tuple[Model, Tensor]:
    """Return the trained model, and its table [I, D] in the order of `past.items`."""
    nobody = torch.zeros(0)
    with train.seeded(0):  # the weights drawn here are replaced at once
        model = Model(
            state.config,
            kinds=len(state.kinds),
            content=state.content.shape[1],
            sold=torch.ones(len(state.items)),
            labels=(nobody, nobody),
        )
    model.load_state_dict(state.weights)
    model.eval()
    known, new = np.flatnonzero(index >= 0), np.flatnonzero(index < 0)
    table, habit = torch.zeros(len(index), state.config.width), torch.zeros(len(index))
    table[known], habit[known] = model.items(state.content)[index[known]], model.again_item[index[known]]
    if len(new):
        table[new] = table[known].mean(0) if len(known) else 0.0
        if past.words is not None and len(known):
            content = model.items.project(state.content)[index[known]]
            like = (past.words[new] @ past.words[known].T).toarray()
            like[
                like
                < -np.partition(-like, min(SIMILAR, like.shape[1]) - 1, axis=1)[:, [min(SIMILAR, like.shape[1]) - 1]]
            ] = 0
            some = like.sum(axis=1) > 0
            weights = torch.from_numpy(like[some] / like[some].sum(axis=1, keepdims=True))
            table[new[some]] = weights @ content
    model.again_item = nn.Parameter(habit)
    return model, table


def _asked(state: State, past: Past, model: Model, table: Tensor) -> Iterator[tuple[Ints, Batch, Tensor]]:
    """Ask every user at `as_of`, USERS_A_CALL at once: the users, their batch, their vectors."""
    every = past.histories.before(past.day)
    count = len(every.user_keys)
    for start in range(0, count, USERS_A_CALL):
        # Always as many at once, the last one repeated: a product of fewer rows is summed in another order, and a
        # user's answer would depend on how many others are asked.
        users = np.minimum(np.arange(start, start + USERS_A_CALL), count - 1)
        batch = collate(
            every.take(users),
            np.arange(USERS_A_CALL),
            np.full(USERS_A_CALL, past.day),
            kinds=_kinds(state.kinds, every.kinds),
            window=state.config.window,
            half_lives=state.config.again_days,
            season=state.season,
        )
        yield users, batch, model(batch, table)


def _kinds(known: tuple[str, ...], asked: tuple[str, ...]) -> Ints:
    """Return the place of each kind: known ones first, then one for any other, last the question."""
    return np.array([*(known.index(k) if k in known else len(known) for k in asked), len(known) + 1])


def _fingerprint(past: Past, config: Config, runtime: Runtime) -> str:
    """Return a sha256 over everything that decides the weights."""
    digest = hashlib.sha256(repr((config, runtime, torch.__version__, past.as_of, past.items)).encode())
    for field in dataclasses.fields(past.histories):
        digest.update(np.ascontiguousarray(getattr(past.histories, field.name)).tobytes())
    for part in (past.words.indptr, past.words.indices, past.words.data) if past.words is not None else ():
        digest.update(np.ascontiguousarray(part).tobytes())
    digest.update(past.train_labels.write_csv().encode())
    return digest.hexdigest()


def _edges(count: Ints) -> Ints:
    return np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(count)])


def _embedding(count: int, width: int) -> nn.Embedding:
    table = nn.Embedding(count, width)
    nn.init.normal_(table.weight, std=0.02)
    return table


def _constant(layer: nn.Linear, value: float) -> nn.Linear:
    """Start as the same number for everybody."""
    nn.init.zeros_(layer.weight)
    nn.init.constant_(layer.bias, value)
    return layer
