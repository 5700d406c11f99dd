"""Products nobody had bought yet: from their words alone, whom to tell.

A customer's fit to a new product n is  (sum over the purchases i of  decay(age of i) x sim(n, i) ^ sharpness)
x (appetite + 0.1) ^ curiosity, where sim is the cosine of the products' words and appetite counts, decayed, how often
the customer bought a product within 60 days of its first sale. Sharpness and curiosity are picked on launches of the
past: the catalogue is rewound to earlier moments and asked about the products that were new then.
"""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product as every_pair
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
import scipy.sparse as sp

from habitue.apply.wording import clear, percent, points
from habitue.core.errors import ModelError
from habitue.core.schemas import EVENTS, PURCHASE, SCORES, Events, Metrics, Scores, check
from habitue.evaluate import compare, table
from habitue.evaluate.measured import per_user
from habitue.model.past import Floats, Histories, Ints, Past, purchases

UTC = pl.Datetime("us", "UTC")
WAYS = ("words", "words_alone", "appetite", "busiest")
READS = {"words": ("events", "text"), "words_alone": ("events", "text")}
CHUNK = 256  # new products scored at once: CHUNK x (products + customers) floats are held


@dataclass(frozen=True)
class Config:
    """Settings. A half-life of 60 days to for ever changes the share found on past launches by less than .01."""

    told: int = 20  # customers named for each product
    min_buyers: int = 5  # a product with fewer real buyers cannot be measured by 20 names
    half_life_days: float = 120.0
    new_days: float = 60.0  # a product is new for so long after its first sale
    sharpness: tuple[float, ...] = (1.0, 2.0, 4.0)  # tried on the past
    curiosity: tuple[float, ...] = (0.0, 0.25, 0.5, 1.0)  # tried on the past
    rewinds: int = 3  # moments of the past to try them at: the last one whose horizon is closed, and earlier ones
    rewind_days: float = 28.0  # between those moments
    min_history_days: float = 60.0  # before such a moment


@dataclass(frozen=True)
class Setting:
    """What was picked, and on how many launches of the past; 0 = too few, the first values of Config stand."""

    sharpness: float
    curiosity: float
    products: int


@dataclass(frozen=True)
class Told:
    """The forecast, to be sealed: for each new product the customers to tell, by each way of naming them."""

    scores: Scores  # task "launch", rank = the customer's place for the product
    user_keys: Ints  # [B] the customers who could be named: known, with a purchase before
    setting: Setting
    cpu_s: float


@dataclass(frozen=True)
class Launches:
    """What happened to it."""

    metrics: Metrics  # share_found: real buyers among those told, the mean over measured products
    paired: pl.DataFrame  # each way minus busiest, paired over products
    products: pl.DataFrame  # item_id, buyers (known customers), found: of each new product that was bought, most first
    told: pl.DataFrame  # item_id, user_key, rank, bought; by the model "words"
    n_new: int  # products nobody had bought when the forecast was made
    n_measured: int  # of them, with enough real buyers since
    verdict: str


def tell(past: Past, config: Config | None = None) -> Told:
    """Name `config.told` customers for every product of the catalogue that nobody has bought yet.

    Four ways, as models in SCORES: words (fit x appetite), words_alone (fit), appetite (who likes new things) and
    busiest (most purchase lines). Equal scores stand in order of user_key. O(new products x (products + purchases))
    for each setting tried. Raises ModelError without words, without new products, and with fewer customers than are
    to be told.
    """
    config, started = config or Config(), time.process_time()
    if past.words is None:
        raise _refused("the products have no words", "Map a title or description column")
    new, users = _new(past), _customers(past)
    if not len(new):
        raise _refused(
            "no product of the catalogue has words and was never bought", "Add the coming products to the catalogue"
        )
    if len(users) < config.told:
        raise _refused(
            f"{len(users):,} known customers have bought something, and {config.told} are to be named",
            "Set a smaller `told`, or wait for more customers",
        )
    setting = _pick(past, config)
    chunks = [new[start : start + CHUNK] for start in range(0, len(new), CHUNK)]
    scores = SCORES.shape(pl.concat(_named(past, users, chunk, setting, config) for chunk in chunks))
    return Told(scores, past.histories.user_keys[users], setting, time.process_time() - started)


