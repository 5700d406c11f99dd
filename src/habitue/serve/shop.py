"""The shop as one moment of it is served: a trained model, the catalogue it ranks, and what is looked up beside it.

    read      the lake and the promoted model, whole: seconds and much memory      `habitue.serving`, in the child
    write     everything an answer needs, into one folder of files that never change                   in the child
    opened    the folder mapped into memory, ready to answer: some ten milliseconds       in the answering process

A shop is exchanged whole between two requests: that is how a new model, a new product and a later reading of the lake
come in without a failed request. A folder holds

    products.arrow     item_id ascending, title, category, brand, price, in_stock, floor
    about.json         the moment, the model's version, its horizon
    facts.arrow        what was said first of each product, for those nobody bought yet (model/newcomers.py)
    terms.arrow        the vocabulary of the products' words, for searches
    products.ivf       of a large catalogue: what shortlists are made from (shortlist.py), retrieval.json beside it
    *.npy              words of the products, what is counted (counts.py), who may not be answered in person, what
                       is known of the people where the model reads that
    live.ndjson, ...   everybody's events (events.py)
"""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
import scipy.sparse as sp

from habitue.core import settings
from habitue.core.schemas import FEATURES, LABELS, TIMELINE
from habitue.encode import search, text
from habitue.encode.content import Content
from habitue.encode.traits import ADDED
from habitue.model import artifact, blend, live, newcomers, quick, rules
from habitue.model.past import Floats, Ints, Past, histories, placed_once
from habitue.model.quick import Told
from habitue.serve import counts, events, follows, registry, shortlist
from habitue.serve.counts import Counts
from habitue.serve.mapped import sparse, write_sparse
from habitue.serve.shortlist import Shortlist

IN_STOCK = ("in stock", "in_stock", "instock", "preorder", "backorder", "limitedavailability")
POPULAR_DAYS = 30
UNSURE = 10.0  # orders; LOG.md, "What a cart says"
FOLDER = "live."  # and a number; in the workspace's `state`, where an erasure removes it (protect.erase)
PRODUCTS, FACTS, TERMS, ABOUT = "products.arrow", "facts.arrow", "terms.arrow", "about.json"
LEAST = 20_000  # products of which the least alike is taken
MASKS = 64  # categories and brands kept; the oldest go

Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Traits:
    """What the shop says of its customers, as the numbers the model was trained with."""

    people: Ints  # ascending
    rows: Floats  # [P, U]

    def of(self, persons: Sequence[int]) -> Floats:
        """Return [n, U] of some persons in their order; zeros = nothing is known."""
        if not len(self.people):
            return np.zeros((len(persons), self.rows.shape[1]), dtype=np.float32)
        place = np.searchsorted(self.people, persons).clip(max=len(self.people) - 1)
        there = self.people[place] == np.asarray(persons)
        return np.where(there[:, None], self.rows[place], np.float32(0))


@dataclass(frozen=True)
class Reading:
    """What the workspace held at one moment; `habitue.serving` reads it."""

    at: dt.datetime
    version: str | None  # of the model; None = nothing was trained yet
    state: blend.State | None
    horizon_days: int
    catalogue: pl.DataFrame  # item_id ascending, title: the products that may be shown
    content: Content  # what is known of the products, in the order of `catalogue`
    details: pl.DataFrame  # item_id, category, brand, price, attributes: what is known last of each
    events: pl.DataFrame  # clean EVENTS of those who may be counted, joined people under one key
    withheld: frozenset[int]  # people who may not be answered in person
    traits: Traits | None = None  # of everybody who has some; None = the model reads none
    trained: dt.datetime | None = None  # as of when the model was
    window_days: float = POPULAR_DAYS  # in which what everyone buys is counted
    rules: rules.Config = field(default_factory=rules.Config)  # that its sequential rules are counted with
    exact_products: int = 200_000  # beyond so many a shortlist is scored (shortlist.py)
    facts: pl.DataFrame | None = None  # `prepare.facts`, in the order of `catalogue`; None = nobody reads them
    quality: tuple[tuple[str, str, float], ...] = ()  # table, dimension, score of the newest check
    train_s: float | None = None  # that the model's training took; None = nobody wrote it down


