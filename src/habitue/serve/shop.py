"""The shop as one moment of it is served: a trained model, the catalogue it ranks, and what is looked up beside it.

Made from a `Snapshot` in the background, never changed, and exchanged whole between two requests: that is how a new
model, a new product and a later reading of the lake come in without a failed request.
"""

from __future__ import annotations

import datetime as dt
import json
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
import scipy.sparse as sp

from habitue.core.schemas import FEATURES, LABELS, PURCHASE
from habitue.model import blend, live, popular
from habitue.model.past import Floats, Ints, Past, histories, places
from habitue.prepare.timeline import timeline

IN_STOCK = ("in stock", "in_stock", "instock", "preorder", "backorder", "limitedavailability")
POPULAR_DAYS = 30


@dataclass(frozen=True)
class Snapshot:
    """What the workspace held at one moment; `habitue.serving` reads it."""

    at: dt.datetime
    version: str | None  # of the model; None = nothing was trained yet
    state: blend.State | None
    horizon_days: int
    catalogue: pl.DataFrame  # item_id ascending, title: the products that may be shown
    words: sp.csr_matrix | None  # [I, V]
    details: pl.DataFrame  # item_id, category, brand, price, attributes: what is known last of each
    events: pl.DataFrame  # clean EVENTS of those who may be counted, joined people under one key
    withheld: frozenset[int]  # people who may not be answered in person
    stored: frozenset[str]  # event ids received since the server started that the lake holds


@dataclass(frozen=True)
class Shop:
    """A snapshot made ready to answer; arrays are in the order of `items`."""

    snapshot: Snapshot
    past: Past  # nobody's history, every product
    index: dict[str, int]
    titles: tuple[str | None, ...]
    category: tuple[str | None, ...]
    brand: tuple[str | None, ...]
    price: npt.NDArray[np.float64]  # [I], NaN = unknown
    in_stock: npt.NDArray[np.bool_]  # [I]
    trend: Floats  # [I] what everyone buys now
    reader: live.Reader | None
    vectors: Floats | None  # [I, D] of length 1, what is alike
    baskets: sp.csr_matrix  # [orders, I] 0/1
    orders_of: sp.csc_matrix  # the same by product

    @property
    def items(self) -> tuple[str, ...]:
        """The products, ascending."""
        return self.past.items

    @property
    def model(self) -> str:
        """Name of what ranks."""
        return "popular" if self.snapshot.state is None else "blend"


def make(snapshot: Snapshot) -> Shop:
    """Make a snapshot ready: seconds for 50,000 products."""
    items = tuple(snapshot.catalogue["item_id"])
    past = Past(
        as_of=snapshot.at,
        horizon_days=snapshot.horizon_days,
        items=items,
        histories=histories(timeline(snapshot.events.clear()), items),
        known=np.zeros(0, dtype=bool),
        words=snapshot.words,
        features=FEATURES.empty(),
        train_features=FEATURES.empty(),
        train_labels=LABELS.empty(),
    )
    details = {row["item_id"]: row for row in snapshot.details.iter_rows(named=True)}
    known = [details.get(item, {}) for item in items]
    behaviour = snapshot.state.views.get("behaviour") if snapshot.state else None
    reader = live.reader(behaviour, past) if behaviour is not None and items else None
    baskets = _baskets(snapshot.events, items)
    price = [row.get("price") for row in known]
    return Shop(
        snapshot=snapshot,
        past=past,
        index={item: place for place, item in enumerate(items)},
        titles=tuple(snapshot.catalogue["title"]),
        category=tuple(row.get("category") for row in known),
        brand=tuple(row.get("brand") for row in known),
        price=np.array([np.nan if p is None else p for p in price], dtype=np.float64),
        in_stock=np.array([_in_stock(row.get("attributes")) for row in known], dtype=bool),
        trend=_trend(snapshot, past),
        reader=reader,
        vectors=_vectors(reader),
        baskets=baskets,
        orders_of=baskets.tocsc(),
    )