def outcome(
    told: Told, future: Events, *, horizon_days: int, dataset: str, config: Config | None = None, seed: int = 0
) -> Launches:
    """Hold the names against the purchases of the horizon; `future`: clean EVENTS, others than its purchases may be in.

    A buyer counts who was a customer when the forecast was made: nobody else could have been told. Measured are the
    products with `min_buyers` such buyers. Raises ModelError when there is none.
    """
    check(told.scores, SCORES, at="apply.launches")
    check(future, EVENTS, at="apply.launches")
    config = config or Config()
    named = told.scores.select("item_id", "user_key", "model", "rank")
    bought = _bought(future, told, horizon_days).join(named.select("item_id").unique(), on="item_id", how="semi")
    named = named.join(bought.with_columns(bought=True), on=["item_id", "user_key"], how="left", maintain_order="left")
    named = named.with_columns(pl.col("bought").fill_null(False))
    buyers = bought.group_by("item_id").agg(buyers=pl.len().cast(pl.Int64))
    measured_items = buyers.filter(pl.col("buyers") >= config.min_buyers).sort("item_id")
    if not measured_items.height:
        raise _refused(
            f"none of {named['item_id'].n_unique():,} new products found {config.min_buyers} buyers in the horizon",
            "Set a smaller `min_buyers`, or open a longer horizon",
        )
    found = named.group_by("model", "item_id").agg(share=pl.col("bought").mean())
    protocol = f"launch-{horizon_days}d"
    shares = {
        model: measured_items.join(found.filter(pl.col("model") == model), on="item_id", maintain_order="left")["share"]
        for model in WAYS
    }
    shares["chance"] = measured_items["buyers"] / len(told.user_keys)
    measured = [
        per_user(protocol, model, "cold", "share_found", np.arange(len(share)), share.to_numpy())
        for model, share in shares.items()
    ]
    metrics = pl.concat(
        table([one], dataset=dataset, modalities=READS.get(one.model, ("events",)), cpu_s=told.cpu_s, seed=seed)
        for one in measured
    )
    paired = compare(measured, against="busiest", seed=seed)
    words = named.filter(pl.col("model") == "words")
    return Launches(
        metrics=metrics,
        paired=paired,
        products=buyers.join(
            words.group_by("item_id").agg(found=pl.col("bought").sum().cast(pl.Int64)), on="item_id"
        ).sort("buyers", "item_id", descending=[True, False]),
        told=words.select("item_id", "user_key", "rank", "bought"),
        n_new=named["item_id"].n_unique(),
        n_measured=measured_items.height,
        verdict=_verdict(metrics, paired, config, measured_items.height),
    )


def _new(past: Past) -> Ints:
    """Return the products with words that nobody, guests included, has bought before `past.as_of`."""
    assert past.words is not None
    bought = past.histories.of_kind(PURCHASE)
    never = np.bincount(bought.row_item, minlength=len(past.items)) == 0
    return np.flatnonzero(never & (past.words.getnnz(axis=1) > 0))


def _customers(past: Past) -> Ints:
    """Return the users who can be told something: known, with a purchase."""
    bought = past.histories.of_kind(PURCHASE)
    return np.flatnonzero((np.diff(bought.set_start) > 0) & past.known)


def _pick(past: Past, config: Config) -> Setting:
    """Return the setting that found most buyers of the products that were new at moments of the past."""
    settings = list(every_pair(config.sharpness, config.curiosity))
    found: list[list[float]] = [[] for _ in settings]
    for moment in _moments(past, config):
        then = past.rewind(moment)
        users = _customers(then)
        truth = _bought_since(past, then, users)
        new = np.intersect1d(_new(then), np.flatnonzero(np.asarray(truth.sum(axis=0)).ravel() >= config.min_buyers))
        if len(users) < config.told or not len(new):
            continue
        likes = _appetite(then, users, config)
        fits = {sharpness: _fit(then, users, new, sharpness, config) for sharpness in config.sharpness}
        for shares, (sharpness, curiosity) in zip(found, settings, strict=True):
            best = _first(fits[sharpness] * _lift(likes, curiosity), config.told)
            shares += np.take_along_axis(truth[:, new].toarray(), best, axis=0).mean(axis=0).tolist()
    if not found[0]:
        return Setting(*settings[0], products=0)
    best_setting = settings[int(np.argmax([np.mean(shares) for shares in found]))]
    return Setting(*best_setting, products=len(found[0]))


def _moments(past: Past, config: Config) -> Iterator[dt.datetime]:
    """Yield the moments of the past to ask at: horizon closed by now, enough history before, latest first."""
    first = past.histories.set_at.min(initial=np.inf)
    for i in range(config.rewinds):
        back = past.horizon_days + i * config.rewind_days
        if past.day - back - first >= config.min_history_days:
            yield past.as_of - dt.timedelta(days=back)


def _bought_since(past: Past, then: Past, users: Ints) -> sp.csr_matrix:
    """Return what these users bought in the horizon after `then`, 0/1 [users, I]."""
    bought = past.histories.take(users).of_kind(PURCHASE)
    bought = bought.keep_sets((bought.set_at >= then.day) & (bought.set_at < then.day + then.horizon_days))
    return _lines(bought, len(past.items)).sign()


def _lines(histories: Histories, items: int) -> sp.csr_matrix:
    """Count purchase lines [users, items]."""
    bought = histories.of_kind(PURCHASE)
    rows = (np.ones(len(bought.row_item), dtype=np.float32), (bought.set_user[bought.row_set], bought.row_item))
    return sp.csr_matrix(rows, shape=(len(histories.user_keys), items))


