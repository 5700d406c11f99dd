"""From a shopper and a question to the first n products: score, filter, the shop's rules, then the list.

    home               what comes next for this customer: the blend of all views, as `habitue recommend` ranks
    similar            products alike to one
    bought_together    products that stood in one order with one
    cart               the same for all products of a cart, and what comes next for the customer, counted alike
    session            products alike to what was looked at in the last half hour, and what comes next, counted alike
    search             the given products, in the order of this customer

Every score is brought to mean 0 and spread 1 over the products, so that rules and knobs have one unit. Nobody gets an
empty list: who is not known, or did not agree to personal answers, gets what everyone buys (`fallback` "popular"), and
where a filter leaves nothing the list is made without it (`fallback` "unfiltered"), unless `strict` asks for an error.
What a rule excludes and what is out of stock is never shown.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from habitue import explain
from habitue.core import plugins
from habitue.core.schemas import PURCHASE
from habitue.evaluate import topk
from habitue.model import blend, live
from habitue.model.past import Floats, Ints, Past
from habitue.serve import shop as shops
from habitue.serve.problems import Problem
from habitue.serve.rules import PLACEMENTS, Rule
from habitue.serve.shop import Shop
from habitue.serve.state import Shopper

SESSION = dt.timedelta(minutes=30)  # as prepare.sessions counts a visit
SESSION_ITEMS = 20  # newest products of a session that are looked at
CART_ITEMS = 50
MOST = 1_000  # products of one list
LONGEST = 256  # characters of an id
EXPLAINED = 20  # products of one list that reasons are looked for
DIVERSE = 5  # times n candidates a diverse list is chosen from
JUST_AFTER = 1e-6  # days: a question comes after the newest set, also where its clock runs ahead
ADDED, REMOVED = "Product Added", "Product Removed"

Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Filters:
    """What may be in the list. Raises Problem where it can mean nothing."""

    category: str = ""  # and everything below it: "Home" has "Home > Kitchen"
    brand: str = ""
    price_from: float = 0.0
    price_to: float = float("inf")  # a product without a price is in no list that asks for one
    exclude: frozenset[str] = frozenset()  # bought, seen
    without: tuple[str, ...] = ()  # item_ids
    strict: bool = False

    @property
    def empty(self) -> bool:
        """Whether nothing is asked for."""
        return self == Filters(strict=self.strict)


@dataclass(frozen=True)
class Question:
    """What is asked."""

    placement: str = "home"
    n: int = 10
    item_id: str = ""  # similar, bought_together
    item_ids: tuple[str, ...] = ()  # search: candidates; cart: what is in it
    filters: Filters = field(default_factory=Filters)
    diversity: float = 0.0  # 0 to 1: how much a product like one already in the list is held back
    price: float = 0.0  # -1 to 1: spreads that a product one spread dearer is raised
    explain: bool = False

    def __post_init__(self) -> None:
        """Refuse what cannot be meant. Raises Problem."""
        ids = (self.item_id, *self.item_ids, *self.filters.without, self.filters.category, self.filters.brand)
        if self.placement not in PLACEMENTS:
            raise bad("placement", f"There is no placement of that name; there are {', '.join(PLACEMENTS)}")
        if not 1 <= self.n <= MOST:
            raise bad("n", f"n is from 1 to {MOST:,}")
        if any(len(one) > LONGEST for one in ids):
            raise bad("too_long", f"An id or a name has at most {LONGEST} characters")
        if len(self.item_ids) > MOST or len(self.filters.without) > MOST:
            raise bad("too_many", f"A list of products has at most {MOST:,}")
        if not 0 <= self.diversity <= 1:
            raise bad("diversity", "diversity is from 0 to 1")
        if not -1 <= self.price <= 1:
            raise bad("price", "price is from -1 to 1")
        if not 0 <= self.filters.price_from <= self.filters.price_to:
            raise bad("price_from", "price_from and price_to are numbers from 0, the first not above the second")
        if unknown := self.filters.exclude - {"bought", "seen"}:
            raise bad("exclude", f"Only 'bought' and 'seen' can be excluded ({len(unknown)} other words)")
        if self.placement in ("similar", "bought_together") and not self.item_id:
            raise bad("item_id", f"The placement {self.placement} needs an item_id")
        if self.placement == "search" and not self.item_ids:
            raise bad("item_ids", "The placement search needs the item_ids that were found")


@dataclass(frozen=True)
class Reason:
    """Why a product is in the list."""

    code: str
    text: str
    weight: float


@dataclass(frozen=True)
class _Placed:
    """The scores of a placement [I], and where they come from."""

    score: Floats
    model: str  # blend, behaviour (its vectors), words, orders, or popular
    fallback: str | None = None
    near: Mapping[int, Floats] = field(default_factory=dict)  # product of the visit or cart -> what it adds [I]


@dataclass(frozen=True)
class Answer:
    """The list."""

    items: tuple[str, ...]
    scores: tuple[float, ...]
    reasons: tuple[tuple[Reason, ...], ...]  # empty when nobody asked
    fallback: str | None
    model: str  # what ranked: blend, behaviour (likeness by its vectors), words, orders (bought together), or popular
    version: str | None  # of the trained model that answers


def recommend(
    shop: Shop, shopper: Shopper | None, question: Question, rules: Sequence[Rule], *, now: dt.datetime
) -> Answer:
    """Answer one question; `shopper` None = nobody who may be answered in person. O(I) and the cost of the views.

    Raises Problem: 404 unknown_item, 404 nothing_matches (strict), 503 no_products.
    """
    rules = [rule for rule in rules if rule.placement in ("", question.placement)]
    placed = _placed(shop, shopper, question, now)
    fallback = placed.fallback
    may = _allowed(shop, rules)
    if question.placement == "search":
        may = may & _mask(shop, question.item_ids)
    elif question.item_id in shop.index:
        may[shop.index[question.item_id]] = False
    fits = may & _fitting(shop, shopper, question)
    if not fits.any():
        if question.filters.strict:
            raise Problem(404, "nothing_matches", "No product fits the filters", "Ask for less, or without strict")
        if not may.any() and question.placement == "search":
            raise Problem(404, "unknown_item", "None of the item_ids may be shown", "Send item_ids of the catalogue")
        fits, fallback = may, "unfiltered"
    if not fits.any():
        raise Problem(503, "no_products", "There is no product that may be shown", "Import products, or change a rule")
    score = _shaped(shop, placed.score, question, rules)
    order = _listed(shop, score, fits, question)
    order = _pinned(shop, order, fits, rules, question.n)
    reasons = _reasons(shop, shopper, question, order, fits, placed, now) if question.explain else ()
    return Answer(
        items=tuple(shop.items[i] for i in order),
        scores=tuple(round(float(score[i]), 6) for i in order),
        reasons=reasons,
        fallback=fallback,
        model=placed.model,
        version=shop.snapshot.version,
    )


def personal(shop: Shop, shopper: Shopper, *, now: dt.datetime) -> Floats | None:
    """Return the blend's scores [I] of one shopper, as `blend.score` gives them; None when it knows nothing of them.

    The flagship is asked through its memory (`model.live`), every other view with the history as it is.
    """
    state = shop.snapshot.state
    if state is None or not any(item in shop.index for one in shopper.sets for item in one.items):
        return None
    past = alone(shop, shopper, now=now)
    total = np.zeros(len(shop.items), dtype=np.float32)
    for name, weight in state.weights.items():
        if name == "behaviour" and shop.reader is not None:
            memory = shopper.remembered(shop.reader, shop.index)
            at = max(past.day, float(memory.at[-1]) + JUST_AFTER)
            told = live.ask(shop.reader, memory, at=at)[None]
        else:
            told = plugins.load("model", name, contract=("score",)).score(state.views[name], past)
        total += weight * blend.comparable(name, told)[0]
    return total


def alone(shop: Shop, shopper: Shopper, *, now: dt.datetime) -> Past:
    """Return the past of one shopper, as models are asked."""
    return dataclasses.replace(
        shop.past, as_of=now, histories=shopper.history(shop.index), known=np.ones(1, dtype=bool)
    )


def in_cart(shopper: Shopper) -> list[str]:
    """Return what lies in the cart: added and not removed since the last order, newest last."""
    cart: dict[str, None] = {}
    for one in shopper.sets:
        if one.kind == PURCHASE:
            cart.clear()
        for item in one.items:
            if one.kind == ADDED:
                cart.pop(item, None)
                cart[item] = None
            elif one.kind == REMOVED:
                cart.pop(item, None)
    return list(cart)


def in_session(shopper: Shopper, now: dt.datetime) -> list[str]:
    """Return the products of the visit that goes on, newest first, each once; none after half an hour of silence."""
    met: dict[str, None] = {}
    end = now
    for one in reversed(shopper.sets):
        if end - one.at > SESSION or len(met) >= SESSION_ITEMS:
            break
        end = one.at
        met |= dict.fromkeys(one.items)
    return list(met)[:SESSION_ITEMS]


def bad(code: str, message: str) -> Problem:
    """Return the 400 of a question that cannot be meant."""
    return Problem(400, f"bad_{code}", message, "See /openapi.json for what the route takes")


def _placed(shop: Shop, shopper: Shopper | None, question: Question, now: dt.datetime) -> _Placed:
    """Return the placement's scores [I]; what everybody buys where the placement has nothing to say."""
    if not shop.items:
        raise Problem(503, "no_products", "There is no product yet", "Import products, or send events that name them")
    place, own = question.placement, None
    likeness = "behaviour" if shop.vectors is not None else "words" if shop.past.words is not None else "orders"
    if place in ("similar", "bought_together"):
        item = shop.index.get(question.item_id)
        if item is None:
            raise Problem(404, "unknown_item", "The item_id is not in the catalogue", "Import it, or send its events")
        found = shops.alike(shop, item) if place == "similar" else shops.together(shop, item)
        if not np.ptp(found):
            return _Placed(_z(shop.trend), "popular", "popular")
        return _Placed(_z(found), likeness if place == "similar" else "orders", near={item: found})
    if shopper is not None:
        own = personal(shop, shopper, now=now)
    near: dict[int, Floats] = {}
    if place == "cart":
        cart = list(question.item_ids or (in_cart(shopper) if shopper is not None else ()))[-CART_ITEMS:]
        near = {shop.index[item]: shops.together(shop, shop.index[item]) for item in cart if item in shop.index}
    elif place == "session" and shopper is not None:
        seen = [shop.index[item] for item in in_session(shopper, now) if item in shop.index]
        near = {item: shops.alike(shop, item) / np.float32(1 + k) for k, item in enumerate(seen)}
    around = _sum(near.values())
    parts = [_z(part) for part in (around, own) if part is not None and np.ptp(part)]
    total = _sum(parts)
    if total is None:
        return _Placed(_z(shop.trend), "popular", "popular")
    return _Placed(_z(total), "blend" if own is not None else likeness if place == "session" else "orders", near=near)