@dataclass(frozen=True)
class Snapshot:
    """The moment that is served."""

    at: dt.datetime
    version: str | None  # of the model; None = nothing was trained yet
    state: blend.State | None
    horizon_days: int
    withheld: frozenset[int]  # people who may not be answered in person
    newest: dt.datetime | None  # moment of the latest event of anybody
    quality: tuple[tuple[str, str, float], ...] = ()  # table, dimension, score of the newest check
    train_s: float | None = None  # that the model's training took; None = nobody wrote it down


@dataclass(frozen=True)
class Shop:
    """A reading made ready to answer; arrays are in the order of `items`."""

    snapshot: Snapshot
    past: Past  # nobody's history, every product
    index: dict[str, int]
    titles: tuple[str | None, ...]
    category: tuple[str | None, ...]
    brand: tuple[str | None, ...]
    price: npt.NDArray[np.float64]  # [I], NaN = unknown
    in_stock: npt.NDArray[np.bool_]  # [I]
    reader: live.Reader | None
    vectors: Floats | None  # [I, D] of length 1, what is alike
    views: Mapping[str, quick.View]  # the closed forms, by name
    counts: Counts  # what everyone buys now, and what stands in one order; moves with every event
    searches: search.Index
    shortlist: Shortlist | None = None  # of a catalogue too large to be scored whole
    masks: dict[tuple[str, str], Mask] = field(default_factory=dict)  # [I] of the categories and brands asked for
    traits: Traits | None = None  # None = the model reads none

    @property
    def items(self) -> tuple[str, ...]:
        """The products, ascending."""
        return self.past.items

    @property
    def model(self) -> str:
        """Name of what ranks."""
        return "popular" if self.snapshot.state is None else "blend"

    @property
    def trend(self) -> Floats:
        """What everyone buys now [I]; it moves in place."""
        return self.counts.trend

    @property
    def retrieval(self) -> dict[str, Any]:
        """How products are found: all of them are scored, or a shortlist is, and how good that is."""
        if self.shortlist is None:
            return {"products": len(self.items), "scored": "all"}
        told = self.shortlist.recall
        if told is None or not told.customers:
            return {"products": len(self.items), "scored": "shortlist"}
        recall = {"recall_at_10": told.at_10, "recall_at_100": told.at_100}
        beside = {"recall_at_100_cart": told.cart_at_100, "recall_at_100_session": told.session_at_100}
        recall |= {name: share for name, share in beside.items() if share is not None}
        return {"products": len(self.items), "scored": "shortlist", **recall}


def write(reading: Reading, folder: Path) -> None:
    """Write everything an answer needs into an empty folder. O(products + events log events)."""
    items = tuple(reading.catalogue["item_id"])
    details = reading.catalogue.select("item_id", "title").join(
        reading.details, on="item_id", how="left", maintain_order="left"
    )
    availability = [in_stock(text) for text in details["attributes"]]
    products = details.select(
        "item_id",
        "title",
        "category",
        "brand",
        pl.col("price").cast(pl.Float64),
        in_stock=pl.Series(availability, dtype=pl.Boolean),
        floor=pl.Series(_floor(reading, items), dtype=pl.Float32),
    )
    products.write_ipc(folder / PRODUCTS, compression="uncompressed")
    if reading.facts is not None:
        reading.facts.write_ipc(folder / FACTS, compression="uncompressed")
    longest = reading.rules.window_days
    counts.write(reading.events, items, folder, as_of=reading.trained, window=reading.window_days, longest=longest)
    told = None if reading.state is None or not reading.state.weights.get("rules") else reading.state.views["rules"]
    if told is not None and reading.trained is not None:
        follows.write(reading.events, items, folder, state=told, config=reading.rules, as_of=reading.trained)
    searches, words = search.index(reading.content.words), {}
    if reading.content.matrix is not None:
        write_sparse(folder / "words", reading.content.matrix)
    if (vocabulary := searches.vocabulary) is not None:
        write_sparse(folder / "searches", searches.words)
        text.table(vocabulary).write_ipc(folder / TERMS, compression="uncompressed")
        words = {"words": asdict(vocabulary.config), "chinese": vocabulary.chinese}
    np.save(folder / "withheld.npy", np.array(sorted(reading.withheld), dtype=np.int64))
    if reading.traits is not None:
        np.save(folder / "traits.npy", reading.traits.rows)
        np.save(folder / "traits-people.npy", reading.traits.people)
    events.lay_out(reading.events, folder, searches=searches)
    about: dict[str, Any] = {
        "at": reading.at.isoformat(),
        "version": reading.version,
        "horizon_days": reading.horizon_days,
    }
    about["parts"] = reading.content.parts
    newest = reading.events["at"].max()
    about["newest"] = newest.isoformat() if isinstance(newest, dt.datetime) else None
    about |= {"quality": reading.quality, "train_s": reading.train_s}
    (folder / ABOUT).write_text(json.dumps(about | words), encoding="utf-8")
    known = reading.state is not None and "behaviour" in reading.state.views
    if known and len(items) > reading.exact_products and shortlist.possible(len(items)):
        made = opened(folder, models=folder, model=reading.state)
        assert made.reader is not None
        shortlist.write(made.reader.products, folder, before=_earlier(folder, reading.version))


