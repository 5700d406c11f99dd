"""What a customer is at one moment, as a row of numbers, and where that row lies among the others.

    habits   = learn(past, ...)                   what is fitted at the cut: groups of products, the shop's own averages
    profiles(past, features, habits)              FEATURES-shaped: user_key, as_of, behaviours in their units, tastes
    scale    = measure(frame, habits)             curve, median, spread and weight of every column; main directions
    points(scale, frame)                          [B, D] where Euclid's distance is how different two customers are

Everything fitted is fitted at the cut, so a customer of another moment lies by the same measure.
A vector of the customer model can join as further columns of the profile.
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl
import scipy.sparse as sp
from sklearn.cluster import KMeans
from sklearn.decomposition import TruncatedSVD
from sklearn.preprocessing import normalize

from habitue.core.errors import ModelError
from habitue.core.schemas import FEATURES, Features, Items, check
from habitue.model.past import PURCHASE, Histories, Past
from habitue.prepare.declared import LEDGER

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

WORD = re.compile(r"[^\W\d_]{3,}")
LITTLE = frozenset("and the with for from set pack box pair assorted asstd".split())  # say nothing of a taste
CORE, CORE_WEIGHT = ("recency", "frequency", "money"), 2.0  # docs/personas.md, "How the weights were picked"
SCALED = 3.0  # scaled values are cut here: a wholesaler is big, not a group of his own
DIRECTIONS, EXPLAINED = 12, 0.95  # main directions kept: at most so many, or so much of the variance
TASTE = "taste: "  # begins the name of a taste column
PRIOR_ORDERS = 4.0  # orders of the average customer added to each, so that one Sunday order makes no Sunday shopper
PRIOR_LINES = 10.0  # the same in purchase lines, for taste
EVENING = 17  # the hour from which an order is an evening order
MANY, MIN_LINES = 0.8, 20  # categories are used when they cover so many of the purchase lines


@dataclass(frozen=True)
class Column:
    """A column of the profile in words."""

    name: str
    family: str  # families weigh the same, however many columns they have; "" = described, never clustered
    curve: str  # log, share (square root) or plain
    high: str  # what much of it makes a customer, and what little
    low: str
    said: str  # how its value is said
    about: str  # what it is, where a shop lacks it


COLUMNS = (
    Column("days_since_last", "recency", "log", "quiet", "recent", "last order {:,.0f} days ago", "days of silence"),
    Column("orders_180d", "frequency", "log", "active", "inactive", "{:,.1f} orders in 180 days", "orders"),
    Column(
        "gap_mean", "rhythm", "log", "slow-rhythm", "quick-rhythm", "an order every {:,.0f} days", "days between orders"
    ),
    Column("value_per_order", "money", "log", "big-spending", "small-spending", "{:,.2f} an order", "money an order"),
    Column(
        "items_per_order",
        "basket",
        "log",
        "broad-basket",
        "narrow-basket",
        "{:,.1f} products an order",
        "products an order",
    ),
    Column("price_per_unit", "price", "log", "premium", "thrifty", "{:,.2f} a unit", "money a unit"),
    Column(
        "new_item_share", "breadth", "plain", "variety-seeking", "repeat-buying", "{:.0%} new products", "new products"
    ),
    Column("refunded_share", "refunds", "share", "refunding", "goods-keeping", "{:.0%} sent back", "refunds"),
    Column("weekend_share", "clock", "share", "weekend", "weekday", "{:.0%} of orders at weekends", "days of the week"),
    Column("evening_share", "clock", "share", "evening", "daytime", "{:.0%} of orders from 17:00", "time of day"),
    Column("peak_share", "season", "share", "seasonal", "all-year", "{:.0%} of orders in the high season", "seasons"),
    Column("order_count", "", "log", "loyal", "occasional", "{:,.1f} orders so far", "orders so far"),
    Column("days_since_first", "", "log", "long-standing", "new", "first order {:,.0f} days ago", "days known"),
)
BY_NAME = {column.name: column for column in COLUMNS}
READ = (
    *("order_count", "orders_180d", "spend", "refunded", "spend_90d", "refunded_90d", "days_since_last"),
    *("days_since_first", "gap_mean", "value_per_order", "items_per_order", "price_per_unit", "new_item_share"),
)
_NEEDED = {*READ, "units", "items", "order_items"}  # with the parts of the ratios
DECLARED = tuple(feature for feature in LEDGER if feature.name in _NEEDED)


@dataclass(frozen=True)
class Habits:
    """What is fitted of the shop at the cut, before anybody is looked at."""

    items: tuple[str, ...]  # I products, as in Past
    group: Ints  # [I] group of each product
    groups: tuple[str, ...]  # G names
    average: Floats  # [G] share of all purchase lines
    clock: Mapping[str, float]  # share of all orders, by column; only those that the shop's times can tell
    peak: int | None  # month (1-12) at which the busiest three months of a year begin; None = less than a year is known
    time_zone: str
    left_out: tuple[str, ...]  # sentences


@dataclass(frozen=True)
class Scale:
    """How profiles become points."""

    names: tuple[str, ...]  # F columns
    curves: tuple[str, ...]
    middle: Floats  # [F] median
    spread: Floats  # [F] quartile distance / 1.349, a standard deviation for a normal
    weight: Floats  # [F]
    directions: Floats  # [F, D]
    left_out: tuple[str, ...]


def learn(
    past: Past,
    titles: Mapping[str, str],
    *,
    categories: Mapping[str, str] | None = None,
    groups: int = 12,
    time_zone: str = "UTC",
    seed: int = 0,
) -> Habits:
    """Fit what profiles need: at most `groups` groups of products, and the shop's own clock and season.

    Products are grouped by `categories` (item_id -> name) where those cover 80 % of the purchase lines, else by like
    words, else by like buyers. `time_zone`: an IANA name, in which hours and weekdays are read. O(lines).
    """
    bought = _of_known(past)
    sums = np.bincount(bought.row_item, minlength=len(past.items)).astype(np.float64)
    group, names, left_out = _groups(past, bought, sums, titles, categories or {}, groups, seed)
    total = np.bincount(group, weights=sums, minlength=len(names))
    clock, peak = {}, None
    if len(bought.set_at):
        weekend, evening, month, hours = _clock(bought.set_at, time_zone)
        clock["weekend_share"] = float(weekend.mean())
        if hours > 2:
            clock["evening_share"] = float(evening.mean())
        else:
            left_out.append("Time of day is left out: the orders carry a date, not a time.")
        if np.ptp(bought.set_at) >= 364:
            per_month = np.bincount(month, minlength=13)[1:]
            peak = int(np.argmax(per_month + np.roll(per_month, -1) + np.roll(per_month, -2))) + 1
        else:
            left_out.append("Seasons are left out: less than a year of orders is known.")
    return Habits(
        items=past.items,
        group=group,
        groups=tuple(names),
        average=total / max(total.sum(), 1.0),
        clock=clock,
        peak=peak,
        time_zone=time_zone,
        left_out=tuple(left_out),
    )


def categories(items: Items | None, as_of: dt.datetime) -> dict[str, str]:
    """Return item_id -> the first part of its latest category path before `as_of`; only products that have one."""
    if items is None:
        return {}
    named = items.filter(pl.col("valid_from") < as_of).drop_nulls("category").sort("item_id", "valid_from", "category")
    latest = named.group_by("item_id", maintain_order=True).agg(pl.col("category").last().str.split(" > ").list.first())
    return dict(latest.iter_rows())


def profiles(past: Past, features: Features, habits: Habits) -> Features:
    """Return FEATURES of the known customers who have ordered by `past.as_of`: behaviours and tastes, in their units.

    `features`: prepare.features at that moment, with at least the columns READ. Shares are drawn towards the shop's
    average (4 orders, 10 purchase lines of it), because one order is no habit. Taste columns, "taste: ...", are shares
    of a customer's purchase lines. What nothing is known of is null. Nothing at or after `past.as_of` counts.
    O(customers x columns + lines). Raises ModelError when a column of READ is missing.
    """
    check(features, FEATURES, at="apply.personas.profiles")
    missing = [name for name in READ if name not in features.columns]
    if missing:
        raise ModelError(
            "apply.personas",
            found=f"FEATURES has no column '{missing[0]}'",
            consequence="Customers could not be described",
            remedy="Declare that feature (prepare/declared.py), or ask prepare.features for profiles.DECLARED",
        )
    table = features.filter(pl.col("order_count") > 0).sort("user_key")
    table = table.select("user_key", "as_of", *READ).with_columns(
        refunded_share=(-pl.col("refunded") / pl.col("spend")).clip(0, 1),
    )
    at = np.searchsorted(past.histories.user_keys, table["user_key"].to_numpy())
    mine = past.histories.of_kind(PURCHASE).take(at)
    orders = np.diff(mine.set_start)
    weekend, evening, month, _ = _clock(mine.set_at, habits.time_zone)
    shares: dict[str, Floats] = {"weekend_share": weekend, "evening_share": evening}
    averages = dict(habits.clock)
    if habits.peak is not None:
        shares["peak_share"] = ((month - habits.peak) % 12 < 3).astype(np.float64)
        averages["peak_share"] = 0.25
    extra = {}
    for name, average in averages.items():
        counted = np.bincount(mine.set_user, weights=shares[name], minlength=len(at))
        extra[name] = (counted + PRIOR_ORDERS * average) / (orders + PRIOR_ORDERS)
    taste = _tastes(mine, habits)
    for i, name in enumerate(habits.groups if len(habits.groups) > 1 else ()):
        extra[TASTE + name] = taste[:, i]
    frame = table.with_columns(pl.Series(name, values, dtype=pl.Float64) for name, values in extra.items())
    return frame.with_columns(pl.col(pl.Float64).fill_nan(None))


def lines(past: Past, keys: Ints) -> sp.csr_matrix:
    """Count the purchase lines before `past.as_of` of each of the users `keys` (ascending) [B, I]."""
    mine = past.histories.of_kind(PURCHASE).take(np.searchsorted(past.histories.user_keys, keys))
    cells = (np.ones(len(mine.row_item)), (mine.set_user[mine.row_set], mine.row_item))
    return sp.csr_matrix(cells, shape=(len(keys), len(past.items)))


def measure(frame: Features, habits: Habits, *, taste_weight: float) -> Scale:
    """Fit the scale of every column on one moment, and the main directions of the scaled customers.

    Robust: median and quartiles; where half the customers are equal, the standard deviation. A column without any
    difference is left out and said. Every family of columns weighs 1, recency,
    frequency and money 2, all tastes together `taste_weight`. Raises
    ModelError when nothing differs at all.
    """
    names, left_out = [], list(habits.left_out)
    for name in _clustered(frame):
        values = _curved(frame, name)
        if np.nanmax(values, initial=-np.inf) - np.nanmin(values, initial=np.inf) > 1e-9:
            names.append(name)
        elif not name.startswith(TASTE):
            why = "nothing is known" if np.isnan(values).all() else "all customers have the same"
            left_out.append(f"Left out because {why}: {BY_NAME[name].about}.")
    if not names:
        raise ModelError(
            "apply.personas",
            found=f"all {frame.height:,} customers are equal in everything that is known of them",
            consequence="Any groups would be drawn by lot",
            remedy="Import what tells them apart: amounts, times, products",
        )
    values = np.stack([_curved(frame, name) for name in names], axis=1)
    low, middle, high = np.nanpercentile(values, [25, 50, 75], axis=0)
    spread = (high - low) / 1.349
    spread = np.where(spread > 1e-9, spread, np.nanstd(values, axis=0))
    weight = _weights(names, taste_weight)
    raw = Scale(tuple(names), tuple(_curve(n) for n in names), middle, spread, weight, np.eye(len(names)), ())
    scaled = points(raw, frame)
    _, sizes, directions = np.linalg.svd(scaled - scaled.mean(axis=0), full_matrices=False)
    part = np.cumsum(sizes**2) / max(float((sizes**2).sum()), 1e-12)
    kept = min(int(np.searchsorted(part, EXPLAINED)) + 1, DIRECTIONS, len(sizes))
    turned = directions[:kept].T * np.sign(directions[:kept].sum(axis=1) + 1e-12)  # a direction has no sign of its own
    return Scale(raw.names, raw.curves, middle, spread, weight, turned, tuple(left_out))


def points(scale: Scale, frame: Features) -> Floats:
    """Return the customers as points [B, D]; what is not known of a customer lies at the median."""
    values = np.stack(
        [_curved(frame, name) if name in frame.columns else np.full(frame.height, np.nan) for name in scale.names],
        axis=1,
    )
    scaled = np.clip((np.where(np.isnan(values), scale.middle, values) - scale.middle) / scale.spread, -SCALED, SCALED)
    return np.asarray((scaled * scale.weight) @ scale.directions)


def curved(frame: Features, name: str) -> Floats:
    """Return a column on the scale where differences count (logarithm, square root or as it is) [B]; null = NaN."""
    return _curved(frame, name)


def _curved(frame: Features, name: str) -> Floats:
    values = frame[name].cast(pl.Float64).to_numpy().astype(np.float64)
    match _curve(name):
        case "log":
            return np.asarray(np.log1p(np.maximum(values, 0)))
        case "share":
            return np.asarray(np.sqrt(np.maximum(values, 0)))
        case _:
            return values


def _curve(name: str) -> str:
    return BY_NAME[name].curve if name in BY_NAME else "share"


def _clustered(frame: Features) -> list[str]:
    """Return the columns of a profile that make the groups."""
    declared = [c.name for c in COLUMNS if c.family and c.name in frame.columns]
    return declared + [name for name in frame.columns if name.startswith(TASTE)]


def _weights(names: list[str], taste_weight: float) -> Floats:
    family = [BY_NAME[name].family if name in BY_NAME else TASTE for name in names]
    each = [taste_weight if of == TASTE else CORE_WEIGHT if of in CORE else 1.0 for of in family]
    return np.array([w / np.sqrt(family.count(of)) for w, of in zip(each, family, strict=True)])


def _of_known(past: Past) -> Histories:
    return past.histories.of_kind(PURCHASE).take(np.flatnonzero(past.known))


def _clock(days: npt.NDArray[np.float64], time_zone: str) -> tuple[Floats, Floats, Ints, int]:
    """Return of each moment whether it is at a weekend and in the evening, its month, and how many hours there are."""
    local = pl.Series((days * 86_400).round().astype(np.int64)).cast(pl.Int64)
    at = pl.from_epoch(local, time_unit="s").dt.replace_time_zone("UTC").dt.convert_time_zone(time_zone)
    hour = at.dt.hour().to_numpy()
    weekend = (at.dt.weekday() >= 6).to_numpy().astype(np.float64)
    return weekend, (hour >= EVENING).astype(np.float64), at.dt.month().to_numpy().astype(np.int64), len(set(hour))


def _tastes(mine: Histories, habits: Habits) -> Floats:
    """Return the share of each customer's purchase lines in each group of products, drawn to the average [B, G]."""
    groups = len(habits.average)
    cell = mine.set_user[mine.row_set] * groups + habits.group[mine.row_item]
    bought = np.bincount(cell, minlength=len(mine.user_keys) * groups).reshape(-1, groups)
    counts = bought + PRIOR_LINES * habits.average
    return np.asarray(counts / np.maximum(counts.sum(axis=1, keepdims=True), 1e-12))


