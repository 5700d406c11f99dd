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
* must return at once (it delays the answer) and not change the rows; what it raises is logged, the events stay stored.

When `start` returns, the lake holds everything that was ever acknowledged: state can be rebuilt from it alone.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import logging
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field

from habitue.collect import compaction, lines, log, told
from habitue.collect.entry import Group, encoded
from habitue.collect.ids import keyed_one
from habitue.collect.lines import Event, Person
from habitue.collect.seen import Seen
from habitue.collect.sources.blocks import Record
from habitue.collect.wires.body import OF_BODY, Described, Introduction, Message, Messages
from habitue.core import lock
from habitue.core.errors import HabitueError
from habitue.core.schemas import EVENTS
from habitue.core.workspace import Workspace
from habitue.protect.arriving import Arriving
from habitue.protect.identities import GUEST

INBOX = "inbox"
MERGED = 60  # turns of compaction after which the lake's small files are merged
_log = logging.getLogger("habitue.collect")


@dataclass(frozen=True)
class Config:
    """How events are received: the section `[collect]` of habitue.toml."""

    horizon_days: int = 30  # an event id met again within so many days is the same event
    most_ids: int = 20_000_000  # of them kept in memory, 10 bytes each; the oldest go first
    compact_s: float = 60.0  # at most so long until an event is in the lake
    waiting_events: int = 50_000  # received and not yet on the disk; beyond it clients are told to wait
    inbox_mb: int = 4_096  # on the disk and not yet in the lake; beyond it as well


class Busy(Exception):
    """More is waiting than may; send it again after `retry_s` seconds."""

    retry_s = 1


@dataclass(frozen=True)
class Taken:
    """What became of the messages of one request."""

    new: int
    repeated: int
    refused: int
    ignored: int  # no event of a shop: a group call, a tracker's own


@dataclass
class _Arrived:
    """One request, typed and without its people's keys."""

    source: str
    received: dt.datetime
    done: asyncio.Future[Taken]
    events: dict[str, list[tuple[Event, Person]]] = field(default_factory=dict)  # by event id
    told: list[tuple[int, Introduction | Described]] = field(default_factory=list)
    refused: list[tuple[int, str, Record]] = field(default_factory=list)
    repeated: int = 0
    ignored: int = 0


