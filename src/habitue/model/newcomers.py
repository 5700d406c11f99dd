"""How much each product that nobody bought yet will be bought, from facts of its first day, and its place in a list.

What such a product is like tells who could want it, but hardly how many will: of two thrillers one is seen by
everybody. Facts that are known before the first sale (category, year, length, language, price) tell a part of it.
`foretold` learns from the products that were sold how much was bought of each lately: boosted trees by the Poisson
deviance, so that the few that everybody buys count for what they are (a squared error of logarithms foretold less;
LOG.md, "How much a new film will be seen"). `lifted` adds it to the scores of the new products, which keep the mean and
the spread they have for each user: where they stand among the others does not move.

In a shop training does this by itself: `judged` asks what it would have brought at the moment the blend's weights are
found at, among the products that were new then, and `fit` keeps the trees where that is shown to help. The trees read
`past.facts` and how much was bought of the products whose words are most alike. `applied` is the step answers take.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import lightgbm as lgb
import numpy as np
import numpy.typing as npt
import polars as pl
import scipy.sparse as sp

from habitue.core import metrics
from habitue.core.errors import ModelError, SettingsError
from habitue.core.runtime import Runtime
from habitue.encode import table
from habitue.model.fuse import standard
from habitue.model.past import PURCHASE, Floats, Ints, Past, placed_once

WEIGHTS = (0.0, 0.25, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0)
PLACES = 10  # of the lists by which a weight is judged
LEAST = 50  # products, from which something can be learnt
SURE = 1.96  # standard errors of a 95 % interval
LITTLE = np.float32(1e-3)
LIKEST = 10_000  # products, those bought most, among which the alike are sought
ROWS = 512  # products compared at once
KEPT = 4  # answers of `expected` that are kept

Doubles = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Config:
    """Settings, picked on MovieLens-100k's films before the test, each told by trees of the other four fifths."""

    days: float = 60.0  # before the moment, in which sales are counted
    trees: int = 150
    leaves: int = 8
    rows_in_leaf: int = 20  # as LightGBM counts them by this deviance: a quiet product is less than one
    learning_rate: float = 0.05
    columns: float = 0.5  # share of the facts each tree may look at
    rows: float = 0.8  # share of the products each tree is grown on
    boosters: int = 3  # whose mean of logarithms is taken
    alike: int = 20  # products of the likest words, whose sales `fit` reads beside the facts; 0 = none
    weight: float | None = None  # beside the other views; None = found on the past, where it is shown to help; 0 = off
    least_users: int = 30  # who bought a new product in the rewound horizon; with fewer nothing is shown

    def __post_init__(self) -> None:
        """Refuse a weight that would turn what is foretold around. Raises SettingsError."""
        if self.weight is not None and not 0 <= self.weight < np.inf:
            raise SettingsError(
                "habitue.toml, [blend.newcomers] weight",
                found=f"{self.weight}",
                consequence="New products would be ranked by how little is expected of them",
                remedy="Write a number from 0 (off) up, or leave it out: then it is found on the past",
            )


@dataclass(frozen=True)
class Judged:
    """What it would have brought among the products new at an earlier moment: NDCG@10 of their buyers.

    `weight` is the best of all of them; the numbers are of weights found on the other half.
    """

    weight: float
    users: int  # who bought one of them; the numbers below are their means, 0 without any
    without: float
    gain: float
    low: float  # of the gain, 95 %
    high: float

    @property
    def helps(self) -> bool:
        """Whether the gain is more than chance."""
        return self.low > 0


@dataclass(frozen=True)
class State:
    """Trees, what they read, and what they count; without trees it is off."""

    weight: float
    judged: Judged | None  # None: nobody to judge by, or the setting named the weight
    sold: tuple[str, ...]  # products before `as_of`, ascending; all others are new
    columns: table.Fitted | None  # of the facts
    sales: Floats  # [S] of each of `sold` lately, log(1 + count)
    alike: int
    trees: tuple[str, ...]  # as LightGBM's own text


