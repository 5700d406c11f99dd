"""What the trained model says to one shopper of every product, or of a shortlist: the sum of views of spread 1."""

from __future__ import annotations

import dataclasses
import datetime as dt
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from habitue.core import plugins
from habitue.evaluate import topk
from habitue.model import blend, live, newcomers, quick
from habitue.model.past import Floats, Ints, Past
from habitue.model.quick import Told
from habitue.serve import events, shortlist
from habitue.serve import shop as shops
from habitue.serve.shop import Mask, Shop
from habitue.serve.shortlist import Recall
from habitue.serve.state import Shopper

DAY_S = 86_400
CART_SHARE = 0.7  # of what goes with the cart, beside what comes next for the customer; LOG.md, "What a cart says"
SESSION_SHARE = 0.4  # the same of a visit; LOG.md, "What was just seen"
LAST = 5  # products that recall is measured beside
TINY = 1e-12
JUST_AFTER = 1e-6  # days: a question comes after the newest set, also where its clock runs ahead


def alone(shop: Shop, shopper: Shopper, *, now: dt.datetime) -> Past:
    """Return the past of one shopper, as models are asked."""
    known, traits = np.ones(1, dtype=bool), _traits(shop, shopper)
    return dataclasses.replace(shop.past, as_of=now, histories=shopper.history(shop.index), known=known, traits=traits)


def _traits(shop: Shop, shopper: Shopper) -> Floats | None:
    return None if shop.traits is None else shop.traits.of([shopper.person])


@dataclass(frozen=True)
class Sought:
    """What a shortlist is made for (`shortlist.candidates`)."""

    fits: Mask  # [I] what may be shown
    count: int  # of them, at least
    more: Ints = field(default_factory=lambda: np.zeros(0, dtype=np.int64))  # places that are on it in any case
    raised: Mask | None = None  # [I] what a rule raises


@dataclass(frozen=True)
class Shortened:
    """The scores of a shortlist, and of the sample beside it that stands for all other products."""

    places: Ints  # [K] ascending
    scores: Floats  # [K] mean 0 and spread 1 over the whole catalogue, as near as the sample tells
    stands_for: npt.NDArray[np.float64]  # [K] of how many products each is


def personal(shop: Shop, shopper: Shopper, *, now: dt.datetime) -> Floats | None:
    """Return the blend's scores [I] of one shopper, as `blend.score` gives them; None when it knows nothing of them.

    The flagship is asked through its memory (`model.live`), the closed forms over plain arrays (`model.quick`), every
    other view with the history as it is.
    """
    model = shop.snapshot.state
    if model is None or not shopper.known(shop.index):
        return None
    bought, means = _bought(shop, shopper, now), 0.0
    whole: list[Floats] = []  # views that say something of every product, each in memory of its own
    told: list[tuple[np.float32, Told]] = []
    for name, weight in model.weights.items():
        if not weight:
            continue
        if name in shop.views:
            one = shop.views[name](bought)
            mean, spread = one.moments()
            if spread:
                means += weight / spread * mean
                told.append((np.float32(weight / spread), one))
        elif name == "behaviour" and shop.reader is not None:
            memory, at = _memory(shop, shop.reader, shopper, now)
            logits = live.ask(shop.reader, memory, at=at, traits=_traits(shop, shopper))
            logits -= logits.max()
            whole.append(quick.standard(np.exp(logits, out=logits), out=logits))  # as blend.comparable
            whole[-1] *= np.float32(weight)
        else:
            whole.append(np.float32(weight) * _asked(shop, shopper, name, now))
    total = whole[0] if whole else np.zeros(len(shop.items), dtype=np.float32)
    for part in whole[1:]:
        total += part
    for share, one in told:
        if one.base is not None:
            total += share * one.base.values
        total[one.places] += share * one.added
    total -= np.float32(means)
    scores: Floats = newcomers.applied(model.newcomers, shop.past, total[None])[0]
    return scores