def _earlier(folder: Path, version: str | None) -> Path | None:
    """Return the inverted file of the newest reading of the same model, None where there is none."""
    for older in sorted(folder.parent.glob(f"{FOLDER}*"), reverse=True):
        about, file = older / ABOUT, older / shortlist.FILE
        if file.exists() and json.loads(about.read_text(encoding="utf-8"))["version"] == version:
            return file
    return None


def opened(
    folder: Path,
    *,
    models: Path,
    before: Shop | None = None,
    version: str | None = None,
    model: blend.State | None = None,
) -> Shop:
    """Map a written folder; `models`: the workspace's folder of that name, `before`: the shop that is served now.

    `version`: a model to answer with in the place of the one that was promoted, as one that is tried out; it scores
    every product. `model`: the one that was promoted, where it is in memory already.
    What has not changed since `before` is taken from it: the model, and the products, so that what was found of them
    by identity (`model.past.places`) stays found. Raises ModelError for a model that cannot be read.
    """
    about = json.loads((folder / ABOUT).read_text(encoding="utf-8"))
    read_for, about["version"] = about["version"], version or about["version"]
    short = folder if about["version"] == read_for else None
    products = pl.read_ipc(folder / PRODUCTS)
    items = tuple(products["item_id"].to_list())
    same = before is not None and before.items == items
    if before is not None and same:
        items = before.items
    snapshot = Snapshot(
        at=settings.moment(about["at"]),
        version=about["version"],
        state=model or _state(models, about["version"], before),
        horizon_days=about["horizon_days"],
        withheld=frozenset(np.load(folder / "withheld.npy").tolist()),
        newest=None if about["newest"] is None else settings.moment(about["newest"]),
        quality=tuple((table, dimension, score) for table, dimension, score in about["quality"]),
        train_s=about["train_s"] if about["version"] == read_for else None,
    )
    past = Past(
        as_of=snapshot.at,
        horizon_days=snapshot.horizon_days,
        items=items,
        histories=histories(TIMELINE.empty(), items),
        known=np.zeros(0, dtype=bool),
        words=sparse(folder / "words", sp.csr_matrix) if (folder / "words-data.npy").exists() else None,
        features=FEATURES.empty(),
        train_features=FEATURES.empty(),
        train_labels=LABELS.empty(),
        parts=tuple((name, columns) for name, columns in about["parts"]),
        facts=_facts(folder, before if same else None),
    )
    if snapshot.state is not None and snapshot.state.newcomers is not None:
        newcomers.ready(snapshot.state.newcomers, past)
    index = before.index if before is not None and same else {item: place for place, item in enumerate(items)}
    counted = Counts(folder, index, products["floor"].to_numpy())
    shortened = None if short is None else shortlist.opened(short, counted.trend)
    behaviour = snapshot.state.views.get("behaviour") if snapshot.state else None
    titles = tuple(products["title"].to_list())
    unchanged = before is not None and same and before.titles == titles and before.snapshot.state is snapshot.state
    if before is not None and unchanged:
        reader, vectors, views = before.reader, before.vectors, before.views
    else:
        reader = live.reader(behaviour, past, some=shortened is not None) if behaviour is not None and items else None
        vectors = _vectors(reader)
        fitted = snapshot.state.views if snapshot.state else {}
        made = {name: quick.ready(name, view, items) for name, view in fitted.items()}
        views = {name: view for name, view in made.items() if view is not None}
    if "popular" in views and snapshot.state is not None:
        views = {**views, "popular": quick.popularity(snapshot.state.views["popular"], counted)}
    if "rules" in views and snapshot.state is not None:
        views = {
            **views,
            "rules": _following(folder, snapshot.state.views["rules"], counted, items, moving=bool(short)),
        }
    return Shop(
        snapshot=snapshot,
        past=past,
        index=index,
        titles=titles,
        category=tuple(products["category"].to_list()),
        brand=tuple(products["brand"].to_list()),
        price=products["price"].fill_null(np.nan).to_numpy(),
        in_stock=products["in_stock"].to_numpy(),
        reader=reader,
        vectors=vectors,
        views=views,
        counts=counted,
        searches=before.searches if before is not None and unchanged else _searches(folder, about, items),
        traits=_traits(folder, models, read_for, about["version"]),
        shortlist=shortened,
    )