def fit(past: Past, config: Config, judged: Judged | None, *, runtime: Runtime) -> State | None:
    """Grow the trees on `past.facts` and the words; None where there are no facts, or too few products were sold.

    They are off, and only `judged` is kept, where no weight is set and none is shown to help.
    """
    weight = config.weight
    if weight is None:
        weight = judged.weight if judged is not None and judged.helps else 0.0
    if past.facts is None or len(_sold(past)) < LEAST:
        return None
    if not weight:
        return State(0.0, judged, (), None, np.zeros(0, dtype=np.float32), 0, ())
    return _grown(past, config, weight, judged, runtime)


def judge(earlier: Past, scores: Floats, target: sp.csr_matrix, config: Config, *, runtime: Runtime) -> Judged | None:
    """Return what the best weight brings at an earlier moment; None where too few bought a product new by then.

    scores: [B, I] of the users of `target` 0/1 [B, <= I], what they bought in the horizon after `earlier`. Weights that
    the setting names are not judged.
    """
    if earlier.facts is None or config.weight is not None or len(sold := _sold(earlier)) < LEAST:
        return None
    new = np.setdiff1d(np.arange(len(earlier.items)), sold)
    bought = sp.csr_matrix((target.data, target.indices, target.indptr), shape=scores.shape)
    wanted = sp.csr_matrix(bought[:, new])
    buyers = np.flatnonzero(np.diff(wanted.indptr))
    if len(buyers) < config.least_users:
        return None
    told = _grown(earlier, config, 1.0, None, runtime)
    assert told.columns is not None
    expected = _told(told.trees, _read(earlier, told, new))
    among, wanted, every = scores[np.ix_(buyers, new)], sp.csr_matrix(wanted[buyers]), np.ones(len(new), dtype=bool)
    weight = found_weight(among, expected, every, wanted)
    before = _ndcg(among, expected, every, wanted, 0.0)
    after = np.zeros_like(before)
    # Of eight weights one looks good by chance: each half of the buyers is judged by the weight that the other found.
    for half in (slice(0, None, 2), slice(1, None, 2)):
        rest = slice(1 - half.start, None, 2)
        own = found_weight(among[rest], expected, every, sp.csr_matrix(wanted[rest]))
        after[half] = _ndcg(among[half], expected, every, sp.csr_matrix(wanted[half]), own)
    gain, mean = after - before, float((after - before).mean())
    around = SURE * float(gain.std(ddof=1)) / len(gain) ** 0.5
    return Judged(weight, len(buyers), float(before.mean()), mean, mean - around, mean + around)


def applied(state: State | None, past: Past, scores: Floats) -> Floats:
    """Return the scores [B, I] with those of new products lifted; the same array where there is nothing to lift."""
    if state is None or not state.weight or past.facts is None:
        return scores
    new, expected = expected_of_new(state, past)
    return lifted(scores, expected, new, state.weight)


def words(state: State | None) -> str:
    """Return in a sentence what is done for new products and what showed it; "" where nothing could be learnt."""
    if state is None:
        return ""
    told = state.judged
    if told is None and state.weight:
        return (
            f"New products are also ranked by the sales that facts foretell, weight {state.weight:g} by the settings."
        )
    if told is None:
        return (
            "New products are not ranked by the sales that facts foretell: too few customers bought one, one horizon "
            "earlier, to show that it helps."
        )
    measured = f"{told.gain:+.3f} ({told.low:+.3f} to {told.high:+.3f}), {told.users:,} buyers, one horizon earlier"
    if not state.weight:
        return (
            "New products are not ranked by the sales that facts foretell: it is not shown to help. NDCG@10 among them "
            f"{told.without:.3f}, the best weight changes it by {measured}."
        )
    return (
        f"New products are also ranked by the sales that facts foretell, weight {state.weight:g}. NDCG@10 among them "
        f"{told.without:.3f}, with it {measured}."
    )


def ready(state: State, past: Past) -> None:
    """Foretell now what `applied` would at its first answer."""
    if state.weight and past.facts is not None:
        expected_of_new(state, past)