def _groups(
    past: Past,
    bought: Histories,
    sums: Floats,
    titles: Mapping[str, str],
    categories: Mapping[str, str],
    groups: int,
    seed: int,
) -> tuple[Ints, list[str], list[str]]:
    """Put products into groups [I] and name them."""
    if len(past.items) < 2:
        none = ["What they buy is left out: the shop has fewer than two products."]
        return np.zeros(len(past.items), dtype=np.int64), [""], none
    named = [categories.get(item) for item in past.items]
    covered = sums[[name is not None for name in named]].sum() / max(sums.sum(), 1.0)
    if covered >= MANY and len(set(named) - {None}) > 1:
        return *_by_category(named, sums, groups), []
    what = past.words if past.words is not None and past.words.nnz else None
    if what is None:
        rows = (np.ones(len(bought.row_item)), (bought.row_item, bought.set_user[bought.row_set]))
        what = normalize(sp.csr_matrix(rows, shape=(len(past.items), len(bought.user_keys))))
    size = min(40, min(what.shape) - 1)
    with np.errstate(invalid="ignore"):  # products of equal words have no variance to explain; nobody asks for it
        vectors = what.toarray() if size < 1 else TruncatedSVD(size, random_state=seed).fit_transform(what)
    vectors = normalize(vectors)
    k = min(groups, len(np.unique(vectors.round(6), axis=0)))
    model = KMeans(k, n_init=4, random_state=seed).fit(vectors, sample_weight=sums + 1e-3)
    group = np.asarray(model.labels_, dtype=np.int64)
    return group, _group_names(past.items, titles, group, sums, k), []


