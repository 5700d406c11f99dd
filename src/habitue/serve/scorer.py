"""From a shopper and a question to the first n products: score, filter, the shop's rules, then the list.

    home               what comes next for this customer: the blend of all views, as `habitue recommend` ranks
    similar            products alike to one
    bought_together    products that stood in one order with one
    cart               the same for all products of a cart, and, less, what comes next for the customer
    session            products alike to what was looked at in the last half hour, and what comes next, counted alike
    search             the given products, in the order of this customer

Every score is brought to mean 0 and spread 1 over the products, so that rules and knobs have one unit. Nobody gets an
empty list: who is not known, or did not agree to personal answers, gets what everyone buys (`fallback` "popular"), and
where a filter leaves nothing the list is made without it (`fallback` "unfiltered"), unless `strict` asks for an error.
What a rule excludes and what is out of stock is never shown.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from habitue import explain
from habitue.core.schemas import PURCHASE
from habitue.encode.search import SEARCHED
from habitue.evaluate import topk
from habitue.model import blend, quick
from habitue.model.past import Floats, Histories, Ints
from habitue.prepare.replay import EPOCH
from habitue.serve import shop as shops
from habitue.serve.personal import CART_SHARE, SESSION_SHARE, Sought, alone, mixed, paired, personal, shortened
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
ADDED, REMOVED = "Product Added", "Product Removed"

Mask = npt.NDArray[np.bool_]
Near = Callable[[Ints], Floats]  # places -> what a product of the visit or cart adds to their scores


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
    popular: bool = False  # what everyone buys, whoever asks: an arm of an experiment
    temperature: float = 0.0  # above 0: the list is drawn by chance, better products likelier; in spreads
    seed: int = 0  # of that draw

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
    """The scores of a placement, and where they come from."""

    score: Floats  # of every product, or of those that `among` names
    model: str  # blend, behaviour (its vectors), words, orders, or popular
    fallback: str | None = None
    near: Mapping[int, Near] = field(default_factory=dict)  # product of the visit or cart -> what it adds to others
    among: Ints | None = None  # ascending; None = every product


@dataclass(frozen=True)
class Answer:
    """The list."""

    items: tuple[str, ...]
    scores: tuple[float, ...]
    reasons: tuple[tuple[Reason, ...], ...]  # empty when nobody asked
    fallback: str | None
    model: str  # what ranked: blend, behaviour (likeness by its vectors), words, orders (bought together), or popular
    version: str | None  # of the trained model that answers
    chances: tuple[float, ...] = ()  # of each product at its place given those above; empty = nothing was drawn


def recommend(
    shop: Shop, shopper: Shopper | None, question: Question, rules: Sequence[Rule], *, now: dt.datetime
) -> Answer:
    """Answer one question; `shopper` None = nobody who may be answered in person. O(I) and the cost of the views.

    Raises Problem: 404 unknown_item, 404 nothing_matches (strict), 503 no_products.
    """
    rules = [rule for rule in rules if rule.placement in ("", question.placement)]
    may = _allowed(shop, rules)
    if question.placement == "search":
        may = may & _mask(shop, question.item_ids)
    elif question.item_id in shop.index:
        may[shop.index[question.item_id]] = False
    fits = may & _fitting(shop, shopper, question)
    none = not fits.any()
    placed = _placed(shop, shopper, question, rules, may if none else fits, now)
    fallback = placed.fallback
    if none:
        if question.filters.strict:
            raise Problem(404, "nothing_matches", "No product fits the filters", "Ask for less, or without strict")
        if not may.any() and question.placement == "search":
            raise Problem(404, "unknown_item", "None of the item_ids may be shown", "Send item_ids of the catalogue")
        fits, fallback = may, "unfiltered"
    if not fits.any():
        raise Problem(503, "no_products", "There is no product that may be shown", "Import products, or change a rule")
    score = _shaped(shop, placed, question, rules)
    order, drawn = _listed(shop, score, placed.among, fits, question)
    order = _pinned(shop, order, fits, rules, question.n)
    reasons = _reasons(shop, shopper, question, order, fits, placed, now) if question.explain else ()
    items = shop.items
    return Answer(
        items=tuple([items[i] for i in order]),
        scores=tuple(np.round(score[_at(placed.among, order)].astype(np.float64), 6).tolist()),
        reasons=reasons,
        fallback=fallback,
        model=placed.model,
        version=shop.snapshot.version,
        chances=tuple(drawn.get(i, 1.0) for i in order) if drawn else (),
    )


def in_cart(history: Histories) -> list[int]:
    """Return the places of what lies in the cart: added and not removed since the last order, newest last."""
    cart: dict[int, None] = {}
    told = [history.kinds.index(kind) if kind in history.kinds else -1 for kind in (PURCHASE, ADDED, REMOVED)]
    bought, added, removed = told
    orders = np.flatnonzero(history.set_kind == bought)
    for one in range(orders[-1] + 1 if len(orders) else 0, len(history.set_at)):
        for item in _items(history, one):
            if history.set_kind[one] in (added, removed):
                cart.pop(item, None)
            if history.set_kind[one] == added:
                cart[item] = None
    return list(cart)


def _seen(history: Histories) -> Histories:
    """Leave out searches: who named a product has not seen it."""
    names = np.array([kind != SEARCHED for kind in history.kinds])
    return history.keep_sets(names[history.set_kind])


def in_session(history: Histories, now: dt.datetime) -> list[int]:
    """Return the places of the products of the visit that goes on, newest first, each once.

    None after half an hour of silence.
    """
    met: dict[int, None] = {}
    end, pause = (now - EPOCH) / dt.timedelta(days=1), SESSION / dt.timedelta(days=1)
    for one in range(len(history.set_at) - 1, -1, -1):
        if end - history.set_at[one] > pause or len(met) >= SESSION_ITEMS:
            break
        end = history.set_at[one]
        met |= dict.fromkeys(_items(history, one))
    return list(met)[:SESSION_ITEMS]


def _items(history: Histories, one: int) -> list[int]:
    found: list[int] = history.row_item[history.row_start[one] : history.row_start[one + 1]].tolist()
    return found


def bad(code: str, message: str) -> Problem:
    """Return the 400 of a question that cannot be meant."""
    return Problem(400, f"bad_{code}", message, "See /openapi.json for what the route takes")


def _placed(
    shop: Shop, shopper: Shopper | None, question: Question, rules: Sequence[Rule], fits: Mask, now: dt.datetime
) -> _Placed:
    """Return the placement's scores; what everybody buys where the placement has nothing to say.

    Of a catalogue with a shortlist what is meant for the customer (`home`, `search`, and its share of `cart` and
    `session`) is of the shortlist alone, where it is long enough.
    """
    if not shop.items:
        raise Problem(503, "no_products", "There is no product yet", "Import products, or send events that name them")
    place = question.placement
    if question.popular:
        return _Placed(_z(shop.trend), "popular")
    likeness = "behaviour" if shop.vectors is not None else "words" if shop.past.words is not None else "orders"
    if place in ("similar", "bought_together"):
        item = shop.index.get(question.item_id)
        if item is None:
            raise Problem(404, "unknown_item", "The item_id is not in the catalogue", "Import it, or send its events")
        found = shops.alike(shop, item) if place == "similar" else shops.together(shop, item).scores()
        if not np.ptp(found):
            return _Placed(_z(shop.trend), "popular", "popular")
        return _Placed(_z(found), likeness if place == "similar" else "orders", near={item: found.__getitem__})
    around, near = _around(shop, shopper, question, now)
    share = 0.0 if around is None else CART_SHARE if place == "cart" else SESSION_SHARE
    if shopper is not None and shop.shortlist is not None and not question.price:
        raised, pinned = _raised(shop, rules)
        sought = Sought(fits, min(_wide(question), int(np.count_nonzero(fits))), pinned, raised)
        if around is None:
            short = shortened(shop, shopper, sought, now=now)
        else:
            short = mixed(shop, shopper, around, share, sought, now=now)
        if short is not None:
            return _Placed(short.scores, "blend", near=near, among=short.places)
    own = None if shopper is None else personal(shop, shopper, now=now)
    parts = [] if around is None else [_z(around)]
    if own is not None and np.ptp(own):
        parts.append(quick.standard(own, out=own))
    if not parts:
        return _Placed(_z(shop.trend), "popular", "popular")
    total = parts[0] if len(parts) == 1 else _z(np.float32(share) * parts[0] + np.float32(1 - share) * parts[1])
    return _Placed(total, "blend" if own is not None else likeness if place == "session" else "orders", near=near)


def _around(
    shop: Shop, shopper: Shopper | None, question: Question, now: dt.datetime
) -> tuple[Floats | None, dict[int, Near]]:
    """Return [I] what is near the products of the cart or the visit, None where nothing is; and what each of them adds.

    O(I D) for a visit, O(I) and the lines of the orders with its products for a cart.
    """
    near: dict[int, Near] = {}
    if question.placement == "cart":
        cart = [shop.index[item] for item in question.item_ids if item in shop.index]
        if not question.item_ids and shopper is not None:
            cart = in_cart(shopper.history(shop.index))
        cart = list(dict.fromkeys(cart))[-CART_ITEMS:]
        around = paired(shop, cart)
        near = {item: shops.together(shop, item).at for item in (cart if question.explain else ())}
        return around if around.any() else None, near
    if question.placement == "session" and shopper is not None:
        seen = in_session(shopper.history(shop.index), now)
        found = shops.around(shop, seen) if seen else None
        for k, item in enumerate(seen if question.explain else ()):
            near[item] = (shops.alike(shop, item) / np.float32(1 + k)).__getitem__
        return found if found is not None and np.ptp(found) else None, near
    return None, near


def _raised(shop: Shop, rules: Sequence[Rule]) -> tuple[Mask | None, Ints]:
    """Return which products a rule raises [I], None for none, and the places of those that are pinned."""
    raised = None
    for rule in rules:
        if rule.action == "boost" and rule.number > 0:
            about = _about(shop, rule)
            raised = about if raised is None else raised | about
    pins = [shop.index[rule.items[0]] for rule in rules if rule.action == "pin" and rule.items[0] in shop.index]
    return raised, np.array(pins, dtype=np.int64)


def _wide(question: Question) -> int:
    """Return how many products the list is chosen from."""
    return question.n * DIVERSE if question.diversity or question.temperature else question.n


def _at(among: Ints | None, order: list[int]) -> Ints:
    """Return where products stand among the scores."""
    found: Ints = np.array(order, dtype=np.int64)
    return found if among is None else np.searchsorted(among, found)


def _z(scores: Floats) -> Floats:
    return quick.standard(scores)


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
        fits &= shops.in_category(shop, filters.category)
    if filters.brand:
        fits &= shops.of_brand(shop, filters.brand)
    if filters.price_from > 0 or filters.price_to < np.inf:
        fits &= (shop.price >= filters.price_from) & (shop.price <= filters.price_to)  # NaN fits nothing
    fits &= ~_mask(shop, filters.without)
    if shopper is not None and filters.exclude:
        history = shopper.history(shop.index)
        fits[(_seen(history) if "seen" in filters.exclude else history.of_kind(PURCHASE)).row_item] = False
    return fits


def _shaped(shop: Shop, placed: _Placed, question: Question, rules: Sequence[Rule]) -> Floats:
    """Return the scores after the price knob and the shop's boosts; what is buried comes below all else."""
    score, some = placed.score, slice(None) if placed.among is None else placed.among
    if not rules and not question.price:
        return score
    score = score.copy()
    if question.price:
        with np.errstate(divide="ignore", invalid="ignore"):
            dear = np.log(np.where(shop.price > 0, shop.price, np.nan))
        known = np.isfinite(dear)
        if known.any() and np.ptp(dear[known]):
            dear = ((dear - dear[known].mean()) / dear[known].std())[some]
            score[known[some]] += question.price * dear[known[some]]
    for rule in rules:
        if rule.action == "boost":
            score[_about(shop, rule)[some]] += np.float32(rule.number)
    buried = np.zeros(len(score), dtype=bool)
    for rule in rules:
        if rule.action == "bury":
            buried[_about(shop, rule)[some]] = True
    score[buried] -= np.ptp(score) + 1
    return score