def expected_of_new(state: State, past: Past) -> tuple[Bools, Floats]:
    """Return which products are new [I] and `foretold` of them [I], 0 elsewhere; O(trees x new products) once.

    A server asks with the same state and facts at every answer: the newest few results are kept, by identity.
    """
    pair = (id(state), id(past.facts))
    if (kept := _kept.get(pair)) is not None and kept[0] is state and kept[1] is past.facts:
        return kept[2], kept[3]
    new, expected = _expected(state, past)
    _kept[pair] = (state, past.facts, new, expected)
    while len(_kept) > KEPT:
        _kept.pop(next(iter(_kept)), None)
    return new, expected


_kept: dict[tuple[int, int], tuple[State, pl.DataFrame | None, Bools, Floats]] = {}  # holds what it names by id


def foretold(past: Past, facts: Doubles, config: Config | None = None, *, runtime: Runtime) -> Floats:
    """Return the logarithm of the sales expected of each product in `config.days` [I]; meant for those never sold.

    Few small trees leave it between what the facts say and the mean of all: an order rather than a budget.
    facts: [I, F] in the order of `past.items`, NaN = unknown, all of them known on a product's first day. Learnt from
    the products that were sold before `past.as_of`, by their sales in the last `config.days`. O(boosters x trees x I x
    F). The same seed and threads give the same numbers. Raises ModelError when fewer than LEAST products were sold.
    """
    return _told(_trees(past, facts, config or Config(), runtime), facts)


def lifted(scores: Floats, expected: Floats, new: Bools, weight: float) -> Floats:
    """Add `weight` times what is foretold to the scores [B, I] of the products `new` [I]; both in standard units.

    The mean and the spread that the new products have for a user stay as they are; no other score changes. Where all
    new ones score the same they get an order, and LITTLE of the spread of all products.
    """
    if not new.any() or not weight:
        return scores
    own = scores[:, new]
    middle = own.mean(axis=1, keepdims=True)
    spread = np.maximum(own.std(axis=1, keepdims=True), LITTLE * scores.std(axis=1, keepdims=True))
    told = np.divide(own - middle, spread, out=np.zeros_like(own), where=spread > 0)
    added = told + np.float32(weight) * standard(expected[None, new])
    moved = scores.copy()
    moved[:, new] = middle + spread * standard(added)
    return moved


def found_weight(
    scores: Floats, expected: Floats, new: Bools, target: sp.csr_matrix, *, tried: Sequence[float] = WEIGHTS
) -> float:
    """Return the weight at which the new products that were bought next stand best: NDCG@10 among the new alone.

    target: 0/1 [B, I] of a moment whose future is known and to which the same was done: products held out of the fit.
    The first of equal ones; 0 where nobody bought a new product.
    """
    wanted = sp.csr_matrix(sp.csr_matrix(target)[:, np.flatnonzero(new)])
    users = np.flatnonzero(np.diff(wanted.indptr))
    if not users.size:
        return 0.0
    asked, wanted = scores[users], sp.csr_matrix(target)[users]
    means = [float(_ndcg(asked, expected, new, wanted, weight).mean()) for weight in tried]
    return float(tried[int(np.argmax(means))])


def _ndcg(scores: Floats, expected: Floats, new: Bools, target: sp.csr_matrix, weight: float) -> Doubles:
    """Return NDCG@10 of each user among the new products alone."""
    wanted = sp.csr_matrix(sp.csr_matrix(target)[:, np.flatnonzero(new)])
    found: Doubles = metrics.ndcg_at(metrics.places(lifted(scores, expected, new, weight)[:, new], wanted), PLACES)
    return found