def _facts(folder: Path, before: Shop | None) -> pl.DataFrame | None:
    """Map the facts; the very ones of `before` where nothing changed, so that what was foretold by them stays."""
    if not (folder / FACTS).exists():
        return None
    facts, old = pl.read_ipc(folder / FACTS), None if before is None else before.past.facts
    return old if old is not None and old.equals(facts) else facts


def _searches(folder: Path, about: dict[str, Any], items: tuple[str, ...]) -> search.Index:
    if "words" not in about:
        return search.Index(items, sp.csr_matrix((0, len(items)), dtype=np.float32), None)
    config = settings.fill(text.Config, about["words"], where=ABOUT)
    vocabulary = text.vocabulary(pl.read_ipc(folder / TERMS), config, about["chinese"])
    return search.Index(items, sparse(folder / "searches", sp.csr_matrix), vocabulary)


def _following(
    folder: Path, state: rules.State, counted: Counts, items: tuple[str, ...], *, moving: bool
) -> quick.View:
    """Return the view `rules`; one that moves with the counts where the reading counted for its model."""
    if moving and (folder / follows.FILE).exists():
        counted.follows = follows.Follows(folder, state, items, counted.window)
        return counted.follows.view()
    view = quick.ready("rules", state, items)
    assert view is not None
    return view


def _traits(folder: Path, models: Path, read_for: str, version: str) -> Traits | None:
    """Map what is known of the people; None where the model that answers reads nothing of it, or other columns."""
    if not (folder / "traits.npy").exists():
        return None
    if version != read_for:
        read = [artifact.inspect(models / registry.MODEL / one)["added"].get(ADDED) for one in (read_for, version)]
        if read[0] != read[1]:
            return None
    return Traits(*(np.load(folder / f"traits{name}.npy", mmap_mode="r") for name in ("-people", "")))


def _state(models: Path, version: str | None, before: Shop | None) -> blend.State | None:
    if version is None:
        return None
    if before is not None and before.snapshot.version == version:
        return before.snapshot.state
    found: blend.State = artifact.load(models / registry.MODEL / version).state
    return found


def together(shop: Shop, item: int) -> Told:
    """Return how often each product is in one order with `item` (0 to 1).

    The cosine of the two sets of orders, as if each product had stood in UNSURE more orders alone: two products that
    were sold once, and together, are no pair yet. O(lines of the orders with the product).
    """
    places, both = shop.counts.together(item)
    places, both = places[places != item], both[places != item]
    count = shop.counts.orders
    return Told(len(shop.items), places, both / np.sqrt((count[places] + UNSURE) * (float(count[item]) + UNSURE)))