def _named(past: Past, users: Ints, new: Ints, setting: Setting, config: Config) -> pl.DataFrame:
    """Return the users to tell of these new products, by each of WAYS."""
    fit = _fit(past, users, new, setting.sharpness, config)
    likes = _appetite(past, users, config)
    lines = np.asarray(_lines(past.histories, len(past.items)).sum(axis=1)).ravel()[users]
    scored: dict[str, npt.NDArray[Any]] = {
        "words": fit * _lift(likes, setting.curiosity),
        "words_alone": fit,
        "appetite": np.broadcast_to(likes[:, None], fit.shape),
        "busiest": np.broadcast_to(lines[:, None], fit.shape),
    }
    frames = []
    for model in WAYS:
        best = _first(scored[model], config.told)  # [told, N]
        frames.append(
            pl.DataFrame(
                {
                    "user_key": past.histories.user_keys[users][best.T.ravel()],
                    "item_id": np.repeat(np.array(past.items, dtype=object)[new], len(best)).tolist(),
                    "score": np.take_along_axis(scored[model], best, axis=0).T.ravel().astype(np.float64),
                    "rank": np.tile(np.arange(1, len(best) + 1, dtype=np.int32), len(new)),
                }
            ).with_columns(model=pl.lit(model), task=pl.lit("launch"), as_of=pl.lit(past.as_of, dtype=UTC))
        )
    return pl.concat(frames)


def _fit(past: Past, users: Ints, new: Ints, sharpness: float, config: Config) -> Floats:
    """Return the fit of users to new products [B, N]: decayed purchases times similarity of words ^ sharpness."""
    assert past.words is not None
    history = purchases(past, past.items, half_life_days=config.half_life_days)[users]
    alike = (past.words[new] @ past.words.T).toarray().clip(0.0, None) ** np.float32(sharpness)
    return np.asarray(history @ alike.T)


def _appetite(past: Past, users: Ints, config: Config) -> npt.NDArray[np.float64]:
    """Return how often each user bought a product within `new_days` of its first sale, decayed [B].

    A product sold in the first `new_days` of the record may be old: it counts as new for nobody.
    """
    bought = past.histories.of_kind(PURCHASE)
    at = bought.set_at[bought.row_set]
    first = np.full(len(past.items), np.inf)
    np.minimum.at(first, bought.row_item, at)
    since = first[bought.row_item]
    new = (at - since < config.new_days) & (since >= at.min(initial=np.inf) + config.new_days)
    worth = new * 0.5 ** ((past.day - at) / config.half_life_days)
    liked = np.bincount(bought.set_user[bought.row_set], weights=worth, minlength=len(past.known))
    return liked[users].astype(np.float64)


def _lift(appetite: npt.NDArray[np.float64], curiosity: float) -> npt.NDArray[np.float64]:
    """Return the factor of each user's fit [B, 1]; .1 keeps a user who never tried a new product in the race."""
    return ((appetite + 0.1) ** curiosity)[:, None]


def _bought(future: Events, told: Told, horizon_days: int) -> pl.DataFrame:
    """Return user_key, item_id, once each: what the customers who could be named bought in the horizon."""
    since = told.scores["as_of"][0]
    return (
        future.filter(
            pl.col("kind") == PURCHASE,
            pl.col("at") >= since,
            pl.col("at") < since + dt.timedelta(days=horizon_days),
            pl.col("user_key").is_in(pl.Series(told.user_keys).implode()),
        )
        .select("user_key", "item_id")
        .unique(maintain_order=True)
    )


def _first(scores: npt.NDArray[Any], n: int) -> Ints:
    """Return the `n` users with the highest score of each column [n, N], best first; equal scores in order of key."""
    return np.argsort(-scores, axis=0, kind="stable")[:n]


def _verdict(metrics: Metrics, paired: pl.DataFrame, config: Config, products: int) -> str:
    share = {model: percent(mean) for model, mean in metrics.select("model", "mean").iter_rows()}
    lead, alone = (paired.row(by_predicate=pl.col("model") == model, named=True) for model in ("words", "words_alone"))
    told = (
        f"Of {config.told} customers named for each of {products:,} new products by its words and by who likes new "
        f"things, {share['words']} bought it; of your {config.told} busiest customers {share['busiest']}, of all "
        f"customers {share['chance']}"
    )
    if clear(lead) and clear(alone) and lead["mean"] > 0 < alone["mean"]:
        return f"{told}. The words help: {points(lead)} over the busiest."
    if clear(lead) and lead["mean"] > 0:
        return f"{told}. That is {points(lead)} over the busiest, but words alone do not lead ({share['words_alone']})."
    return (
        f"{told}. The difference of {points(lead)} does not show that words are worth more than telling your busiest "
        f"customers."
    )


def _refused(found: str, remedy: str) -> ModelError:
    return ModelError(
        "apply.launches",
        found=found,
        consequence="Nobody can be told about a new product",
        remedy=remedy,
    )