def _trees(past: Past, facts: Doubles, config: Config, runtime: Runtime) -> tuple[str, ...]:
    known = _sold(past)
    if len(known) < LEAST:
        raise ModelError(
            "newcomers",
            found=f"{len(known)} products were sold before {past.as_of:%Y-%m-%d}",
            consequence="Nothing can be learnt about how much a new product will be bought",
            remedy=f"Fit on a past in which at least {LEAST} products were sold",
        )
    sales = _sales(past, config)
    trees = []
    for n in range(config.boosters):
        drawn = {
            "objective": "poisson",
            "num_leaves": config.leaves,
            "min_data_in_leaf": config.rows_in_leaf,
            "learning_rate": config.learning_rate,
            "feature_fraction": config.columns,
            "bagging_fraction": config.rows,
            "bagging_freq": 1,
            "seed": runtime.seed + n,
            "deterministic": True,
            "num_threads": runtime.threads,
            "verbosity": -1,
        }
        grown = lgb.train(drawn, lgb.Dataset(facts[known], sales[known]), config.trees)
        trees.append(str(grown.model_to_string()))
    return tuple(trees)


def _told(trees: tuple[str, ...], facts: Doubles) -> Floats:
    """Return the mean of the boosters' logarithms [I]."""
    said = [np.asarray(lgb.Booster(model_str=text).predict(facts, raw_score=True)) for text in trees]
    found: Floats = np.mean(said, axis=0).astype(np.float32)
    return found


def _sold(past: Past) -> Ints:
    """Return the places of the products that were bought before `past.as_of`, ascending."""
    every = past.histories.of_kind(PURCHASE)
    return np.flatnonzero(np.bincount(every.row_item, minlength=len(past.items)) > 0)


def _sales(past: Past, config: Config) -> Doubles:
    """Return how often each product was bought lately [I]."""
    every = past.histories.of_kind(PURCHASE)
    lately = every.set_at[every.row_set] >= past.day - config.days
    return np.bincount(every.row_item[lately], minlength=len(past.items)).astype(np.float64)


def _grown(past: Past, config: Config, weight: float, judged: Judged | None, runtime: Runtime) -> State:
    sold = _sold(past)
    assert past.facts is not None
    columns: table.Fitted = table.encode(_things(past.facts)).fitted
    sales = np.log1p(_sales(past, config)[sold]).astype(np.float32)
    state = State(weight, judged, tuple(past.items[i] for i in sold), columns, sales, config.alike, ())
    trees = _trees(past, _read(past, state, np.arange(len(past.items))), config, runtime)
    return dataclasses.replace(state, trees=trees)


def _expected(state: State, past: Past) -> tuple[Bools, Floats]:
    new = placed_once(state.sold, past.items) < 0
    expected = np.zeros(len(past.items), dtype=np.float32)
    if new.any():
        expected[new] = _told(state.trees, _read(past, state, np.flatnonzero(new)))
    return new, expected


def _read(past: Past, state: State, some: Ints) -> Doubles:
    """Return what the trees read of some products [n, F]."""
    assert past.facts is not None and state.columns is not None
    facts = table.encode(_things(past.facts[some]), fitted=state.columns).dense.astype(np.float64)
    return np.column_stack([facts, _alike(past, state, some)])


def _things(facts: pl.DataFrame) -> pl.DataFrame:
    return facts.with_row_index("id").with_columns(pl.col("id").cast(pl.String))


def _alike(past: Past, state: State, some: Ints) -> Doubles:
    """Return [n] the mean logarithm of the sales of the likest other products, weighted by likeness; NaN = unknown.

    Likeness is taken between products of this past: what a column of `words` means changes with the catalogue.
    """
    found = np.full(len(some), np.nan)
    most = np.argsort(-state.sales, kind="stable")[:LIKEST]
    place = placed_once(past.items, [state.sold[i] for i in most])
    known, sales = place[place >= 0], state.sales[most][place >= 0]
    if past.words is None or not state.alike or not len(known):
        return found
    others, count = past.words[known].T.tocsr(), min(state.alike, len(known))
    for start in range(0, len(some), ROWS):
        own = some[start : start + ROWS]
        like = np.maximum((past.words[own] @ others).toarray(), 0)
        like[own[:, None] == known[None]] = 0
        best = np.argpartition(-like, count - 1, axis=1)[:, :count]
        weight = np.take_along_axis(like, best, axis=1)
        total = weight.sum(axis=1)
        there = total > 0
        found[start : start + ROWS][there] = (weight * sales[best]).sum(axis=1)[there] / total[there]
    return found