def _by_category(named: list[str | None], sums: Floats, groups: int) -> tuple[Ints, list[str]]:
    """Keep the most bought categories; the rest and what has none is 'other'."""
    total: dict[str, float] = {}
    for name, n in zip(named, sums, strict=True):
        if name is not None:
            total[name] = total.get(name, 0.0) + float(n)
    kept = sorted(total, key=lambda name: (-total[name], name))[:groups]
    place = {name: i for i, name in enumerate(kept)}
    group = np.array([place.get(name or "", len(kept)) for name in named], dtype=np.int64)
    return group, [*kept, "other"]


def _group_names(items: tuple[str, ...], titles: Mapping[str, str], group: Ints, sums: Floats, k: int) -> list[str]:
    """Name each group by the word that its purchases have most beyond their share; no name twice."""
    words = [set(WORD.findall(titles.get(item, "").lower())) - LITTLE for item in items]
    every: dict[str, float] = {}
    mine: list[dict[str, float]] = [{} for _ in range(k)]
    for of, n, g in zip(words, sums, group, strict=True):
        for word in of:
            every[word] = every.get(word, 0.0) + n
            mine[g][word] = mine[g].get(word, 0.0) + n
    names: list[str] = []
    for g, counted in enumerate(mine):
        ranked = sorted(counted, key=lambda w: (-(counted[w] ** 2) / max(every[w], 1e-9), w))
        fresh = next((w for w in ranked if w not in names), None)
        names.append(fresh or f"group {g + 1}")
    return names