def shortened(shop: Shop, shopper: Shopper, sought: Sought, *, now: dt.datetime) -> Shortened | None:
    """Return the blend's scores of a shortlist (shortlist.py); None where it has too few of the products that fit.

    Scores are those of `personal` but for one thing: mean and spread of the flagship's view, and of the sum, are
    estimated. What is on the shortlist counts as it is, all other products by the share of the sample that is not on
    it. Views in closed form are brought to mean 0 and spread 1 over the whole catalogue exactly. Products that nobody
    bought yet are not lifted (model/newcomers.py): the spread of all of them is not known here.
    O(W D + probes I / sqrt(I) E + K E).
    """
    model, reader = shop.snapshot.state, shop.reader
    if shop.shortlist is None or model is None or reader is None or not shopper.known(shop.index):
        return None
    bought = _bought(shop, shopper, now)
    told = {n: shop.views[n](bought) for n, weight in model.weights.items() if weight and n in shop.views}
    memory, at = _memory(shop, reader, shopper, now)
    query = live.query(reader, memory, at=at, traits=_traits(shop, shopper))
    chosen = shortlist.candidates(
        shop.shortlist,
        query.vector,
        list(told.values()),
        fits=sought.fits,
        count=sought.count,
        more=np.concatenate([memory.item, sought.more]),
        raised=sought.raised,
    )
    if len(chosen) < sought.count and len(chosen) < np.count_nonzero(sought.fits):
        return None
    places = shortlist.every([chosen, shop.shortlist.sample], np.ones(len(shop.items), dtype=bool))
    stands_for = shortlist.weights(places, chosen, len(shop.items))
    total = np.zeros(len(places))
    for name, weight in model.weights.items():
        if name in told:
            mean, spread = told[name].moments()
            total += weight * (told[name].at(places) - mean) / spread if spread else 0.0
        elif weight and name == "behaviour":
            logits = reader.products[places] @ query.vector
            logits += Told(len(shop.items), query.item, query.gain).at(places)
            total += weight * _standard(np.exp(logits - logits.max()), stands_for)
        elif weight:
            total += weight * _asked(shop, shopper, name, now)[places]
    return Shortened(places, _standard(total, stands_for).astype(np.float32), stands_for)


def mixed(
    shop: Shop, shopper: Shopper, near: Floats, share: float, sought: Sought, *, now: dt.datetime
) -> Shortened | None:
    """Return `share` x near + (1 - share) x the blend's scores, of a shortlist; as `shortened`, None where that is.

    `near` [I]: what is near a cart or a visit, known of every product; the best of it that fit are on the shortlist.
    """
    best = np.flatnonzero(near)
    if len(best) > shortlist.MANY:
        fitting = np.where(sought.fits, near, np.float32(-np.inf))
        first, _ = topk.best(fitting[None], count=max(shortlist.NEAR, sought.count))
        best = first[0][first[0] >= 0]
    own = shortened(shop, shopper, dataclasses.replace(sought, more=np.concatenate([best, sought.more])), now=now)
    if own is None:
        return None
    middle = near[own.places] - near.mean()
    total = share * middle / max(float(near.std()), TINY) + (1 - share) * own.scores
    return Shortened(own.places, _standard(total, own.stands_for).astype(np.float32), own.stands_for)


def measure(folder: Path, reading: shops.Reading) -> None:
    """Measure the shortlist of a folder just written, and keep what was found beside it; without one do nothing."""
    if (folder / shortlist.FILE).exists():
        shop = shops.opened(folder, models=folder, model=reading.state)
        shortlist.keep(measured(shop, events.mapped(folder), now=reading.at), folder)


