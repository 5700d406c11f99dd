"""What is known of each shopper now: the lake as it lay at the last reading, and every event since.

    base     the lake's clean events in one file under state/, a line of JSON each, by person and time, mapped into
             memory: the system's page cache is its bound, and it is written again from the lake at every start
    fresh    events since then, as the receiver hands them over; let go when a later base holds them
    hot      the shoppers asked about lately, put together from both; the oldest go when there are too many

A shopper's sets are those of `prepare.timeline`, kept up to date event by event; declared features are those of
`prepare.replay`. An event that comes late is put where it belongs in time and what depends on it is made anew, so a day
replayed here agrees with the same day read from the lake (tests/serve/test_state.py). One thing waits for the next
base: an exact repeat, under another id, of an event that the base holds counts until then.
"""

from __future__ import annotations

import bisect
import datetime as dt
import json
import mmap
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from habitue.core.schemas import EVENTS, PURCHASE, REFUND
from habitue.model import live
from habitue.model.batches import Doubles
from habitue.model.past import Floats, Histories, Ints
from habitue.prepare import replay
from habitue.prepare.declared import LEDGER, Feature
from habitue.quality import Config as Clean
from habitue.quality.rows import NUMBERING
from habitue.serve.persons import Persons

FILE = "live.ndjson"
HOT = 4_000  # shoppers put together in memory; 126 KB each at 22 sets and width 64, so half a GB
Row = dict[str, Any]
Place = tuple[dt.datetime, str, int]  # an event's place in time: at, event_id, line

_OWN = ("at", "event_id", "line", "kind", "item_id", "quantity", "value")


def columns(declared: Sequence[Feature]) -> list[str]:
    """Return the columns of EVENTS that sets and declared features are made of."""
    named = {c for f in declared for c in (f.column, *f.per, *(w[0] for w in f.where)) if c and f.kind != "calendar"}
    return [*_OWN, *sorted(named - set(_OWN))]


@dataclass(frozen=True)
class Base:
    """Clean events of every person, mapped from a file; those of one person are its bytes start[i]:start[i + 1]."""

    mapped: mmap.mmap | bytes
    keys: Ints  # ascending
    start: Ints

    def of(self, key: int) -> list[Row]:
        """Return a person's rows in time."""
        i = int(np.searchsorted(self.keys, key))
        if i == len(self.keys) or self.keys[i] != key:
            return []
        rows = [json.loads(line) for line in self.mapped[self.start[i] : self.start[i + 1]].splitlines()]
        for row in rows:
            row["at"] = replay.EPOCH + dt.timedelta(microseconds=row["at"])
        return rows


