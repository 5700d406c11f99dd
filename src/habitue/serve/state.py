"""What is known of each shopper now: the lake as it lay at the last reading, and every event since.

    base     the lake's clean events, mapped from a file that every reading writes again (events.py)
    fresh    events since then, as the receiver hands them over, let go when a later base holds them (events.py)
    hot      the shoppers asked about lately: their sets as arrays and what the flagship made of them, no events; the
             ones asked about longest ago go when there are too many, and are put together again from base and fresh

A shopper's sets are those of `prepare.timeline`, kept up to date event by event; declared features are those of
`prepare.replay`. An event that comes late is put where it belongs in time and what depends on it is made anew, so a day
replayed here agrees with the same day read from the lake (tests/serve/test_state.py). Two things wait for the next
base: an exact repeat, under another id, of an event that the base holds counts until then; and a search means what its
words named among the products of its day.

Memory has a bound, whoever sends what. FRESH events are kept between two readings: those beyond are on the disk like
all others, count from the next reading on, and `behind` says that it is wanted. The hot ones are at most HOT people and
HOT_MB of their arrays, and of a person the base holds so many events.

Who is hot stays so over a later base when it holds what they are made of, which the marks of the events tell.
"""

from __future__ import annotations

import datetime as dt
import itertools
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from operator import itemgetter

import numpy as np
import numpy.typing as npt

from habitue.core.schemas import EVENTS, PURCHASE, REFUND
from habitue.encode import search
from habitue.model import live
from habitue.model.batches import Doubles
from habitue.model.past import Floats, Histories, Ints
from habitue.prepare import replay
from habitue.prepare.declared import LEDGER, Feature
from habitue.quality import Config as Clean
from habitue.quality.rows import NUMBERING
from habitue.serve.events import WORD, Base, Fresh, Row, columns, mark
from habitue.serve.persons import Persons

HOT = 4_000  # shoppers put together in memory; docs/serve.md says what one takes
HOT_MB = 512  # of all of them together
FRESH = 300_000  # events kept since the last reading, some 300 bytes each
_ROW_BYTES, _MET_BYTES = 600, 150  # of an event as just read; of one thing met that a declared feature remembers
Place = tuple[dt.datetime, str, int]  # an event's place in time: at, event_id, line

_SAID = itemgetter(*(column.name for column in EVENTS.columns if column.name not in NUMBERING))


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
    at: Doubles = field(default_factory=lambda: np.zeros(0))
    kind: npt.NDArray[np.int8] = field(default_factory=lambda: np.zeros(0, dtype=np.int8))
    row_start: Ints = field(default_factory=lambda: np.zeros(1, dtype=np.int64))
    item: npt.NDArray[np.int32] = field(default_factory=lambda: np.zeros(0, dtype=np.int32))
    quantity: Floats = field(default_factory=lambda: np.zeros(0, dtype=np.float32))
    value: Floats = field(default_factory=lambda: np.zeros(0, dtype=np.float32))
    paid: tuple[int, Ints, Doubles] | None = None  # how many sets there were then, their purchases

    def add(self, baskets: Sequence[Basket]) -> None:
        """Add sets after those that are here."""
        told = [one for one in (_told(basket, self.index) for basket in baskets) if one is not None]
        if not told:
            return
        self.kinds += [kind for kind in dict.fromkeys(one.kind for one in told) if kind not in self.kinds]
        ends = itertools.accumulate([len(one.items) for one in told], initial=int(self.row_start[-1]))
        more = {
            "at": [one.at for one in told],
            "kind": [self.kinds.index(one.kind) for one in told],
            "row_start": list(ends)[1:],
            "item": [item for one in told for item in one.items],
            "quantity": [quantity for one in told for quantity in one.quantities],
            "value": [value for one in told for value in one.values],
        }
        for name, values in more.items():
            before = getattr(self, name)
            setattr(self, name, np.concatenate([before, np.array(values, dtype=before.dtype)]))
        if self.paid is not None and all(one.kind != PURCHASE for one in told):
            self.paid = len(self.at), *self.paid[1:]

    def purchases(self) -> tuple[Ints, Doubles]:
        """Return product and moment of every purchase, found once for these sets."""
        if self.paid is None or self.paid[0] != len(self.at):
            size, kept = np.diff(self.row_start), self.kind == self.kinds.index(PURCHASE)
            items = self.item[np.repeat(kept, size)].astype(np.int64)
            self.paid = len(self.at), items, np.repeat(self.at[kept], size[kept])
        return self.paid[1:]

    def history(self) -> Histories:
        """Return them as models read them, of one user with key 0."""
        return Histories(
            user_keys=np.zeros(1, dtype=np.int64),
            set_start=np.array([0, len(self.at)]),
            set_at=self.at,
            set_kind=self.kind,
            row_start=self.row_start,
            row_item=self.item,
            row_quantity=self.quantity,
            row_value=self.value,
            kinds=tuple(self.kinds),
        )

    @property
    def nbytes(self) -> int:
        """Bytes of all arrays."""
        return sum(getattr(self, name).nbytes for name in ("at", "kind", "row_start", "item", "quantity", "value"))