def alike(shop: Shop, item: int) -> Floats:
    """Return [I] how alike each product is to `item`: cosine of what the model learnt, or of the words without one."""
    if shop.vectors is not None:
        found: Floats = shop.vectors @ shop.vectors[item]
    elif shop.past.words is not None:
        found = (shop.past.words @ shop.past.words[item].T).toarray().ravel().astype(np.float32)
    else:
        found = together(shop, item).scores()
    found[item] = found.min(initial=0)
    return found


def around(shop: Shop, seen: Sequence[int]) -> Floats:
    """Return [I] how alike each product is to those of a visit, newest first: 1/1, 1/2, 1/3, ... of `alike` each.

    One pass over the vectors however many were seen; what the least alike is to each, as which it counts to itself, is
    looked for among LEAST products spread over the catalogue. O(I D).
    """
    share: Floats = (1 / np.arange(1, len(seen) + 1)).astype(np.float32)
    found: Floats = np.zeros(len(shop.items), dtype=np.float32)
    if shop.vectors is None:
        for part, item in zip(share, seen, strict=True):
            found += part * alike(shop, item)
        return found
    mine = shop.vectors[list(seen)]
    found = shop.vectors @ (share @ mine)
    least = (shop.vectors[:: len(shop.items) // LEAST + 1] @ mine.T).min(axis=0)
    found[list(seen)] += share * (np.minimum(least, 0) - np.einsum("nd,nd->n", mine, mine))
    return found


def in_category(shop: Shop, category: str) -> Mask:
    """Return [I] what is in a category or below it ("Home" has "Home > Kitchen"); read only. O(I) the first time."""
    below = category + " > "
    return _kept(
        shop, "category", category, lambda: [c is not None and f"{c} > ".startswith(below) for c in shop.category]
    )


def of_brand(shop: Shop, brand: str) -> Mask:
    """Return [I] what is of a brand; read only. O(I) the first time."""
    return _kept(shop, "brand", brand, lambda: [one == brand for one in shop.brand])


def _kept(shop: Shop, what: str, name: str, told: Callable[[], list[bool]]) -> Mask:
    if (found := shop.masks.get((what, name))) is None:
        found = shop.masks[what, name] = np.array(told(), dtype=bool)
        found.flags.writeable = False
        while len(shop.masks) > MASKS:
            shop.masks.pop(next(iter(shop.masks)), None)
    return found


def _floor(reading: Reading, items: tuple[str, ...]) -> Floats:
    """Return [I] what a product is worth that was not bought lately: an order, as `model.popular` counts.

    Without such a model a thousandth of how often it was met: where nothing was sold that says a little.
    """
    newest = reading.events["at"].max()
    counted = reading.state is not None and "popular" in reading.state.views
    if counted or not isinstance(newest, dt.datetime):
        return np.full(len(items), counted, dtype=np.float32)
    recent = reading.events.filter(
        pl.col("at") >= newest - dt.timedelta(days=POPULAR_DAYS), pl.col("item_id").is_not_null()
    )
    met = recent.group_by("item_id").len()
    place = placed_once(items, met["item_id"].to_list())
    found = np.zeros(len(items), dtype=np.float32)
    found[place[place >= 0]] = 1e-3 * met["len"].to_numpy()[place >= 0]
    return found


def _vectors(reader: live.Reader | None) -> Floats | None:
    """Return what the flagship knows of each product, of length 1; without it the words do."""

    if reader is None:
        return None
    table = reader.products[:, : reader.state.config.width]
    length = np.linalg.norm(table, axis=1, keepdims=True)
    found: Floats = np.ascontiguousarray(table / np.maximum(length, 1e-9), dtype=np.float32)
    return found


def in_stock(attributes: str | None) -> bool:
    """What the feed said last; a product of which nothing is said is in stock."""
    try:
        said: Any = json.loads(attributes or "{}").get("availability")
    except (ValueError, AttributeError):
        return True
    return said is None or str(said).rsplit("/", 1)[-1].lower() in IN_STOCK