def together(shop: Shop, item: int) -> Floats:
    """Return [I] how often each product is in one order with `item`: cosine of the two sets of orders (0 to 1)."""
    with_it = shop.orders_of.indices[shop.orders_of.indptr[item] : shop.orders_of.indptr[item + 1]]
    both = np.asarray(shop.baskets[with_it].sum(axis=0), dtype=np.float32).ravel()
    count = np.diff(shop.orders_of.indptr).astype(np.float32)
    found: Floats = both / np.sqrt(np.maximum(count, 1) * max(float(count[item]), 1.0))
    found[item] = 0
    return found


def alike(shop: Shop, item: int) -> Floats:
    """Return [I] how alike each product is to `item`: cosine of what the model learnt, or of the words without one."""
    if shop.vectors is not None:
        found: Floats = shop.vectors @ shop.vectors[item]
    elif shop.past.words is not None:
        found = (shop.past.words @ shop.past.words[item].T).toarray().ravel().astype(np.float32)
    else:
        found = together(shop, item)
    found[item] = found.min(initial=0)
    return found


def _trend(snapshot: Snapshot, past: Past) -> Floats:
    """What everyone buys now: as the model counted it, or, before one was trained, orders of the last month."""
    if snapshot.state is not None and "popular" in snapshot.state.views:
        state: popular.State = snapshot.state.views["popular"]
        place = places(state.items, past.items)
        trend = np.where(place >= 0, state.trend[np.maximum(place, 0)], state.trend.min(initial=1.0))
        return trend.astype(np.float32)
    events = snapshot.events
    newest = events["at"].max()
    if not isinstance(newest, dt.datetime):
        return np.zeros(len(past.items), dtype=np.float32)
    recent = events.filter(pl.col("at") >= newest - dt.timedelta(days=POPULAR_DAYS), pl.col("item_id").is_not_null())
    sold = recent.filter(pl.col("kind") == PURCHASE).group_by("item_id").len()
    met = recent.group_by("item_id").len()  # where nothing was sold yet, what is looked at says a little
    found = np.zeros(len(past.items), dtype=np.float32)
    for counted, worth in ((sold, 1.0), (met, 1e-3)):
        place = places(past.items, tuple(counted["item_id"]))
        known = place >= 0
        found[place[known]] += worth * counted["len"].to_numpy()[known]
    return found / max(float(found.max(initial=0)), 1.0)


def _vectors(reader: live.Reader | None) -> Floats | None:
    """Return what the flagship knows of each product, of length 1; without it the words do."""

    if reader is None:
        return None
    table = reader.products[:, : reader.state.config.width]
    length = np.linalg.norm(table, axis=1, keepdims=True)
    found: Floats = np.ascontiguousarray(table / np.maximum(length, 1e-9), dtype=np.float32)
    return found


def _baskets(events: pl.DataFrame, items: tuple[str, ...]) -> sp.csr_matrix:
    """Return which products stood in one order, [orders, I]."""
    lines = events.filter(pl.col("kind") == PURCHASE, pl.col("item_id").is_not_null())
    lines = lines.select(order=pl.coalesce("order_id", "event_id"), item="item_id").unique(maintain_order=True)
    order = lines["order"].cast(pl.Categorical).to_physical().to_numpy().astype(np.int64)
    place: Ints = places(items, tuple(lines["item"]))
    known = place >= 0
    _, order = np.unique(order[known], return_inverse=True)
    ones = np.ones(len(order), dtype=np.float32)
    return sp.csr_matrix((ones, (order, place[known])), shape=(int(order.max(initial=-1)) + 1, len(items)))


def _in_stock(attributes: str | None) -> bool:
    """What the feed said last; a product of which nothing is said is in stock."""
    try:
        said: Any = json.loads(attributes or "{}").get("availability")
    except (ValueError, AttributeError):
        return True
    return said is None or str(said).rsplit("/", 1)[-1].lower() in IN_STOCK