@dataclass(slots=True)
class Shopper:
    """One person: their sets as arrays, what the flagship has made of them so far, and where their events are.

    `baskets` are the newest sets, which nobody asked about yet, and the newest of all, which may still grow.
    """

    person: int = -1  # the key; -1 = nobody's
    read: Callable[[], list[Row]] | None = None  # all events in time, where somebody else keeps them
    kept: list[Row] = field(default_factory=list)  # all events in time, where nobody else does
    declared: Sequence[Feature] = LEDGER
    last: Place | None = None  # of the newest event
    mark: int = 0  # of all events
    turn: int = 0  # of the base that was found to hold them
    laid: _Laid | None = None  # None = to be made from the events, baskets too
    baskets: list[Basket] = field(default_factory=list)
    first: list[Row] | None = None  # every event as just read, until it is laid out or another comes
    features: dict[str, replay.State] | None = None  # made when first asked for
    reader: live.Reader | None = None  # whose memory this is
    memory: live.Memory | None = None  # of the laid sets and the first `taken` baskets
    taken: int = 0

    @property
    def rows(self) -> list[Row]:
        """Every event in time; read again where they are kept."""
        if self.first is not None:
            return self.first
        return self.kept if self.read is None else self.read()

    @property
    def sets(self) -> list[Basket]:
        """Every set in time, made from the events."""
        return _sets(self.rows)

    @property
    def nbytes(self) -> int:
        """Bytes of what is kept of the sets, and about as many as events and features take."""
        states = self.features or {}
        met = sum(len(state.get("met") or state.get("recent") or ()) for state in states.values())
        read = _ROW_BYTES * len(self.first or ()) + _MET_BYTES * met
        return read + sum(0 if part is None else part.nbytes for part in (self.laid, self.memory))

    def add(self, row: Row) -> None:
        """Take one event; a late one goes to its place. Constant time for one that comes in order."""
        place, late = _place(row), self.last is not None and _place(row) < self.last
        self.mark = (self.mark + mark(row)) & WORD
        self.first = None
        if self.read is None:
            self.kept.append(row)
            if late:
                self.kept.sort(key=_place)
        if late:
            self.laid = self.features = self.memory = None
            return
        self.last = place
        if self.features is not None:
            replay.update(self.declared, self.features, row)
        if self.laid is not None and _named(row):
            self._into_sets(row)

    def values(self, at: dt.datetime) -> dict[str, float | None]:
        """Return the declared features as of `at`; events at or after it do not count."""
        newest = self.last is None or self.last[0] < at
        if self.features is not None and newest:
            return replay.values(self.declared, self.features, at=at)
        states = replay.start(self.declared)
        for row in self.rows:
            if row["at"] < at:
                replay.update(self.declared, states, row)
        if newest:
            self.features = states
        return replay.values(self.declared, states, at=at)

    def history(self, index: Mapping[str, int]) -> Histories:
        """Return the sets as the models read them, of one user with key 0; `index`: product -> place.

        All sets but the newest, which may still grow, are laid out once: an answer costs no more after a long history.
        """
        laid = self._laid_out(index)
        newest = _Laid(index, laid.kinds)
        newest.add(self.baskets)
        at, kind, item, quantity, value = (
            np.concatenate([getattr(laid, name), getattr(newest, name)])
            for name in ("at", "kind", "item", "quantity", "value")
        )
        row_start = np.concatenate([laid.row_start, newest.row_start[1:] + laid.row_start[-1]])
        return _Laid(index, laid.kinds, at, kind, row_start, item, quantity, value).history()

    def purchases(self, index: Mapping[str, int]) -> tuple[Ints, Doubles]:
        """Return product and moment (days since 1970) of every purchase, a product as often as it was bought."""
        item, at = self._laid_out(index).purchases()
        if self.baskets and self.baskets[-1].kind == PURCHASE:
            newest = _Laid(index)
            newest.add(self.baskets)
            more, when = newest.purchases()
            return np.concatenate([item, more]), np.concatenate([at, when])
        return item, at

    def orders(self, index: Mapping[str, int]) -> list[tuple[float, Ints]]:
        """Return the purchases in time, each with its day and its products."""
        bought = self.history(index).of_kind(PURCHASE)
        rows = np.split(bought.row_item.astype(np.int64), bought.row_start[1:-1])
        return list(zip(bought.set_at.tolist(), rows, strict=False))

    def known(self, index: Mapping[str, int]) -> bool:
        """Whether a set of theirs has a product of the catalogue."""
        return bool(len(self._laid_out(index).item)) or any(item in index for one in self.baskets for item in one.items)

    def remembered(self, reader: live.Reader, index: Mapping[str, int]) -> live.Memory:
        """Return the flagship's memory of all sets, made anew only where it has to be."""
        laid = self._laid_out(index)
        if self.reader is not reader or self.memory is None:
            self.reader, self.taken = reader, 0
            self.memory = live.recall(reader, laid.history())
        self._take_in()
        return self.memory

    def _laid_out(self, index: Mapping[str, int]) -> _Laid:
        """Lay out every set but the newest."""
        if self.laid is None or self.laid.index is not index:
            self.laid, self.baskets, self.memory, self.taken = _Laid(index), self.sets, None, 0
            self.first = None
        if len(self.baskets) > 1:
            self._take_in()
            self.laid.add(self.baskets[:-1])
            self.baskets, self.taken = self.baskets[-1:], self.taken - len(self.baskets) + 1
        return self.laid

    def _take_in(self) -> None:
        """Let the memory, where there is one, meet the baskets it has not met."""
        for basket in self.baskets[self.taken :]:
            if self.memory is not None and self.reader is not None and self.laid is not None:
                one = _told(basket, self.laid.index)
                self.memory = self.memory if one is None else live.append(self.reader, self.memory, **vars(one))
            self.taken += 1

    def _into_sets(self, row: Row) -> None:
        key, newest = (row["at"], row["kind"]), self.baskets[-1] if self.baskets else None
        if newest is not None and key < (newest.at, newest.kind):
            self.laid = self.memory = None  # of one moment, but by kind the earlier set
            return
        if newest is None or key != (newest.at, newest.kind):
            newest = Basket(*key, {})
            self.baskets.append(newest)
        elif self.taken == len(self.baskets):
            self.memory = None  # it has met the basket that grows now
        _put(newest, row)