def _sum(parts: Any) -> Floats | None:
    total = None
    for part in parts:
        total = part if total is None else total + part
    return total


def _z(scores: Floats) -> Floats:
    found: Floats = blend.standard(scores[None])[0]
    return found


def _allowed(shop: Shop, rules: Sequence[Rule]) -> Mask:
    """Return [I] what may be shown at all: in stock and not excluded."""
    may = shop.in_stock.copy()
    for rule in rules:
        if rule.action == "stock":
            may[_about(shop, rule)] = rule.number > 0
    for rule in rules:
        if rule.action == "exclude":
            may[_about(shop, rule)] = False
    return may


def _fitting(shop: Shop, shopper: Shopper | None, question: Question) -> Mask:
    """Return [I] what fits the question's filters."""
    filters = question.filters
    fits = np.ones(len(shop.items), dtype=bool)
    if filters.empty:
        return fits
    if filters.category:
        fits &= _in_category(shop, filters.category)
    if filters.brand:
        fits &= np.array([brand == filters.brand for brand in shop.brand], dtype=bool)
    if filters.price_from > 0 or filters.price_to < np.inf:
        fits &= (shop.price >= filters.price_from) & (shop.price <= filters.price_to)  # NaN fits nothing
    fits &= ~_mask(shop, filters.without)
    if shopper is not None and filters.exclude:
        seen = [i for one in shopper.sets if "seen" in filters.exclude or one.kind == PURCHASE for i in one.items]
        fits &= ~_mask(shop, seen)
    return fits