def lay_out(events: pl.DataFrame, folder: Path, *, declared: Sequence[Feature] = LEDGER) -> Base:
    """Write clean EVENTS, joined people under one key, as the base, and map it. O(n log n)."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = events.sort("user_key", "at", "event_id", "line")
    keys, counts = np.unique(rows["user_key"].to_numpy(), return_counts=True)
    draft = folder / f".{FILE}.draft"
    rows.select(columns(declared)).with_columns(pl.col("at").dt.epoch("us")).write_ndjson(draft)
    draft.replace(folder / FILE)  # an older base that is still mapped keeps its bytes until it is let go
    with (folder / FILE).open("rb") as file:
        mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) if rows.height else b""
    ends = np.flatnonzero(np.frombuffer(mapped, dtype=np.uint8) == ord("\n")) + 1  # of lines; JSON escapes its own
    last = np.cumsum(counts) - 1
    return Base(mapped, keys.astype(np.int64), np.concatenate([[0], ends[last]]).astype(np.int64))


@dataclass(slots=True)
class Basket:
    """One set: the products that came with one moment and kind, each with its units and money."""

    at: dt.datetime
    kind: str
    items: dict[str, list[float]]

    @property
    def day(self) -> float:
        """Days since 1970-01-01 UTC."""
        return (self.at - replay.EPOCH) / dt.timedelta(days=1)


@dataclass(slots=True)
class _Laid:
    """Sets as arrays, in the order they were added; those of which the catalogue knows no product are left out."""

    index: Mapping[str, int]
    kinds: list[str] = field(default_factory=lambda: [PURCHASE, REFUND])  # grows as kinds are met
    sets: int = 0  # added so far
    at: Doubles = field(default_factory=lambda: np.zeros(0))
    kind: npt.NDArray[np.int8] = field(default_factory=lambda: np.zeros(0, dtype=np.int8))
    row_start: Ints = field(default_factory=lambda: np.zeros(1, dtype=np.int64))
    item: npt.NDArray[np.int32] = field(default_factory=lambda: np.zeros(0, dtype=np.int32))
    quantity: Floats = field(default_factory=lambda: np.zeros(0, dtype=np.float32))
    value: Floats = field(default_factory=lambda: np.zeros(0, dtype=np.float32))

    def add(self, baskets: Sequence[Basket]) -> None:
        """Add sets after those that are here."""
        self.sets += len(baskets)
        told = [one for one in (_told(basket, self.index) for basket in baskets) if one is not None]
        if not told:
            return
        self.kinds += [kind for kind in dict.fromkeys(one.kind for one in told) if kind not in self.kinds]
        ends = np.cumsum([len(one.items) for one in told]) + self.row_start[-1]
        self.at = np.concatenate([self.at, np.array([one.at for one in told])])
        self.kind = np.concatenate([self.kind, np.array([self.kinds.index(one.kind) for one in told], dtype=np.int8)])
        self.row_start = np.concatenate([self.row_start, ends])
        self.item = np.concatenate([self.item, np.concatenate([one.items for one in told]).astype(np.int32)])
        quantities = np.concatenate([one.quantities for one in told])
        self.quantity = np.concatenate([self.quantity, quantities.astype(np.float32)])
        self.value = np.concatenate([self.value, np.concatenate([one.values for one in told]).astype(np.float32)])


@dataclass(slots=True)
class Shopper:
    """One person: events in time, their sets, and what the flagship has made of them so far."""

    rows: list[Row] = field(default_factory=list)
    sets: list[Basket] = field(default_factory=list)
    declared: Sequence[Feature] = LEDGER
    features: dict[str, replay.State] | None = None  # made when first asked for
    reader: live.Reader | None = None  # whose memory this is
    memory: live.Memory | None = None  # of the first `taken` sets
    before: live.Memory | None = None  # of one set fewer: the newest set may still grow
    taken: int = 0
    laid: _Laid | None = None  # the sets but the newest, as arrays

    def add(self, row: Row) -> None:
        """Take one event; a late one goes to its place. Constant time for one that comes in order."""
        if self.rows and _place(row) < _place(self.rows[-1]):
            bisect.insort(self.rows, row, key=_place)
            self._anew()
            return
        self.rows.append(row)
        if self.features is not None:
            replay.update(self.declared, self.features, row)
        self._into_sets(row)

    def values(self, at: dt.datetime) -> dict[str, float | None]:
        """Return the declared features as of `at`; events at or after it do not count."""
        if self.features is not None and (not self.rows or self.rows[-1]["at"] < at):
            return replay.values(self.declared, self.features, at=at)
        states = replay.start(self.declared)
        for row in self.rows:
            if row["at"] < at:
                replay.update(self.declared, states, row)
        if not self.rows or self.rows[-1]["at"] < at:
            self.features = states
        return replay.values(self.declared, states, at=at)

    def history(self, index: Mapping[str, int]) -> Histories:
        """Return the sets as the models read them, of one user with key 0; `index`: product -> place.

        All sets but the newest, which may still grow, are laid out once: an answer costs no more after a long history.
        """
        laid = self.laid
        if laid is None or laid.index is not index:
            laid = self.laid = _Laid(index)
        laid.add(self.sets[laid.sets : -1])
        newest = _Laid(index, laid.kinds)
        newest.add(self.sets[-1:])
        rows = laid.row_start[-1]
        at, kind, item, quantity, value = (
            np.concatenate([getattr(laid, name), getattr(newest, name)])
            for name in ("at", "kind", "item", "quantity", "value")
        )
        return Histories(
            user_keys=np.zeros(1, dtype=np.int64),
            set_start=np.array([0, len(at)]),
            set_at=at,
            set_kind=kind,
            row_start=np.concatenate([laid.row_start, newest.row_start[1:] + rows]),
            row_item=item,
            row_quantity=quantity,
            row_value=value,
            kinds=tuple(laid.kinds),
        )

    def remembered(self, reader: live.Reader, index: Mapping[str, int]) -> live.Memory:
        """Return the flagship's memory of all sets, made anew only where it has to be."""
        if self.reader is not reader or self.memory is None or self.before is None:
            told = [one for one in (_told(basket, index) for basket in self.sets[:-1]) if one is not None]
            self.reader, self.before = reader, live.resume(reader, told)
            self.memory, self.taken = self.before, max(len(self.sets) - 1, 0)
        for basket in self.sets[self.taken :]:
            self.before = self.memory
            if (one := _told(basket, index)) is not None:
                self.memory = live.append(reader, self.memory, **vars(one))
            self.taken += 1
        return self.memory

    def _into_sets(self, row: Row) -> None:
        if row["item_id"] is None:
            return
        key, newest = (row["at"], row["kind"]), self.sets[-1] if self.sets else None
        if newest is not None and key < (newest.at, newest.kind):
            self._anew()
            return
        if newest is None or key != (newest.at, newest.kind):
            newest = Basket(*key, {})
            self.sets.append(newest)
        elif self.taken == len(self.sets):
            self.memory, self.taken = self.before, self.taken - 1
        told = newest.items.setdefault(row["item_id"], [0.0, 0.0])
        told[0] += row["quantity"] or 0.0
        told[1] += row["value"] or 0.0

    def _anew(self) -> None:
        """Make the sets again from the events, and forget what was made of them."""
        self.features = self.memory = self.before = self.laid = None
        met: dict[tuple[dt.datetime, str], dict[str, list[float]]] = {}
        for row in self.rows:
            if row["item_id"] is not None:
                told = met.setdefault((row["at"], row["kind"]), {}).setdefault(row["item_id"], [0.0, 0.0])
                told[0] += row["quantity"] or 0.0
                told[1] += row["value"] or 0.0
        self.sets, self.taken = [Basket(*key, met[key]) for key in sorted(met)], 0


