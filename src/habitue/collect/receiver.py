"""Requests of trackers -> events on the disk, then to whoever listens, then into the lake.

    body -> wire -> rows -> typed events -> people's keys -> not met before? -> log (fsync) -> subscribers -> 200
                                                                                 later: log -> lake (`compaction`)

Requests that wait at the same time are one group: one change of the identities when somebody is new, one write and one
fsync. The identities are on the disk before the log, so no stored row is ever without its person. An answer goes out
after the fsync, and after the subscribers were called.

**Subscribers** are a plain list of callables, `receiver.subscribers.append(on_events)`:

    def on_events(events: list[Event]) -> None

* called in the event loop, in the order of the log, with the new events of one group: never a repeat, never a refusal;
* an event is one row of EVENTS as a dict with every column (`core.schemas`), `at` and `received_at` UTC datetimes,
  `import_id` None; an order with three products is three rows with one `event_id` and `line` 0, 1, 2;
* `user_key` is the alias's own key, as the lake stores it: `protect.people` says whose person it is;
* `receiver.consent_subscribers` hear the statements of consent in the same way: user_key, purpose, granted, at, source;
* must return at once (it delays the answer) and not change the rows; what it raises is logged, the events stay stored.

When `start` returns, the lake holds everything that was ever acknowledged: state can be rebuilt from it alone.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import itertools
import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from habitue.collect import compaction, lines, log, met, told
from habitue.collect.entry import Consent, Group, encoded
from habitue.collect.ids import keyed_one
from habitue.collect.lines import Event, Person
from habitue.collect.seen import Seen
from habitue.collect.sources.blocks import Record
from habitue.collect.wires.body import OF_BODY, Described, Introduction, Message, Messages, Owned
from habitue.core import lock
from habitue.core.errors import HabitueError
from habitue.core.workspace import Workspace
from habitue.protect.arriving import Arriving
from habitue.protect.identities import GUEST

INBOX = "inbox"
PASSES = 3  # of the loop before a group is closed: what has come is read first, so that it shares the group's fsyncs
TYPES = frozenset(  # of Segment's e-commerce names, those that are counted by name
    (
        "Products Searched",
        "Product List Viewed",
        "Promotion Viewed",
        "Promotion Clicked",
        "Product Clicked",
        "Product Viewed",
        "Product Added",
        "Product Removed",
        "Product Added to Wishlist",
        "Product Reviewed",
        "Product Shared",
        "Cart Viewed",
        "Checkout Started",
        "Checkout Step Completed",
        "Payment Info Entered",
        "Order Completed",
        "Order Refunded",
        "Order Cancelled",
        "Page Viewed",
        "Screen Viewed",
        "Scrolled",
        "Dwelled",
    )
)
OTHER, NO_TYPE = "other", "none"
_log = logging.getLogger("habitue.collect")


@dataclass(frozen=True)
class Config:
    """How events are received: the section `[collect]` of habitue.toml."""

    horizon_days: int = 30  # an event id met again within so many days is the same event; 8 bytes an id on the disk
    compact_s: float = 60.0  # at most so long until an event is in the lake
    waiting_events: int = 50_000  # received and not yet on the disk; beyond it clients are told to wait
    inbox_mb: int = 4_096  # on the disk and not yet in the lake; beyond it as well
    media_mb: int = 16  # of one picture, sound, video or text
    senses_from_pages: bool = False  # whether a write key, which stands in pages, may send media and signals


Store = Callable[[list[Path]], Awaitable[int]]


class Busy(Exception):
    """More is waiting than may; send it again after `retry_s` seconds."""

    retry_s = 1


@dataclass(frozen=True)
class Taken:
    """What became of the messages of one request."""

    counts: Counter[tuple[str, str]]  # (type, result) -> how many

    @property
    def new(self) -> int:
        """Events that were not met before."""
        return self._of("new")

    @property
    def repeated(self) -> int:
        """Events that were."""
        return self._of("repeated")

    @property
    def refused(self) -> int:
        """Messages that cannot be stored."""
        return self._of("refused")

    @property
    def ignored(self) -> int:
        """What is no event of a shop: a group call, a tracker's own."""
        return self._of("ignored")

    def _of(self, result: str) -> int:
        return sum(count for (_, found), count in self.counts.items() if found == result)