def _shaped(shop: Shop, score: Floats, question: Question, rules: Sequence[Rule]) -> Floats:
    """Return the scores after the price knob and the shop's boosts; what is buried comes below all else."""
    score = score.copy()
    if question.price:
        with np.errstate(divide="ignore", invalid="ignore"):
            dear = np.log(np.where(shop.price > 0, shop.price, np.nan))
        known = np.isfinite(dear)
        if known.any() and np.ptp(dear[known]):
            score[known] += question.price * ((dear - dear[known].mean()) / dear[known].std())[known]
    for rule in rules:
        if rule.action == "boost":
            score[_about(shop, rule)] += np.float32(rule.number)
    buried = np.zeros(len(score), dtype=bool)
    for rule in rules:
        if rule.action == "bury":
            buried[_about(shop, rule)] = True
    score[buried] -= np.ptp(score) + 1
    return score


def _listed(shop: Shop, score: Floats, fits: Mask, question: Question) -> list[int]:
    """Return the places of the n best that fit, of equals the first by item_id."""
    masked = np.where(fits, score, -np.inf).astype(np.float32)[None]
    wide = question.n * DIVERSE if question.diversity and shop.vectors is not None else question.n
    order, _ = topk.best(masked, count=min(wide, len(score)))
    found = [int(i) for i in order[0] if i >= 0]
    if question.diversity and shop.vectors is not None:
        found = _diverse(score, shop.vectors, found, question.n, question.diversity)
    return found[: question.n]