def measured(shop: Shop, base: events.Base, *, now: dt.datetime) -> Recall:
    """Return how much of the exact lists of some customers the shortlist has, looked for in as many cells as needed.

    The first products in stock are compared. Of the numbers of cells in `shortlist.PROBES` the first that is good
    enough is taken. O(customers I) once.
    """
    assert shop.shortlist is not None
    rng = np.random.default_rng(0)
    exact: list[tuple[Shopper, Ints]] = []
    for key in rng.permutation(base.keys)[: 2 * shortlist.CUSTOMERS].tolist():
        rows = base.of(key)
        shopper = Shopper(person=key, read=lambda rows=rows: rows, first=rows)  # type: ignore[misc]
        scores = personal(shop, shopper, now=now)
        if scores is not None and len(exact) < shortlist.CUSTOMERS:
            exact.append((shopper, _first(scores, shop.in_stock)))
    told = Recall(1.0, 1.0, 0, shortlist.PROBES[-1])
    for probes in shortlist.PROBES if exact else ():
        tried = dataclasses.replace(shop, shortlist=dataclasses.replace(shop.shortlist, probes=probes))
        shares = []
        for shopper, wanted in exact:
            found = shortened(tried, shopper, Sought(shop.in_stock, 100), now=now)
            at = wanted if found is None else found.places[_first(found.scores, shop.in_stock[found.places])]
            shares.append([np.isin(wanted[:n], at[:n]).mean() for n in (10, 100)])
        at_10, at_100 = np.mean(shares, axis=0).tolist()
        told = Recall(at_10, at_100, len(exact), probes)
        if at_100 >= shortlist.GOOD:
            break
    if not exact:
        return told
    tried = dataclasses.replace(shop, shortlist=dataclasses.replace(shop.shortlist, probes=told.probes))
    shoppers = [shopper for shopper, _ in exact]
    return dataclasses.replace(
        told,
        cart_at_100=_beside(tried, shoppers, paired, CART_SHARE, now=now),
        session_at_100=_beside(tried, shoppers, shops.around, SESSION_SHARE, now=now),
    )


def _beside(
    shop: Shop,
    shoppers: Sequence[Shopper],
    near_to: Callable[[Shop, Sequence[int]], Floats],
    share: float,
    *,
    now: dt.datetime,
) -> float | None:
    """Return how much `mixed` has of the exact first hundred, beside the products somebody bought last."""
    shares = []
    for shopper in shoppers:
        item, _ = shopper.purchases(shop.index)
        last = list(dict.fromkeys(item[::-1].tolist()))[:LAST]
        own = personal(shop, shopper, now=now)
        if not last or own is None or not np.ptp(near := near_to(shop, last)):
            continue
        wanted = _first(share * quick.standard(near) + (1 - share) * quick.standard(own), shop.in_stock)
        found = mixed(shop, shopper, near, share, Sought(shop.in_stock, 100), now=now)
        at = wanted if found is None else found.places[_first(found.scores, shop.in_stock[found.places])]
        shares.append(np.isin(wanted, at).mean())
    return float(np.mean(shares)) if shares else None


def paired(shop: Shop, items: Sequence[int]) -> Floats:
    """Return [I] how often each product is in one order with each of some, summed. O(I) and the lines of the orders."""
    found = np.zeros(len(shop.items), dtype=np.float32)
    for item in items:
        told = shops.together(shop, item)
        found[told.places] += told.added
    return found


def _first(scores: Floats, may: Mask) -> Ints:
    best, _ = topk.best(np.where(may, scores, np.float32(-np.inf))[None], count=100)
    found: Ints = best[0][best[0] >= 0]
    return found


def _bought(shop: Shop, shopper: Shopper, now: dt.datetime) -> quick.Bought:
    item, at = shopper.purchases(shop.index)
    return quick.Bought(item, now.timestamp() / DAY_S - at)


def _memory(shop: Shop, reader: live.Reader, shopper: Shopper, now: dt.datetime) -> tuple[live.Memory, float]:
    """Return what the flagship remembers, and the moment it is asked at."""
    memory = shopper.remembered(reader, shop.index)
    return memory, max(now.timestamp() / DAY_S, float(memory.at[-1]) + JUST_AFTER)


def _asked(shop: Shop, shopper: Shopper, name: str, now: dt.datetime) -> Floats:
    """Return the scores [I], of mean 0 and spread 1, of a view that is asked through its module."""
    assert shop.snapshot.state is not None
    module = plugins.load("model", name, contract=("score",))
    past = alone(shop, shopper, now=now)
    scores: Floats = blend.comparable(name, module.score(shop.snapshot.state.views[name], past))[0]
    return scores


def _standard(scores: npt.NDArray[Any], stands_for: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Bring scores to mean 0 and spread 1 over the products they stand for."""
    mean = np.average(scores, weights=stands_for)
    middle = scores - mean
    spread = np.sqrt(np.average(middle * middle, weights=stands_for))
    found: npt.NDArray[np.float64] = middle / spread if spread > 0 else np.zeros(len(scores))
    return found