def _sets(rows: Iterable[Row]) -> list[Basket]:
    met: dict[tuple[dt.datetime, str], Basket] = {}
    for row in rows:
        if _named(row):
            key = row["at"], row["kind"]
            _put(met.setdefault(key, Basket(*key, {})), row)
    return [met[key] for key in sorted(met)]


def _named(row: Row) -> Sequence[str]:
    """Return the products an event is about: its own, or those that a search means."""
    return row.get("meant") or () if row["item_id"] is None else (row["item_id"],)


def _put(basket: Basket, row: Row) -> None:
    for item in _named(row):
        told = basket.items.setdefault(item, [0.0, 0.0])
        told[0] += row["quantity"] or 0.0
        told[1] += row["value"] or 0.0


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
        hot_mb: int = HOT_MB,
        fresh: int = FRESH,
        searches: search.Index | None = None,
    ) -> None:
        self.base, self.persons = base, persons
        self.searches = searches  # to look new searches up in; None = they mean nothing
        self.taken = 0  # events ever, believed or not
        self._turn = 0  # bases so far
        self.left = -1  # number of the newest event that was not kept
        self._from = 0  # number of the first event that the base does not hold
        self._clean, self._declared, self._columns = clean or Clean(), declared, columns(declared)
        self.fresh = Fresh([*self._columns, "meant"])
        self._most, self._most_bytes, self._most_fresh = hot, hot_mb * 2**20, fresh
        self._hot: OrderedDict[int, Shopper] = OrderedDict()
        self._weight: dict[int, int] = {}  # bytes of each of them, and of all
        self._bytes = 0
        self._latest = -1  # whom was asked about last; what was made of them meanwhile is weighed next time

    def __len__(self) -> int:
        """Return how many shoppers are put together in memory."""
        return len(self._hot)

    def take(self, events: Sequence[Row]) -> list[Row]:
        """Take new events (rows of EVENTS under their own keys); returns those that may be believed and were kept."""
        self._follow()
        believed = []
        for number, event in enumerate(events, self.taken):
            if len(self.fresh) >= self._most_fresh:
                self.left = number
                continue
            key, said = event["user_key"], hash(_SAID(event))
            if not self._believable(event, said):
                self.fresh.add(number, said, key, None)
                continue
            believed.append(event)
            row: Row = {name: event[name] for name in self._columns}
            row["meant"] = None
            if self.searches is not None and event["item_id"] is None and event["query"] is not None:
                (row["meant"],) = search.products(self.searches, [event["query"]])
            self.fresh.add(number, said, key, row)
            for one in (self.persons.person(key), ~key):
                if (shopper := self._hot.get(one)) is not None:
                    shopper.add(row)
        self.taken += len(events)
        return believed

    def of(self, key: int) -> Shopper:
        """Return the shopper a key belongs to, put together where need be: O(events of the person)."""
        self._follow()
        self._let_go()
        person = self._latest = self.persons.person(key)
        shopper = self._hot.get(person)
        if shopper is not None and (shopper.turn == self._turn or self._as_before(person, shopper)):
            shopper.turn = self._turn
            self._hot.move_to_end(person)
            return shopper
        rows = self._rows(person)
        shopper = Shopper(
            person=person,
            turn=self._turn,
            read=lambda: self._rows(person),
            declared=self._declared,
            first=rows,
            last=_place(rows[-1]) if rows else None,
            mark=self._mark_of(person, rows),
        )
        self._hot[person] = shopper
        self._hot.move_to_end(person)
        if len(self._hot) > self._most:
            self._drop(next(iter(self._hot)))
        return shopper

    def alone(self, key: int) -> Shopper:
        """Return what was done under one key, whoever it was joined to; kept as if it were a person of its own."""
        self._follow()
        joined = self.persons.members(self.persons.person(key)) != {key}
        return self.of(~key if joined else key)

    def events(self, key: int) -> list[Row]:
        """Return the events of the person a key belongs to, in time; nothing of it is kept in memory."""
        self._follow()
        return self._rows(self.persons.person(key))

    def rebase(self, base: Base, *, taken: int) -> None:
        """Go on from a later base; of the fresh events it holds the first `taken` that came, which are let go.

        Who is hot is held against the base when asked about next (`of`). O(fresh events).
        """
        self.base, self._turn, self._from = base, self._turn + 1, taken
        self.fresh.let_go(taken)

    def waiting(self) -> int:
        """Return how many fresh events there are."""
        return len(self.fresh)

    @property
    def behind(self) -> bool:
        """Whether there are events that neither the base nor memory holds: the lake does, so it is to be read again."""
        return self.left >= self._from

    def _let_go(self) -> None:
        """Weigh who was asked about last, and while all take too much let go of who was longest ago."""
        if (shopper := self._hot.get(self._latest)) is not None:
            weight = shopper.nbytes
            self._bytes += weight - self._weight.get(self._latest, 0)
            self._weight[self._latest] = weight
        while self._bytes > self._most_bytes:
            self._drop(next(iter(self._hot)))

    def _drop(self, person: int) -> None:
        if self._hot.pop(person, None) is not None:
            self._bytes -= self._weight.pop(person, 0)

    def _rows(self, person: int) -> list[Row]:
        """Return a person's events in time, each once."""
        rows: dict[Place, Row] = {}
        for member in self.persons.members(person):
            for row in (*self.base.of(member), *self.fresh.of(member)):
                rows.setdefault(_place(row), row)
        return [rows[place] for place in sorted(rows)]

    def _mark_of(self, person: int, rows: Sequence[Row]) -> int:
        members = self.persons.members(person)
        if any(member in self.fresh.newest for member in members):
            return sum(map(mark, rows)) & WORD
        return sum(self.base.mark(member) for member in members) & WORD

    def _as_before(self, person: int, shopper: Shopper) -> bool:
        """Whether the base holds what a shopper is made of, but for the fresh events."""
        members = self.persons.members(person)
        fresh = sum(mark(row) for member in members for row in self.fresh.of(member))
        return (sum(self.base.mark(member) for member in members) + fresh) & WORD == shopper.mark

    def _follow(self) -> None:
        """Drop whoever has become somebody else, to be put together again."""
        for key in self.persons.look():
            self._drop(key)

    def _believable(self, event: Row, said: int) -> bool:
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
        return not (self._clean.repeats and said in self.fresh.said)


def _place(row: Row) -> Place:
    return row["at"], row["event_id"], row["line"]


def _told(basket: Basket, index: Mapping[str, int]) -> live.Set | None:
    """Return a set as the flagship takes it, or None when the catalogue knows no product of it."""
    known = sorted((index[item], *told) for item, told in basket.items.items() if item in index)
    if not known:
        return None
    places, quantities, values = zip(*known, strict=True)
    return live.Set(basket.day, basket.kind, places, quantities, values)