def _diverse(score: Floats, vectors: Floats, among: list[int], n: int, share: float) -> list[int]:
    """Choose one after the other: (1 - share) score - share x likeness to the likest chosen (Carbonell, SIGIR 1998)."""
    left = np.array(among)
    worth = (1 - share) * score[left].astype(np.float64)
    likest = np.full(len(left), -1.0)
    chosen: list[int] = []
    open_ = np.ones(len(left), dtype=bool)
    while len(chosen) < n and open_.any():
        best = int(np.argmax(np.where(open_, worth - share * (likest if chosen else 0.0), -np.inf)))
        chosen.append(int(left[best]))
        open_[best] = False
        likest = np.maximum(likest, vectors[left] @ vectors[left[best]])
    return chosen


def _pinned(shop: Shop, order: list[int], fits: Mask, rules: Sequence[Rule], n: int) -> list[int]:
    """Put pinned products at their places; one that does not fit, or is out of stock, is not pinned."""
    for rule in sorted((rule for rule in rules if rule.action == "pin"), key=lambda rule: rule.number):
        item = shop.index.get(rule.items[0])
        if item is not None and fits[item]:
            order = [other for other in order if other != item]
            order.insert(int(rule.number) - 1, item)
    return order[:n]


def _reasons(
    shop: Shop,
    shopper: Shopper | None,
    question: Question,
    order: list[int],
    fits: Mask,
    placed: _Placed,
    now: dt.datetime,
) -> tuple[tuple[Reason, ...], ...]:
    """Return why each product is there; a purchase is a reason only if taking it away lowers the product's rank."""
    if placed.fallback == "popular":
        return tuple((Reason("popular", "What everyone buys now", 1.0),) for _ in order)
    found: dict[int, list[Reason]] = {i: _nearness(shop, question.placement, i, placed.near) for i in order}
    state = shop.snapshot.state
    if placed.model == "blend" and shopper is not None and state is not None:
        told = explain.reasons(
            lambda asked: blend.score(state, asked),
            alone(shop, shopper, now=now),
            0,
            order[:EXPLAINED],
            model=placed.model,
            candidates=fits,
        )
        for row in told.iter_rows(named=True):
            text = f"Because of {_name(shop, shop.index[row['because']])}"
            found[shop.index[row["item_id"]]].append(Reason(row["code"], text, round(row["weight"], 6)))
    return tuple(tuple(found[i]) for i in order)


def _nearness(shop: Shop, placement: str, item: int, near: Mapping[int, Floats]) -> list[Reason]:
    """Name the product of the visit or the cart that does most for `item`; its weight is its share of what all do."""
    worth = {other: max(float(part[item]), 0.0) for other, part in near.items()}
    total = sum(worth.values())
    if not total:
        return []
    most = max(worth, key=lambda other: worth[other])
    together = placement in ("cart", "bought_together")
    words = "Bought together with" if together else "Like"
    code = "bought_together" if together else "similar"
    return [Reason(code, f"{words} {_name(shop, most)}", round(worth[most] / total, 6))]


def _name(shop: Shop, item: int) -> str:
    return shop.titles[item] or shop.items[item]


def _about(shop: Shop, rule: Rule) -> Mask:
    """Return [I] the products a rule is about."""
    found = _mask(shop, rule.items)
    if rule.category:
        found |= _in_category(shop, rule.category)
    if rule.brand:
        found |= np.array([brand == rule.brand for brand in shop.brand], dtype=bool)
    return found


def _in_category(shop: Shop, category: str) -> Mask:
    below = category + " > "
    return np.array([c is not None and (c == category or c.startswith(below)) for c in shop.category], dtype=bool)


def _mask(shop: Shop, items: Sequence[str]) -> Mask:
    found = np.zeros(len(shop.items), dtype=bool)
    places: Ints = np.array([shop.index[item] for item in items if item in shop.index], dtype=np.int64)
    found[places] = True
    return found


def predictions(shop: Shop, shopper: Shopper, *, now: dt.datetime) -> Mapping[str, float]:
    """Return churn and value within the horizon and, where the flagship tells them, what is done next.

    Raises Problem 503 when no model foretells them.
    """
    state = shop.snapshot.state
    if state is None or not state.churn:
        raise Problem(
            503, "no_model", "No model was trained that foretells this", "Train one on a longer ledger: habitue train"
        )
    past = alone(shop, shopper, now=now)
    names = {"user_key": 0, "as_of": now, **shopper.values(now)}
    schema = {"user_key": pl.Int64(), "as_of": pl.Datetime("us", "UTC")}
    features = pl.DataFrame([names], schema=schema | dict.fromkeys(list(names)[2:], pl.Float64()))
    told = blend.predict(state, dataclasses.replace(past, features=features)).drop("user_key").row(0, named=True)
    return {name: float(value) for name, value in told.items() if value is not None}