class Receiver:
    """Takes events for one workspace; one process at a time does."""

    def __init__(self, workspace: Workspace, config: Config | None = None) -> None:
        self.workspace, self.config = workspace, config or Config()
        self.subscribers: list[Callable[[list[Event]], None]] = []
        self.counts: Counter[tuple[str, str]] = Counter()  # (source, "new" | "repeated" | "refused" | "ignored")
        self.cut = 0  # bytes of a torn record that `start` cut away; it was never acknowledged
        self._held = ExitStack()
        self._waiting: list[_Arrived] = []
        self._waiting_events = 0
        self._wake = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self._compacting = threading.Lock()
        self._turns = 0
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="habitue-writer")

    async def start(self) -> None:
        """Bring what an earlier process left into the lake, and begin. Raises LakeError, also when another serves."""
        self._held.enter_context(lock.exclusive(self.workspace.root / INBOX / ".lock", wait_s=0.0))
        try:
            loop = asyncio.get_running_loop()
            await loop.run_in_executor(self._writer, self._open)
        except BaseException:
            self._held.close()
            raise
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

    async def compact(self) -> int:
        """Bring what is in the inbox into the lake; returns how many lines were new to it. Raises LakeError."""
        await asyncio.get_running_loop().run_in_executor(self._writer, self._log.rotate)
        return await asyncio.to_thread(self._compacted)

    def _compacted(self) -> int:
        with self._compacting:  # whoever waited for the one before may be gone: it goes on in its thread
            stored = compaction.into_lake(self.workspace, self._log.closed())
            self._turns += stored > 0
            if self._turns >= MERGED:  # each turn left a small file a bucket
                self.workspace.lake.compact(EVENTS)
                self._turns = 0
        self._inbox_bytes = self._log.size
        return stored

    def _open(self) -> None:
        folder = self.workspace.root / INBOX
        compaction.retried(folder)
        self._log, self.cut = log.opened(folder)
        self._people = Arriving(self.workspace.identities)
        self._inbox_bytes = 0
        compaction.into_lake(self.workspace, self._log.closed())
        self._seen = Seen(days=self.config.horizon_days, most=self.config.most_ids)
        since = dt.datetime.now(dt.UTC) - dt.timedelta(days=self.config.horizon_days)
        for day, ids in compaction.received_since(self.workspace, since):
            self._seen.add(ids, day=day)

    def _read(self, arrived: _Arrived, number: int, said: Message) -> None:
        """Type one message of a request; a line that is refused does not take the others with it."""
        if isinstance(said, Introduction | Described):
            arrived.told.append((number, said))
            return
        if said == "no_event":
            arrived.ignored += 1
            return
        if isinstance(said, str):
            arrived.refused.append((number, said, {}))
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
        known = arrived.events.setdefault(read[0]["event_id"], [])
        if any(event["line"] == read[0]["line"] for event, _ in known):
            arrived.repeated += 1  # the same id twice in one request: the first one wins
        else:
            known.append(read)

    async def _commit_groups(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await self._wake.wait()
            self._wake.clear()
            arrived, self._waiting, self._waiting_events = self._waiting, [], 0
            try:
                group, taken = await loop.run_in_executor(self._writer, self._commit, arrived)
            except Exception as error:
                if not isinstance(error, HabitueError):
                    _log.exception("a group of events could not be stored")
                for one in arrived:
                    if not one.done.done():
                        one.done.set_exception(error)
                continue
            self._publish(group)
            for one, result in zip(arrived, taken, strict=True):
                for name in ("new", "repeated", "refused", "ignored"):
                    self.counts[one.source, name] += getattr(result, name)
                if not one.done.done():  # whoever waited may have gone away
                    one.done.set_result(result)

    def _commit(self, arrived: list[_Arrived]) -> tuple[Group, list[Taken]]:
        """Put a group on the disk: people first, then the log; only then are its ids met."""
        asked = [event_id for one in arrived for event_id in one.events]
        known = dict(zip(asked, self._seen.known(asked), strict=True))
        group, taken = self._people.group(lambda: self._gathered(arrived, known))
        if not group.empty:
            self._log.append(encoded(group))
            self._inbox_bytes += self._log.last
            self._seen.add({event["event_id"] for event in group.events}, day=int(time.time() // 86_400))
        return group, taken

    def _gathered(self, arrived: list[_Arrived], known: dict[str, bool]) -> tuple[Group, list[Taken]]:
        """Give everybody in the group a key; leave out what was met before, in this group too."""
        group, taken, met = Group(), [], {event_id for event_id, there in known.items() if there}
        for one in arrived:
            new = 0
            for event_id, read in one.events.items():
                if event_id in met:
                    continue
                met.add(event_id)
                new += 1
                for event, person in read:
                    event["user_key"] = self._key_of(person, event["order_id"], event["at"], one.source)
                    group.events.append(event)
            bad: list[tuple[int, str, Record]] = []
            for number, said in one.told:
                if (reason := self._tell(group, said, one)) is not None:
                    bad.append((number, reason, {}))
            for number, code, row in [*one.refused, *bad]:
                key = self._refused_person(row, one)
                group.refused.append((one.source, number, code, lines.refused(row, key)))
            taken.append(Taken(new, one.repeated + len(one.events) - new, len(one.refused) + len(bad), one.ignored))
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

    def _tell(self, group: Group, said: Introduction | Described, one: _Arrived) -> str | None:
        """Keep what a message says of a product or a person, and join the person's ids; returns a reason code."""
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
        if group.events:
            for on_events in self.subscribers:
                try:
                    on_events(group.events)
                except Exception:
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


def _person(user_id: object, anonymous_id: object) -> Person | None:
    """Return who is named by ids that can be stored, or None."""
    names = [lines.word(name) for name in (user_id, anonymous_id)]
    user, visitor = (None if name is None or len(name) > lines.LONGEST_NAME else name for name in names)
    return None if user is None and visitor is None else Person(user, visitor)
