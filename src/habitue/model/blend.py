"""Late fusion: every model gives its view, and one weight a view says how much it counts, the same for everybody.

    rank     sum_v weight_v x z(score_v), z = mean 0 and spread 1 over the products of one customer; `behaviour` enters
             as the probability of its softmax
    churn    logit = sum_v weight_v x logit(churn_v), the weights add up to 1
    value    log money = sum_v weight_v x log(value_v), the weights add up to 1

No weight is below 0. How many leave and what is spent in all is left to the views, which learnt it from many moments;
the one moment that the weights are found at would only bring its own season in.

The weights are found on the past itself: rewind it by one horizon, fit every view on that, and see which weights
foretell the horizon that is known by now. Then every view is fitted again on the whole past. Found for rank: coordinate
ascent on NDCG@10 of all products plus NDCG@10 of the products new to the customer. For churn: log loss. For value:
Tweedie deviance of power 1.5, as in `trees`. Weights of the ranks that the settings name are taken as they are, and
nothing is fitted twice for them: for clicks without a clock, good ones are known (SEQUENCE).
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
import scipy.sparse as sp
from scipy.optimize import minimize
from scipy.special import expit, logit

from habitue.core import plugins
from habitue.core.errors import ModelError
from habitue.core.runtime import Runtime
from habitue.model import behaviour, clv, ease, neighbours, newcomers, popular, rules, slist, trees
from habitue.model.fuse import standard
from habitue.model.past import Floats, Ints, Past, next_sets, purchases
from habitue.model.train import Progress

ANSWERS = frozenset({"rank", "churn", "value"})
SEEDED = True  # another seed is another model

Doubles = npt.NDArray[np.float64]

TRIED = (0.0, 0.1, 0.2, 0.35, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0)  # weights
SWEEPS = 4  # over all views; on Online Retail nothing moves after the second
FEW, BAGS = 250, 16  # up to so many customers the weights are the mean of so many climbs; LOG.md, "weights of few"
PLACES = 10  # of the list that is judged
LEAST_REPEATS = 0.01  # share of what is bought that was bought before; with less, repeats are not judged
CANDIDATES = 100  # best products of each view, among all and among those new to the customer
USERS = 2_000  # judged at most
USERS_A_CALL = 512  # at most
SCORES_A_CALL = 2**22  # numbers at most: what fits a cache is faster than what the kernel gives page by page
WHOLE = "whole"  # folder of the checkpoint of the fit on the whole past
LITTLE = 1e-4  # a probability is kept this far from 0 and 1
LITTLE_MONEY = 0.01  # major units; the log of no money
PULL = 300.0  # customers; what the plain mean of the views is worth against those the weights are found on


@dataclass(frozen=True)
class Config:
    """The views by file name, and the settings of each; a view of your own is fitted with its own defaults."""

    views: tuple[str, ...] = ("popular", "neighbours", "rules", "ease", "slist", "clv", "trees", "behaviour")
    popular: popular.Config = field(default_factory=popular.Config)
    neighbours: neighbours.Config = field(default_factory=neighbours.Config)
    rules: rules.Config = field(default_factory=rules.Config)
    ease: ease.Config = field(default_factory=ease.Config)
    slist: slist.Config = field(default_factory=slist.Config)
    clv: clv.Config = field(default_factory=clv.Config)
    trees: trees.Config = field(default_factory=trees.Config)
    behaviour: behaviour.Config = field(default_factory=behaviour.Config)
    newcomers: newcomers.Config = field(default_factory=newcomers.Config)  # no view: it lifts what nobody bought yet
    weights: tuple[float, ...] = ()  # of the ranks, one a view in the order of `views`; () = found on the past
    scarce: tuple[float, ...] = ()  # more of each, times `behaviour.scarcity`, where products have words
    scarce_ids: tuple[float, ...] = ()  # the same where they have none
    least_users: int = 30  # with an order in the rewound horizon; with fewer every view counts the same
    least_labels: int = 200  # closed before the rewound moment; with fewer every view counts the same


# Without a clock a "day" is one step of a user's sequence (bench/sequences.py). Where data are few SLIST reads all the
# words and the network a part of them; without words the network knows what its teacher does, and SLIST says it twice.
# LOG.md, "two views are enough", "asked one event after the fit" and "Beauty, ids only: the weight of the teacher".
SEQUENCE = Config(
    views=("slist", "behaviour"),
    weights=(1.0, 1.0),
    scarce=(1.0, 0.0),
    scarce_ids=(-0.5, 0.0),
    slist=slist.SEQUENCE,
    behaviour=behaviour.SEQUENCE,
)


@dataclass(frozen=True)
class State:
    """Every view fitted on the whole past, and what each counts."""

    views: dict[str, Any]  # name -> that model's State
    weights: dict[str, float]  # of the ranks; the largest is 1
    churn: dict[str, float]
    value: dict[str, float]
    judged: dict[str, int]  # customers the weights were found on: "rank", "churn"; 0 = every view counts the same
    newcomers: newcomers.State | None = None  # None: no facts of the products, or too few of them were sold


def fit(
    past: Past,
    config: Config,
    *,
    runtime: Runtime,
    folder: Path | None = None,
    progress: Progress | None = None,
    cost: dict[str, float] | None = None,
) -> State:
    """Fit every view twice and the weights between; the cost is that of the views.

    `cost` gets the CPU-seconds of each view's fit on the whole past, and of everything together under "blend".

    `folder` keeps the checkpoints of views that take one; `progress(done, steps, words)` counts the steps of training
    in both fits. A past in which no horizon has closed has no view of churn and value: `predict` then refuses.
    """
    started, spent = time.process_time(), {} if cost is None else cost
    modules = {name: _module(name) for name in config.views}
    if past.train_labels.is_empty():
        modules = {name: module for name, module in modules.items() if "rank" in module.ANSWERS}
    earlier = past.rewind(past.as_of - dt.timedelta(days=past.horizon_days))
    rankers = [name for name, module in modules.items() if "rank" in module.ANSWERS]
    tellers = [] if past.train_labels.is_empty() else [n for n, m in modules.items() if "churn" in m.ANSWERS]
    target = next_sets(past.histories, after=earlier.day, until=past.day)
    users = judged(earlier, target, runtime.seed)
    users = users if len(users) >= config.least_users and not config.weights else users[:0]
    told = earlier.train_labels.height >= config.least_labels
    needed = {n: m for n, m in modules.items() if (len(users) and n in rankers) or (told and n in tellers)}
    deadlines = [None if runtime.budget_s is None else started + runtime.budget_s * share for share in (0.5, 1.0)]
    before = _views(needed, earlier, config, runtime, folder and folder / "rewound", _half(progress, 0), deadlines[0])
    weights = _named(config, rankers, past) or dict.fromkeys(rankers, 1.0)
    new: newcomers.Judged | None = None
    churn = value = dict.fromkeys(tellers, 1 / max(len(tellers), 1))
    if len(users):
        asked = earlier.take(users)
        views = np.stack([_view(n, modules[n], before[n], asked) for n in rankers])
        weights = dict(zip(rankers, found_weights(views, asked, target[users]), strict=True))
        together = np.tensordot(np.array(list(weights.values()), dtype=np.float32), views, axes=1)
        new = newcomers.judge(earlier, together, target[users], config.newcomers, runtime=runtime)
    answers, labels = _told(modules, before, earlier, past, tellers) if told and tellers else ({}, pl.DataFrame())
    if len(labels):
        churn = churn_weights({n: a["churn"].to_numpy() for n, a in answers.items()}, labels["churned"].to_numpy())
        value = value_weights({n: a["value"].to_numpy() for n, a in answers.items()}, labels["value"].to_numpy())
    whole = _views(modules, past, config, runtime, folder and folder / WHOLE, _half(progress, 1), deadlines[1], spent)
    spent["blend"] = time.process_time() - started
    return State(
        views=whole,
        weights=weights,
        churn=churn,
        value=value,
        judged={"rank": len(users), "churn": len(labels)},
        newcomers=newcomers.fit(past, config.newcomers, new, runtime=runtime),
    )


def score(state: State, past: Past) -> Floats:
    """Return float32 [B, I]; the cost is that of the views."""
    modules = {name: _module(name) for name in state.weights}
    scores = np.zeros((len(past.known), len(past.items)), dtype=np.float32)
    at_once = max(min(USERS_A_CALL, SCORES_A_CALL // max(len(past.items), 1)), 1)
    for start in range(0, len(scores), at_once):
        some = slice(start, start + at_once)
        asked = past.take(np.arange(start, min(start + at_once, len(scores))))
        for name, weight in state.weights.items():
            scores[some] += weight * _view(name, modules[name], state.views[name], asked)
        scores[some] = newcomers.applied(state.newcomers, past, scores[some])
    return scores


def predict(state: State, past: Past) -> pl.DataFrame:
    """Return user_key, churn (probability) and value (money), one row a user, and what the flagship alone tells.

    Raises ModelError when the state was fitted before any horizon had closed.
    """
    if not state.churn:
        raise ModelError(
            "model.blend",
            found="it was fitted on a past in which no horizon had closed",
            consequence="No view ever saw who stays away and what is spent",
            remedy="Give a longer ledger or a shorter horizon",
        )
    told = {name: _module(name).predict(state.views[name], past) for name in state.churn}
    churn = sum(w * _logit(told[n]["churn"].to_numpy()) for n, w in state.churn.items())
    value = sum(w * _log(told[n]["value"].to_numpy()) for n, w in state.value.items())
    alone = told["behaviour"].drop("user_key", "churn", "value") if "behaviour" in told else pl.DataFrame()
    answers = {"user_key": past.histories.user_keys, "churn": expit(churn), "value": np.exp(value)}
    return pl.DataFrame({**answers, **alone.to_dict()})


def rank_weights(worth: Callable[[Doubles], Doubles], count: int) -> Doubles:
    """Return the weights that climbing finds; `worth`: weights [V] -> what each customer's list is worth [B].

    Of FEW customers or less one climb would learn by heart: there it is the mean of BAGS climbs, each on as many
    customers drawn from them with replacement (bagging: Breiman 1996). The largest weight becomes 1.
    """
    met: dict[bytes, Doubles] = {}  # several climbs try the same weights

    def told(weights: Doubles) -> Doubles:
        key = weights.tobytes()
        if key not in met:
            met[key] = worth(weights)
        return met[key]

    def found_on(drawn: Ints) -> Doubles:
        found = _highest(lambda weights: float(told(weights)[drawn].sum()), count)
        return found / (found.sum() or 1.0)

    customers, rng = len(told(np.ones(count))), np.random.default_rng(0)
    draws = [np.arange(customers)]
    if customers <= FEW:
        draws = [np.sort(rng.integers(0, customers, customers)) for _ in range(BAGS)]
    weights: Doubles = np.mean([found_on(drawn) for drawn in draws], axis=0)
    return weights / (weights.max() or 1.0)


def _highest(gain: Callable[[Doubles], float], count: int) -> Doubles:
    """Return the better end of two climbs: from equal weights, and from the best view alone.

    Where one view is far ahead the climb from equal weights ends below it.
    """
    alone = np.eye(count)[int(np.argmax([gain(view) for view in np.eye(count)]))]
    return max([_climb(gain, start) for start in (np.ones(count), alone)], key=gain)


def _climb(gain: Callable[[Doubles], float], weights: Doubles) -> Doubles:
    """Change one weight at a time to one of TRIED until nothing helps."""
    best = gain(weights)
    for _ in range(SWEEPS):
        before = weights.copy()
        for view in range(len(weights)):
            for tried in TRIED:
                other = weights.copy()
                other[view] = tried
                found = gain(other)
                if found > best:
                    best, weights = found, other
        if np.array_equal(weights, before):
            break
    return weights


def churn_weights(churn: Mapping[str, Doubles], churned: npt.NDArray[np.bool_]) -> dict[str, float]:
    """Return the weights of least log loss; `churn`: view -> probability [N]."""
    views = np.stack([_logit(p) for p in churn.values()], axis=1)
    sign = np.where(churned, 1.0, -1.0)

    def loss(linear: Doubles) -> tuple[float, Doubles]:
        return float(np.logaddexp(0, -sign * linear).mean()), -sign * expit(-sign * linear) / len(sign)

    return dict(zip(churn, _least(loss, views), strict=True))


def value_weights(value: Mapping[str, Doubles], money: Doubles) -> dict[str, float]:
    """Return the weights of least Tweedie deviance of power 1.5; `value`: view -> money [N]."""
    paid = np.maximum(money, 0)
    level = float(paid.mean()) or 1.0
    views = np.stack([_log(v / level) for v in value.values()], axis=1)

    def loss(linear: Doubles) -> tuple[float, Doubles]:
        up = np.exp(np.clip(linear, -30, 30) / 2)
        fall = paid / level / up
        return float(2 * (up + fall).mean()), (up - fall) / len(paid)

    return dict(zip(value, _least(loss, views), strict=True))


def _least(loss: Callable[[Doubles], tuple[float, Doubles]], views: Doubles) -> list[float]:
    """Minimise loss(views @ weights) over weights that are at least 0 and add up to 1; views [N, V]. Convex.

    They are pulled to the plain mean, which few customers cannot be trusted to better (LOG.md, "one moment's weights").
    """
    count = views.shape[1]
    plain, pull = np.full(count, 1 / count), PULL / max(len(views), 1)

    def penalised(weights: Doubles) -> tuple[float, Doubles]:
        value, slope = loss(views @ weights)
        away = weights - plain
        return value + pull * float(away @ away), views.T @ slope + 2 * pull * away

    one = {"type": "eq", "fun": lambda weights: weights.sum() - 1, "jac": np.ones_like}
    found = minimize(penalised, plain, jac=True, method="SLSQP", bounds=[(0, 1)] * count, constraints=one)
    weights = np.maximum(found.x, 0)
    return [float(w) for w in weights / weights.sum()]


def _named(config: Config, rankers: list[str], past: Past) -> dict[str, float]:
    """Return the weights that the settings name. Raises ModelError when they are not one a view."""
    if not config.weights:
        return {}
    words = past.words is not None and config.behaviour.content > 0
    setting = "scarce" if words else "scarce_ids"
    given: tuple[float, ...] = getattr(config, setting)
    named, more = config.weights, given or (0.0,) * len(config.weights)
    whole = len(named) == len(config.views) == len(more)
    if not whole or min(*named, *(w + m for w, m in zip(named, more, strict=True))) < 0 or max(named) <= 0:
        raise ModelError(
            "model.blend, setting 'weights'" + (f" or '{setting}'" if given else ""),
            found=f"{list(named)}{f' and {list(more)}' * bool(given)} for the views {', '.join(config.views)}",
            consequence="Nobody knows which weight is whose, or nothing would be ranked",
            remedy="Name one number a view, in the order of `views` and never below 0 in all, or leave it out",
        )
    few = behaviour.scarcity(past, config.behaviour) if any(more) else 0.0
    return {n: w + few * m for n, w, m in zip(config.views, named, more, strict=True) if n in rankers}


def _views(
    modules: Mapping[str, ModuleType],
    past: Past,
    config: Config,
    runtime: Runtime,
    folder: Path | None,
    progress: Progress | None,
    deadline: float | None,
    spent: dict[str, float] | None = None,
) -> dict[str, Any]:
    """Fit every view; `behaviour` alone takes long enough to keep checkpoints and to count its steps.

    It may have a closed form as teacher: the one that was fitted before it is taken, not fitted again.
    `deadline`: the process's CPU time at which its training ends.
    """
    states: dict[str, Any] = {}
    for name, module in modules.items():
        settings = getattr(config, name) if hasattr(config, name) else module.Config()
        more: dict[str, Any] = {}
        if name == "behaviour":
            more = {"folder": folder, "progress": progress, "closed_form": states.get("slist")}
        started = time.process_time()
        if deadline is not None:
            runtime = dataclasses.replace(runtime, budget_s=max(deadline - started, 0.0))
        states[name] = module.fit(past, settings, runtime=runtime, **more)
        if spent is not None:
            spent[name] = time.process_time() - started
    return states


def _half(progress: Progress | None, fit: int) -> Progress | None:
    """Count the steps of two fits as one row of steps."""
    if progress is None:
        return None
    return lambda done, steps, told: progress(done + fit * steps, 2 * steps, told)


def _module(name: str) -> ModuleType:
    return plugins.load("model", name, contract=("Config", "ANSWERS", "fit"))


def _view(name: str, module: ModuleType, state: Any, past: Past) -> Floats:
    """Return one view of the ranks, comparable to the others."""
    return comparable(name, module.score(state, past))


def comparable(name: str, scores: Floats) -> Floats:
    """Return a view's own scores [B, I] as they are added to the others'."""
    if name == "behaviour":
        scores = np.exp(scores - scores.max(axis=1, keepdims=True))  # a softmax but for its sum, which z takes out
    return standard(scores)


def judged(earlier: Past, target: sp.csr_matrix, seed: int) -> Ints:
    """Return the known customers with a history who ordered in the rewound horizon, USERS of them at most."""
    asked = earlier.known & (np.diff(earlier.histories.set_start) > 0) & (np.diff(target.indptr) > 0)
    users = np.flatnonzero(asked)
    if len(users) > USERS:
        users = np.sort(np.random.default_rng(seed).choice(users, USERS, replace=False))
    return users


def found_weights(views: Floats, past: Past, target: sp.csr_matrix) -> list[float]:
    """Find the weights on what the customers of `past` bought next; views [V, B, I], target [B, <= I] 0/1."""
    bought = np.zeros(views.shape[1:], dtype=bool)
    bought[target.nonzero()] = True
    met = purchases(past, past.items, half_life_days=1e9).toarray() > 0
    open_to_all = np.ones_like(met)
    # Where (nearly) nothing is bought again, what a customer has is no candidate, and is judged as none.
    again = (bought & met).sum() >= LEAST_REPEATS * bought.sum()
    judged = [_worth(views, bought, open_to_all)] if again else []
    parts = [worth for worth in (*judged, _worth(views, bought & ~met, ~met)) if worth]
    if not parts:
        return [1.0] * len(views)

    def together(weights: Doubles) -> Doubles:
        total: Doubles = np.sum([worth(weights) for worth in parts], axis=0)
        return total

    return [float(w) for w in rank_weights(together, len(views))]


def _worth(
    views: Floats, relevant: npt.NDArray[np.bool_], open_to: npt.NDArray[np.bool_]
) -> Callable[[Doubles], Doubles] | None:
    """Return weights -> [B] whose mean is NDCG@10 of who has something relevant; None where nobody has.

    Among each view's best candidates only: a product that no view has among its CANDIDATES best of a user is taken to
    miss the list.
    """
    customers, users = len(relevant), np.flatnonzero(relevant.any(axis=1))
    if not len(users):
        return None
    views, relevant, open_to = views[:, users], relevant[users], open_to[users]
    best = np.zeros_like(relevant)
    for view in views:
        masked = np.where(open_to, view, -np.inf)
        top = np.argpartition(-masked, min(CANDIDATES, masked.shape[1]) - 1, axis=1)[:, :CANDIDATES]
        np.put_along_axis(best, top, True, axis=1)
    best &= open_to
    width = int(best.sum(axis=1).max())
    order = np.argsort(~best, axis=1, kind="stable")[:, :width]  # the candidates, then others
    there = np.take_along_axis(best, order, axis=1)
    seen = np.stack([np.take_along_axis(view, order, axis=1) for view in views])  # [V, B, C]
    hit = np.take_along_axis(relevant, order, axis=1)
    discount = 1 / np.log2(np.arange(2, PLACES + 2))
    ideal = np.cumsum(discount)[np.minimum(relevant.sum(axis=1), PLACES) - 1]

    def worth(weights: Doubles) -> Doubles:
        scores = np.tensordot(weights.astype(np.float32), seen, axes=1)
        scores[~there] = -np.inf
        top = np.argsort(-scores, axis=1, kind="stable")[:, :PLACES]
        hits = np.take_along_axis(hit, top, axis=1) & np.take_along_axis(there, top, axis=1)
        found = np.zeros(customers)
        found[users] = hits @ discount[: hits.shape[1]] / ideal * (customers / len(users))
        return found

    return worth


def _told(
    modules: Mapping[str, ModuleType], states: Mapping[str, Any], earlier: Past, past: Past, tellers: list[str]
) -> tuple[dict[str, pl.DataFrame], pl.DataFrame]:
    """Return each view's churn and value at the rewound moment, and the labels known by now, row by row."""
    labels = past.train_labels.filter(pl.col("as_of") == earlier.as_of)
    labels = labels.filter(pl.col("user_key").is_in(earlier.histories.user_keys.tolist())).sort("user_key")
    if labels.is_empty():
        return {}, labels
    asked = earlier.take(np.searchsorted(earlier.histories.user_keys, labels["user_key"].to_numpy()))
    return {name: modules[name].predict(states[name], asked) for name in tellers}, labels


def _logit(probability: Doubles) -> Doubles:
    clipped: Doubles = logit(np.clip(probability, LITTLE, 1 - LITTLE))
    return clipped


def _log(money: Doubles) -> Doubles:
    return np.log(np.maximum(money, LITTLE_MONEY))