class Shoppers:
    """Everybody, for one thread."""

    def __init__(
        self,
        base: Base,
        persons: Persons,
        *,
        clean: Clean | None = None,
        declared: Sequence[Feature] = LEDGER,
        hot: int = HOT,
    ) -> None:
        self.base, self.persons = base, persons
        self.fresh: dict[int, list[Row]] = {}  # by the event's own key
        self._clean, self._declared, self._most = clean or Clean(), declared, hot
        self._columns = columns(declared)
        self._hot: OrderedDict[int, Shopper] = OrderedDict()
        self._same: dict[int, set[int]] = {}  # hashes of fresh events, by key: an exact repeat is none

    def __len__(self) -> int:
        """Return how many shoppers are put together in memory."""
        return len(self._hot)

    def take(self, events: Iterable[Row]) -> list[Row]:
        """Take new events (rows of EVENTS under their own keys); returns those that may be believed."""
        self._follow()
        believed = [event for event in events if self._believable(event)]
        for event in believed:
            row = {name: event[name] for name in self._columns}
            self.fresh.setdefault(event["user_key"], []).append(row)
            if (shopper := self._hot.get(self.persons.person(event["user_key"]))) is not None:
                shopper.add(row)
        return believed

    def of(self, key: int) -> Shopper:
        """Return the shopper a key belongs to, put together where need be: O(events of the person)."""
        self._follow()
        person = self.persons.person(key)
        if (shopper := self._hot.get(person)) is not None:
            self._hot.move_to_end(person)
            return shopper
        rows: dict[Place, Row] = {}
        for member in self.persons.members(person):
            for row in (*self.base.of(member), *self.fresh.get(member, ())):
                rows.setdefault(_place(row), row)
        shopper = Shopper([rows[place] for place in sorted(rows)], declared=self._declared)
        shopper._anew()
        self._hot[person] = shopper
        if len(self._hot) > self._most:
            self._hot.popitem(last=False)
        return shopper

    def rebase(self, base: Base, stored: frozenset[str]) -> None:
        """Go on from a later base; fresh events that it holds (`stored`: their ids) are let go."""
        self.base = base
        kept = {key: [row for row in rows if row["event_id"] not in stored] for key, rows in self.fresh.items()}
        self.fresh = {key: rows for key, rows in kept.items() if rows}
        self._same = {key: self._same[key] for key in self.fresh}
        self._hot.clear()

    def waiting(self) -> int:
        """Return how many fresh events there are."""
        return sum(len(rows) for rows in self.fresh.values())

    def _follow(self) -> None:
        """Drop whoever has become somebody else, to be put together again."""
        for key in self.persons.look():
            self._hot.pop(key, None)

    def _believable(self, event: Row) -> bool:
        """Say of one event what `quality.clean` says of it."""
        if (paid := event["kind"] == PURCHASE) or event["kind"] == REFUND:
            quantity, price = event["quantity"], event["price"]
            if quantity is not None and (
                (paid and quantity < 0 and self._clean.negative_quantities)
                or (quantity == 0 and self._clean.zero_quantities)
            ):
                return False
            if price is not None and (
                (price < 0 and self._clean.negative_prices) or (price == 0 and self._clean.zero_prices)
            ):
                return False
        said = hash(tuple(event[c.name] for c in EVENTS.columns if c.name not in NUMBERING))
        met = self._same.setdefault(event["user_key"], set())
        repeated = said in met and self._clean.repeats
        met.add(said)
        return not repeated


def _place(row: Row) -> Place:
    return row["at"], row["event_id"], row["line"]


def _told(basket: Basket, index: Mapping[str, int]) -> live.Set | None:
    """Return a set as the flagship takes it, or None when the catalogue knows no product of it."""
    known = sorted((index[item], *told) for item, told in basket.items.items() if item in index)
    if not known:
        return None
    places, quantities, values = zip(*known, strict=True)
    return live.Set(basket.day, basket.kind, places, quantities, values)
