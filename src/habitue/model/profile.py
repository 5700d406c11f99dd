"""One frozen vector a customer, at most 2,048 float16, that serves every task: the universal profile.

What several models know of a customer, side by side, each part scaled so that a small network can read it as it is:

    state      the flagship's answer to "what next?" at `as_of` (behaviour.py)
    pooled     the mean of what it read in each of the newest sets
    content    decayed means of the words of what the customer met, one a half-life
    ids        the same of the products' learnt vectors
    declared   the declared FEATURES: recency, frequency, money, rhythm
    counts     decayed purchases of the products that sell most, and of groups of like products
    scores     what popularity with repeats, SLIST and the flagship say of the same products and groups
    forecast   churn and value as trees, the flagship and BG/NBD foretell them

The parts are RecSys Challenge 2025's idea of a profile ("universal behavioural modelling"): made once, without a look
at the tasks. A part that the past cannot give (words of a shop without words, forecasts before any horizon has closed)
is left out when fitting, and `State.absent` says why; a customer of whom a part knows nothing has its mean, which is 0.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import polars as pl
import scipy.sparse as sp
from scipy.special import log_softmax, logit
from sklearn.cluster import KMeans
from sklearn.utils.extmath import randomized_svd

from habitue.core.errors import ModelError, SettingsError, did_you_mean
from habitue.core.runtime import Runtime
from habitue.core.schemas import FEATURES, PROFILES, Profiles, check
from habitue.core.settings import tuned
from habitue.model import behaviour, clv, popular, slist, trees
from habitue.model.past import PURCHASE, REFUND, Floats, Ints, Past, columns, places, purchases
from habitue.model.seeds import borrowed
from habitue.model.train import Progress

SEEDED = True  # another seed is another profile
PARTS = ("state", "pooled", "content", "ids", "declared", "counts", "scores", "forecast")
MOST = 2_048  # numbers a profile
BOUND = 6.0  # a number lies within so many spreads of its mean
USUAL = 150  # numbers of a part whose spread is 1 each; a part of fewer speaks up, one of more speaks low: LOG.md
FLOOR = -20.0  # log of a probability that is none
LITTLE = 1e-4  # a probability is kept this far from 0 and 1
SAME = 1e-6  # a spread below it is none
USERS_A_CALL = 512
OF_THE_MOMENT = ("month", "weekday")  # declared features that are the same for everybody: they tell nobody apart

Halves = npt.NDArray[np.float16]
Named = tuple[Floats, tuple[str, ...]]  # [B, columns], what each column is


@dataclass(frozen=True)
class Config:
    """What goes in, and the settings of the models that are asked."""

    parts: tuple[str, ...] = PARTS
    half_lives_days: tuple[float, ...] = (7.0, 30.0, 120.0)  # of what was met
    content: int = tuned(64, values=(32, 64, 128))  # dimensions of the words
    leading: int = tuned(160, values=(80, 160, 320))  # products that are counted and scored one by one
    groups: int = tuned(64, values=(32, 64, 128))  # of like products, counted and scored in sum
    behaviour: behaviour.Config = field(default_factory=behaviour.Config)
    slist: slist.Config = field(default_factory=slist.Config)
    popular: popular.Config = field(default_factory=popular.Config)
    trees: trees.Config = field(default_factory=trees.Config)
    clv: clv.Config = field(default_factory=clv.Config)


@dataclass(frozen=True)
class State:
    """The fitted models, and how their numbers are brought to one scale."""

    config: Config
    items: tuple[str, ...]
    declared: tuple[str, ...]  # names of the features
    content: Floats  # [I, C]; C = 0 without words
    group: Ints  # [I] group of like products
    leading: Ints  # [K] indices into `items`
    behaviour: behaviour.State
    slist: slist.State
    popular: popular.State
    trees: trees.State | None  # None: no horizon had closed
    clv: clv.State | None  # None: too few customers
    names: tuple[str, ...]  # [P] what each number of a profile is: "<part>.<what>"
    centre: Floats  # [P]
    scale: Floats  # [P] one over the spread, 0 where everybody had the same number
    weight: Floats  # [P] so that every part has the same spread in sum, however many numbers it holds
    absent: dict[str, str]  # part or model -> why it is not in


def fit(past: Past, config: Config, *, runtime: Runtime, progress: Progress | None = None) -> State:
    """Fit the models and learn the scale of their numbers from the users of `past`; the cost is that of the models.

    Raises SettingsError for a part that does not exist, ModelError for more than 2,048 numbers and where a model does.
    """
    _check_parts(config)
    absent: dict[str, str] = {}
    flagship = behaviour.fit(past, config.behaviour, runtime=runtime, progress=progress)
    grown = bought = None
    if _labelled(past) >= config.trees.least_rows:
        grown = trees.fit(past, config.trees, runtime=runtime)
    else:
        absent["forecast.trees"] = "too few labelled rows: hardly a horizon had closed"
    if not flagship.labelled:
        absent["forecast.behaviour"] = "it was trained before any horizon had closed, or without a clock"
    if _customers(past) >= config.clv.least_customers:
        bought = clv.fit(past, config.clv, runtime=runtime)
    else:
        absent["forecast.clv"] = "too few known customers have an order"
    counted = popular.fit(past, config.popular, runtime=runtime)
    content = _content(past.words, config.content, len(past.items))
    if not content.shape[1]:
        absent["content"] = "no product has words"
    declared = tuple(c for c in past.features.columns if c not in (*FEATURES.schema, *OF_THE_MOMENT))
    if not declared or past.features.is_empty():
        absent["declared"] = "there are no features at as_of"
    ready = State(
        config=config,
        items=past.items,
        declared=declared if past.features.height else (),
        content=content,
        group=_groups(np.c_[_unit(flagship.weights["items"].numpy()), _unit(content)], config.groups, runtime.seed),
        leading=np.argsort(-counted.trend, kind="stable")[: config.leading],
        behaviour=flagship,
        slist=slist.fit(past, config.slist, runtime=runtime),
        popular=counted,
        trees=grown,
        clv=bought,
        names=(),
        centre=np.zeros(0, dtype=np.float32),
        scale=np.zeros(0, dtype=np.float32),
        weight=np.zeros(0, dtype=np.float32),
        absent=absent,
    )
    return _scaled(ready, past)


def profiles(state: State, past: Past) -> Profiles:
    """Return PROFILES, one row a user of `past.histories`, at `past.as_of`; O(users x items) scores, 512 users at once.

    `past` may be later than the one the state was fitted on, and hold products and users that it has never met: a new
    product borrows the vectors of those whose words are nearest, or counts as the average one.
    """
    table = pl.DataFrame(
        {
            "user_key": past.histories.user_keys,
            "as_of": pl.Series([past.as_of] * len(past.known), dtype=pl.Datetime("us", "UTC")),
            "vector": pl.Series(vectors(state, past), dtype=pl.Array(pl.Float16, len(state.names))),
        }
    )
    told = PROFILES.shape(table)
    check(told, PROFILES, at="model.profile")
    return told


def vectors(state: State, past: Past) -> Halves:
    """Return the profiles as float16 [B, P]."""
    found = np.empty((len(past.known), len(state.names)), dtype=np.float16)
    for users, values, _ in _raw(state, past):
        told = np.clip((values - state.centre) * state.scale, -BOUND, BOUND)
        found[users] = np.where(np.isfinite(told), told, 0) * state.weight
    return found


def _scaled(state: State, past: Past) -> State:
    """Learn mean and scale: a column's own where it is a number with a meaning, one for all columns of a vector.

    A column of a vector keeps its share of the spread: the small ones are noise, and would grow to the size of others.
    """
    if not len(past.known):
        raise ModelError(
            "model.profile",
            found="there is no user in the past",
            consequence="The scale of the numbers cannot be learnt",
            remedy="Give a past with users",
        )
    raw = list(_raw(state, past))
    names, values = raw[0][2], np.concatenate([block for _, block, _ in raw])
    if len(names) > MOST:
        raise ModelError(
            "model.profile",
            found=f"a profile would have {len(names):,} numbers",
            consequence=f"It may hold at most {MOST:,}",
            remedy="Lower 'leading', 'groups' or 'content' of model.profile, or take fewer half-lives",
        )
    told = np.isfinite(values)
    count = np.maximum(told.sum(axis=0), 1)
    centre = np.where(told, values, 0).sum(axis=0, dtype=np.float64) / count
    spread = np.where(told, np.square(values - centre), 0).sum(axis=0) / count
    vector = np.array([_vector(name) for name in names])
    for one in set(vector.tolist()) - {""}:
        spread[vector == one] = spread[vector == one].mean()
    root = np.sqrt(spread)
    _, part, size = np.unique([name.partition(".")[0] for name in names], return_inverse=True, return_counts=True)
    return dataclasses.replace(
        state,
        names=names,
        centre=centre.astype(np.float32),
        scale=np.divide(1, root, out=np.zeros_like(root), where=root > SAME).astype(np.float32),
        weight=np.sqrt(USUAL / size[part]).astype(np.float32),
    )


def _raw(state: State, past: Past) -> Iterator[tuple[slice, Floats, tuple[str, ...]]]:
    """Yield the numbers of a few users at once, NaN = not known: whose they are, [b, P], and what they are."""
    index = places(state.items, past.items)
    content = borrowed(state.content, index, past.words)
    ids = borrowed(state.behaviour.weights["items"].numpy(), index, past.words)
    makers: dict[str, Callable[[Past], Named]] = {
        "content": lambda some: _met(some, content, state.config.half_lives_days),
        "ids": lambda some: _met(some, ids, state.config.half_lives_days),
        "declared": lambda some: _declared(some, state.declared),
        "counts": lambda some: _counts(state, some),
        "scores": lambda some: _scores(state, some),
        "forecast": lambda some: _forecast(state, some),
    }
    for start in range(0, len(past.known), USERS_A_CALL):
        users = slice(start, min(start + USERS_A_CALL, len(past.known)))
        some = past.take(np.arange(users.start, users.stop))
        network = behaviour.vectors(state.behaviour, some)
        width = network.shape[1] // 2
        halves = {"state": _numbered(network[:, :width]), "pooled": _numbered(network[:, width:])}
        found = [
            (part, *(halves[part] if part in halves else makers[part](some)))
            for part in PARTS
            if part in state.config.parts and part not in state.absent
        ]
        names = tuple(f"{part}.{name}" for part, _, own in found for name in own)
        yield users, np.concatenate([values for _, values, _ in found], axis=1), names


def _met(past: Past, table: Floats, half_lives_days: tuple[float, ...]) -> Named:
    """Return the mean vector of the products met (not given back), one a half-life; NaN for who met none."""
    every = past.histories
    met = every.keep_sets((every.set_at < past.day) & (every.set_kind != every.kinds.index(REFUND)))
    user = met.set_user[met.row_set]
    found, names = [], []
    for days in half_lives_days:
        # Counted from the customer's own newest set: however long ago that was, its worth is 1, and nothing is 0 / 0.
        newest = np.maximum.reduceat(np.r_[met.set_at, -np.inf], met.set_start[:-1]) if len(met.set_at) else met.set_at
        worth = 0.5 ** ((newest[user] - met.set_at[met.row_set]) / days)
        shape = (len(past.known), len(table))
        summed = sp.csr_matrix((worth, (user, met.row_item)), shape=shape) @ table.astype(np.float64)
        total = np.bincount(user, weights=worth, minlength=shape[0])[:, None]
        found.append(np.divide(summed, total, out=np.full_like(summed, np.nan), where=total > 0))
        names += [f"{days:g}d.{i}" for i in range(table.shape[1])]
    return np.concatenate(found, axis=1).astype(np.float32), tuple(names)


def _declared(past: Past, names: tuple[str, ...]) -> Named:
    """Return the declared features, each the logarithm of its size with its sign: money and counts have long tails."""
    users = pl.DataFrame({"user_key": past.histories.user_keys})
    table = users.join(past.features, on="user_key", how="left", maintain_order="left")
    columns_ = [table[n].to_numpy() if n in table.columns else np.full(len(table), np.nan) for n in names]
    values = np.stack([column.astype(np.float64) for column in columns_], axis=1)
    return (np.sign(values) * np.log1p(np.abs(values))).astype(np.float32), names


def _counts(state: State, past: Past) -> Named:
    """Return the logarithm of 1 + purchases, each worth half as much after a half-life; one not bought is nothing."""
    inside, found, names = _inside(state), [], []
    for days in state.config.half_lives_days:
        bought = purchases(past, state.items, half_life_days=days)
        found += [bought[:, state.leading].toarray(), (bought @ inside).toarray()]
        names += _of_both(f"{days:g}d", state, inside.shape[1])
    return np.log1p(np.concatenate(found, axis=1)).astype(np.float32), tuple(names)


def _scores(state: State, past: Past) -> Named:
    """Return what each view says of the products that sell most, and in sum of each group of like products.

    The flagship as the logarithm of its softmax; the others' scores, which are near 0 for most, by their square root.
    """
    index = places(past.items, state.items)
    softmax = log_softmax(behaviour.score(state.behaviour, past), axis=1)
    softmax = np.maximum(columns(softmax, index, missing=FLOOR), FLOOR)
    inside, found, names = _inside(state), [], []
    for view, score in (("popular", popular.score(state.popular, past)), ("slist", slist.score(state.slist, past))):
        told = columns(score, index)
        found += [_root(told[:, state.leading]), _root(np.maximum(told, 0) @ inside)]
        names += _of_both(view, state, inside.shape[1])
    found += [softmax[:, state.leading], np.log(np.maximum(np.exp(softmax) @ inside, np.exp(FLOOR)))]
    names += _of_both("behaviour", state, inside.shape[1])
    return np.concatenate(found, axis=1).astype(np.float32), tuple(names)


def _inside(state: State) -> sp.csr_matrix:
    """Return [I, groups], 1 where a product is in a group."""
    place = (np.arange(len(state.group)), state.group)
    return sp.csr_matrix((np.ones(len(state.group), dtype=np.float32), place))


def _of_both(view: str, state: State, groups: int) -> list[str]:
    return [*(f"{view}.{state.items[i]}" for i in state.leading), *(f"{view}.group {g}" for g in range(groups))]


def _forecast(state: State, past: Past) -> Named:
    """Return logit of churn and log of value of each model that could be fitted."""
    models = {"trees": (trees, state.trees), "clv": (clv, state.clv)}
    told = {name: module.predict(fitted, past) for name, (module, fitted) in models.items() if fitted is not None}
    if state.behaviour.labelled:
        told["behaviour"] = behaviour.predict(state.behaviour, past)
    found = []
    for table in told.values():
        churn = np.clip(table["churn"].to_numpy(), LITTLE, 1 - LITTLE)
        found += [logit(churn), np.log1p(np.maximum(table["value"].to_numpy(), 0))]
    values = np.stack(found, axis=1) if found else np.zeros((len(past.known), 0))
    return values.astype(np.float32), tuple(f"{name}.{what}" for name in told for what in ("churn", "value"))


def _content(words: sp.csr_matrix | None, dimensions: int, items: int) -> Floats:
    """Return the words' leading singular vectors times their size [I, C]; C = 0 without words."""
    if words is None or not words.nnz:
        return np.zeros((items, 0), dtype=np.float32)
    left, size, _ = randomized_svd(words, min(dimensions, *words.shape), random_state=0)
    return np.asarray(left * size, dtype=np.float32)