def _listed(
    shop: Shop, score: Floats, among: Ints | None, fits: Mask, question: Question
) -> tuple[list[int], dict[int, float]]:
    """Return the places of the n best that fit, of equals the first by item_id; and, where drawn, their chances."""
    fits = fits if among is None else fits[among]
    masked = (score if fits.all() else np.where(fits, score, np.float32(-np.inf)))[None]
    vectors = shop.vectors if question.diversity else None
    wide = _wide(question) if vectors is not None or question.temperature else question.n
    order, _ = topk.best(masked, count=min(wide, len(score)))
    found: list[int] = order[0][order[0] >= 0].tolist()
    drawn: dict[int, float] = {}
    if question.temperature:
        drawn = _drawn(score, found, question)
        found = list(drawn)
    elif vectors is not None:
        rows = vectors[found if among is None else among[found]]
        found = _diverse(score[found], rows, found, question.n, question.diversity)
    found = found[: question.n]
    if among is None:
        return found, drawn
    places = among[found].tolist()
    return places, {place: drawn[at] for place, at in zip(places, found, strict=True)} if drawn else {}


def _drawn(score: Floats, among: list[int], question: Question) -> dict[int, float]:
    """Draw n products one after the other, in proportion to exp(score / temperature) of those left; with each chance.

    Adding Gumbel noise and taking the largest draws so (Kool, van Hoof and Welling, ICML 2019, section 2.3).
    """
    worth = score[among].astype(np.float64) / question.temperature
    order = np.argsort(-(worth + np.random.default_rng(question.seed).gumbel(size=len(among))))
    weight = np.exp(worth[order] - worth.max())
    left = np.cumsum(weight[::-1])[::-1]  # of each and all drawn after it
    return {among[i]: float(w / rest) for i, w, rest in zip(order[: question.n], weight, left, strict=False)}