@dataclass
class _Arrived:
    """One request, typed and without its people's keys."""

    source: str
    received: dt.datetime
    done: asyncio.Future[Taken]
    counts: Counter[tuple[str, str]] = field(default_factory=Counter)  # (type, result) of what is known already
    events: dict[str, list[tuple[Event, Person]]] = field(default_factory=dict)  # by event id
    told: list[tuple[int, Introduction | Described | Owned]] = field(default_factory=list)
    exposures: list[dict[str, Any]] = field(default_factory=list)
    refused: list[tuple[int, str, Record]] = field(default_factory=list)


class Receiver:
    """Takes events for one workspace; one process at a time does.

    `store` brings closed segments into the lake and returns how many lines were new (`compaction.Storing`); None = a
    thread of this process does.
    """

    def __init__(self, workspace: Workspace, config: Config | None = None, *, store: Store | None = None) -> None:
        self.workspace, self.config = workspace, config or Config()
        self.subscribers: list[Callable[[list[Event]], None]] = []
        self.consent_subscribers: list[Callable[[list[Consent]], None]] = []
        self.counts: Counter[tuple[str, str, str]] = Counter()  # (source, type, new | repeated | refused | ignored)
        self.cut = 0  # bytes of a torn record that `start` cut away; it was never acknowledged
        self._held = ExitStack()
        self._waiting: list[_Arrived] = []
        self._waiting_events = 0
        self._wake = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        storing = compaction.Storing(workspace)
        self._store = store or (lambda segments: asyncio.to_thread(storing, segments))
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="habitue-writer")

    async def start(self) -> None:
        """Bring what an earlier process left into the lake, and begin. Raises LakeError, also when another serves."""
        with ExitStack() as held:  # let go when the start fails
            held.enter_context(lock.exclusive(self.workspace.root / INBOX / ".lock", wait_s=0.0))
            loop = asyncio.get_running_loop()
            await loop.run_in_executor(self._writer, self._open)
            await self.compact()
            self._held = held.pop_all()
        self._tasks = [asyncio.create_task(self._commit_groups()), asyncio.create_task(self._compact_now_and_then())]

    async def stop(self) -> None:
        """Finish what waits, bring it into the lake, and let the workspace go."""
        while self._waiting:
            self._wake.set()
            await asyncio.sleep(0.01)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        try:
            await self.compact()
        finally:
            await asyncio.get_running_loop().run_in_executor(self._writer, self._people.close)
            self._writer.shutdown()
            self._held.close()

    async def take(self, messages: Messages, source: str, received: dt.datetime) -> Taken:
        """Accept the messages of one request; when this returns they are on the disk, and subscribers know them.

        Raises BodyError when they are none, Busy when more is waiting than may, LakeError when they cannot be stored:
        then nothing of them was acknowledged.
        """
        if self._waiting_events > self.config.waiting_events or self._inbox_bytes > self.config.inbox_mb * 2**20:
            raise Busy
        arrived = _Arrived(source, received, asyncio.get_running_loop().create_future())
        for number, said in messages:
            self._read(arrived, number, said)
        self._waiting.append(arrived)
        self._waiting_events += len(arrived.events)
        self._wake.set()
        return await arrived.done

    async def expose(self, rows: list[dict[str, Any]]) -> None:
        """Keep rows of EXPOSURES: what was shown to whom. When this returns they are on the disk.

        Raises LakeError when they cannot be stored.
        """
        done: asyncio.Future[Taken] = asyncio.get_running_loop().create_future()
        self._waiting.append(_Arrived("serve", dt.datetime.now(dt.UTC), done, exposures=rows))
        self._wake.set()
        await done

    @property
    def secret(self) -> bytes:
        """What keys the ids that are made of what somebody said; never to be written down."""
        return self._people.secret

    async def compact(self) -> int:
        """Bring what is in the inbox into the lake; returns how many lines were new to it. Raises LakeError."""
        loop = asyncio.get_running_loop()
        turn, segments = await loop.run_in_executor(self._writer, self._turn)
        stored = await self._store(segments)
        await loop.run_in_executor(self._writer, self._stored, turn)
        self._inbox_bytes = self._log.size
        return stored

    def _open(self) -> None:
        folder = self.workspace.root / INBOX
        compaction.retried(folder)
        self._log, self.cut = log.opened(folder)
        self._people = Arriving(self.workspace.identities)
        self._inbox_bytes = 0
        ids = met.folder_of(self.workspace.state, self._people.secret)
        if not met.whole(ids):  # a workspace of an earlier version, or a copy without them
            since = dt.datetime.now(dt.UTC) - dt.timedelta(days=self.config.horizon_days)
            met.build(ids, compaction.received_since(self.workspace, since), self._people.secret)
        self._seen = Seen(ids, days=self.config.horizon_days)

    def _turn(self) -> tuple[int, list[Path]]:
        """Close the open segment; returns the number of the turn and all segments that are closed then."""
        self._log.rotate()
        return self._seen.turn(), self._log.closed()

    def _stored(self, turn: int) -> None:
        self._seen.written(turn, now=dt.datetime.now(dt.UTC))

    def _read(self, arrived: _Arrived, number: int, said: Message) -> None:
        """Type one message of a request; a line that is refused does not take the others with it."""
        if isinstance(said, str):
            if said == "no_event":
                arrived.counts[NO_TYPE, "ignored"] += 1
            else:
                arrived.refused.append((number, said, {}))
            return
        if not isinstance(said, dict):
            arrived.told.append((number, said))
            return
        event_id = said.get("event_id")
        if isinstance(event_id, str) and event_id.startswith(OF_BODY):
            said["event_id"] = keyed_one(event_id, source=arrived.source, secret=self._people.secret)
        read = lines.read(said, source=arrived.source, received=arrived.received, currency=self.workspace.currency)
        if isinstance(read, str):
            arrived.refused.append((number, read, said))
            return
        if said.get("country"):
            where = Introduction(
                said.get("user_id"), said.get("anonymous_id"), read[0]["at"], {"country": said["country"]}
            )
            arrived.told.append((number, where))
        event = read[0]
        if (known := arrived.events.get(event["event_id"])) is None:
            arrived.events[event["event_id"]] = [read]
        elif any(one["line"] == event["line"] for one, _ in known):
            arrived.counts[type_of(event), "repeated"] += 1  # the same id twice in one request: the first one wins
        else:
            known.append(read)

    async def _commit_groups(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await self._wake.wait()
            for _ in range(PASSES):
                await asyncio.sleep(0)
            self._wake.clear()
            arrived, self._waiting, self._waiting_events = self._waiting, [], 0
            try:
                group, taken = await loop.run_in_executor(self._writer, self._commit, arrived)
            except Exception as error:  # handed to everybody who waits, a mistake of ours too: else they wait for ever
                if not isinstance(error, HabitueError):
                    _log.exception("a group of events could not be stored")
                for one in arrived:
                    if not one.done.done():
                        one.done.set_exception(error)
                continue
            self._publish(group)
            for one, result in zip(arrived, taken, strict=True):
                for (kind, name), count in result.counts.items():
                    self.counts[one.source, kind, name] += count
                if not one.done.done():  # whoever waited may have gone away
                    one.done.set_result(result)

    def _commit(self, arrived: list[_Arrived]) -> tuple[Group, list[Taken]]:
        """Put a group on the disk: people first, then the log; only then are its ids met."""
        asked = [event_id for one in arrived for event_id in one.events]
        numbers = met.numbers(asked, self._people.secret)
        known = set(itertools.compress(asked, self._seen.known(numbers)))
        group, taken = self._people.group(lambda: self._gathered(arrived, set(known)))
        if not group.empty:
            self._log.append(encoded(group))
            self._inbox_bytes += self._log.last
            self._seen.add(one for one, event_id in zip(numbers, asked, strict=True) if event_id not in known)
        return group, taken

    def _gathered(self, arrived: list[_Arrived], known: set[str]) -> tuple[Group, list[Taken]]:
        """Give everybody in the group a key; leave out what is `known` already, in this group too."""
        group, taken = Group(), []
        for one in arrived:
            group.exposures += one.exposures
            counts = one.counts.copy()
            for event_id, read in one.events.items():
                result = "repeated" if event_id in known else "new"
                counts[type_of(read[0][0]), result] += 1
                if result == "repeated":
                    continue
                known.add(event_id)
                for event, person in read:
                    event["user_key"] = self._key_of(person, event["order_id"], event["at"], one.source)
                    group.events.append(event)
            bad: list[tuple[int, str, Record]] = []
            for number, said in one.told:
                if (reason := self._tell(group, said, one)) is not None:
                    bad.append((number, reason, {}))
            for number, code, row in [*one.refused, *bad]:
                counts[type_of(row), "refused"] += 1
                key = self._refused_person(row, one)
                group.refused.append((one.source, number, code, lines.refused(row, key)))
            taken.append(Taken(counts))
        return group, taken

    def _key_of(self, person: Person, order_id: str | None, at: dt.datetime, source: str) -> int:
        """Return whose row it is, as files do: the user, else the visitor, else a guest known by the order."""
        if person.user_id is not None:
            key = self._people.key("user_id", person.user_id, at, source)
            if person.anonymous_id is not None:
                visitor = self._people.key("anonymous_id", person.anonymous_id, at, source)
                self._people.claim(visitor, key, at, source)
            return key
        return self._people.key("anonymous_id", person.anonymous_id or f"{GUEST}{order_id}", at, source)

    def _tell(self, group: Group, said: Introduction | Described | Owned, one: _Arrived) -> str | None:
        """Keep what a message says of a product or a person, and join the person's ids; returns a reason code."""
        if isinstance(said, Owned):
            owner = _person(said.user_id, said.anonymous_id)
            if owner is None and said.table == "signals":
                return "missing_user"
            whose = None if owner is None else self._key_of(owner, None, said.row["at"] or one.received, one.source)
            getattr(group, said.table).append({**said.row, "user_key": whose, "source": one.source})
            return None
        if isinstance(said, Described):
            row = told.item(said, source=one.source, received=one.received, currency=self.workspace.currency)
            if isinstance(row, str):
                return row
            group.items.append(row)
            return None
        person = _person(said.user_id, said.anonymous_id)
        at = lines.moment(said.at)
        if at is None:
            return "bad_time"
        if not lines.FIRST <= at <= one.received + lines.AHEAD:
            return "far_time"
        if person is None:
            return "missing_user"
        key = self._key_of(person, None, at, one.source)
        attributes = told.attributes(said.attributes)
        if attributes is not None:
            group.users.append((key, at, attributes, one.source))
        group.consents += [(key, purpose, yes, at, one.source) for purpose, yes in told.consents(said.consent)]
        return None

    def _refused_person(self, row: Record, one: _Arrived) -> int | None:
        person = _person(row.get("user_id"), row.get("anonymous_id"))
        return None if person is None else self._key_of(person, None, one.received, one.source)

    def _publish(self, group: Group) -> None:
        if group.consents:
            for on_consents in self.consent_subscribers:
                try:
                    on_consents(group.consents)
                except Exception:  # whose, is not ours to know; what was acknowledged is on the disk all the same
                    _log.exception("a subscriber failed; the statements of consent are stored")
        if group.events:
            for on_events in self.subscribers:
                try:
                    on_events(group.events)
                except Exception:  # as above
                    _log.exception("a subscriber failed; the events are stored")

    async def _compact_now_and_then(self) -> None:
        while True:
            await asyncio.sleep(self.config.compact_s)
            try:
                await self.compact()
            except HabitueError as error:  # another writer is at work, the disk is full: the inbox keeps it
                _log.warning("the inbox waits: %s", error)
            except Exception:  # a mistake of ours must not end this loop: the next turn tries again
                _log.exception("the inbox waits")


def type_of(row: Mapping[str, Any]) -> str:
    """Return what an event is counted as: one of TYPES, OTHER for a name of the shop's own, NO_TYPE without one.

    Whoever sends events chooses their names; what counts them must stay small.
    """
    kind = row.get("kind")
    if not isinstance(kind, str):
        return NO_TYPE
    return kind if kind in TYPES else OTHER


def _person(user_id: object, anonymous_id: object) -> Person | None:
    """Return who is named by ids that can be stored, or None."""
    names = [lines.word(name) for name in (user_id, anonymous_id)]
    user, visitor = (None if name is None or len(name) > lines.LONGEST_NAME else name for name in names)
    return None if user is None and visitor is None else Person(user, visitor)