def _groups(points: Floats, count: int, seed: int) -> Ints:
    """Return the group of each product by k-means on vectors of learnt meaning and of words."""
    several = min(count, len(np.unique(points, axis=0)))
    found = KMeans(several, n_init=1, random_state=seed).fit_predict(points)
    return np.asarray(found, dtype=np.int64)


def _labelled(past: Past) -> int:
    return past.train_features.join(past.train_labels, on=["user_key", "as_of"], how="inner").height


def _customers(past: Past) -> int:
    """Return how many known customers have an order."""
    return int((np.diff(past.histories.of_kind(PURCHASE).set_start)[past.known] > 0).sum())


def _vector(name: str) -> str:
    """Return which vector a number is a coordinate of; "" for one that has a meaning of its own."""
    part = name.partition(".")[0]
    return name.rpartition(".")[0] if part in ("state", "pooled", "content", "ids") else ""


def _numbered(values: Floats) -> Named:
    return values, tuple(str(i) for i in range(values.shape[1]))


def _unit(values: Floats) -> Floats:
    unit: Floats = values / np.maximum(np.linalg.norm(values, axis=1, keepdims=True), np.float32(1e-9))
    return unit


def _root(values: Floats) -> Floats:
    return np.sign(values) * np.sqrt(np.abs(values))


def _check_parts(config: Config) -> None:
    for part in config.parts:
        if part not in PARTS:
            raise SettingsError(
                "model.profile.Config",
                found=f"there is no part '{part}'",
                consequence="The profile would lack what was asked for",
                remedy=did_you_mean(part, PARTS),
            )
    if not config.parts or not config.half_lives_days or min(config.half_lives_days) <= 0:
        raise SettingsError(
            "model.profile.Config",
            found=f"parts {config.parts}, half-lives {config.half_lives_days}",
            consequence="There would be nothing to tell",
            remedy="Name at least one part, and half-lives above 0 days",
        )