def _diverse(score: Floats, vectors: Floats, among: list[int], n: int, share: float) -> list[int]:
    """Choose one after the other: (1 - share) score - share x likeness to the likest chosen (Carbonell, SIGIR 1998).

    `score` [K] and `vectors` [K, D] are of the products `among`.
    """
    worth = (1 - share) * score.astype(np.float64)
    likest = np.full(len(among), -1.0)
    chosen: list[int] = []
    open_ = np.ones(len(among), dtype=bool)
    while len(chosen) < n and open_.any():
        best = int(np.argmax(np.where(open_, worth - share * (likest if chosen else 0.0), -np.inf)))
        chosen.append(among[best])
        open_[best] = False
        likest = np.maximum(likest, vectors @ vectors[best])
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


def _nearness(shop: Shop, placement: str, item: int, near: Mapping[int, Near]) -> list[Reason]:
    """Name the product of the visit or the cart that does most for `item`; its weight is its share of what all do."""
    at = np.array([item])
    worth = {other: max(float(adds(at)[0]), 0.0) for other, adds in near.items()}
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
        found |= shops.in_category(shop, rule.category)
    if rule.brand:
        found |= shops.of_brand(shop, rule.brand)
    return found


def _mask(shop: Shop, items: Sequence[str]) -> Mask:
    found = np.zeros(len(shop.items), dtype=bool)
    places: Ints = np.array([shop.index[item] for item in items if item in shop.index], dtype=np.int64)
    found[places] = True
    return found
