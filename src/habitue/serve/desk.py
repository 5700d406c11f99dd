"""The desk where questions are answered: the shop as it is served now, everybody in it, and its renewal.

One thread answers. Another reads the lake and the promoted model again when there is a reason to: another model was
promoted or trained, a product came that the catalogue does not know, somebody said something about consent, an import
brought products, somebody was erased, or much has come since the last reading. What it made is exchanged between two
requests; none fails meanwhile.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import logging
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from habitue.core.errors import HabitueError
from habitue.core.schemas import CONSENT, ITEMS
from habitue.core.workspace import Workspace
from habitue.protect.identities import GUEST
from habitue.serve import registry, scorer, shop, state
from habitue.serve.metrics import Metrics
from habitue.serve.persons import Persons
from habitue.serve.problems import Problem
from habitue.serve.rules import Book
from habitue.serve.scorer import Answer, Question
from habitue.serve.shop import Shop, Snapshot
from habitue.serve.state import Base, Row, Shopper, Shoppers

Load = Callable[[dt.datetime], Snapshot]  # since when the server runs -> the workspace as it is now
Clock = Callable[[], dt.datetime]

_log = logging.getLogger("habitue.serve")


def now() -> dt.datetime:
    """Return the present moment, UTC."""
    return dt.datetime.now(dt.UTC)


@dataclass(frozen=True)
class Config:
    """When the lake is read again."""

    look_s: float = 1.0  # how often it is looked whether there is a reason
    new_products_s: float = 5.0  # at least so long between two readings for new products
    events: int = 100_000  # since the last reading, kept in memory
    lake_s: float = 20.0  # at least so long between two readings for a statement of consent, a catalogue, an erasure
    at_most_s: float = 300.0  # between two readings when events came
    hot: int = state.HOT


class Desk:
    """Answers for one workspace. `flush` brings what was received into the lake; `load` None = it never answers."""

    def __init__(
        self,
        workspace: Workspace,
        load: Load | None,
        *,
        config: Config | None = None,
        flush: Callable[[], Awaitable[Any]] | None = None,
        clock: Clock = now,
    ) -> None:
        self.workspace, self.config, self.metrics = workspace, config or Config(), Metrics()
        self.rules = Book(workspace.state)
        self._load, self._flush, self._clock = load, flush, clock
        self._began = now()
        self._shop: Shop | None = None
        self._shoppers: Shoppers | None = None
        self._early: list[Row] = []  # events that came before the first reading had ended
        self._unknown = False  # a product came that the catalogue does not know
        self._since = 0  # events since the last reading
        self._read_at = -1e9
        self._marks: list[int] = []  # of what the lake held beside events
        self._failed: str | None = None  # the model that could not be read, not to be tried every second
        self._reader = ThreadPoolExecutor(1, thread_name_prefix="habitue-reader")
        self._renewal: asyncio.Task[None] | None = None

    @property
    def ready(self) -> bool:
        """Whether it can answer."""
        return self._shop is not None

    @property
    def shop(self) -> Shop:
        """The shop as it is served now. Raises Problem 503 before the first reading has ended."""
        if self._shop is None:
            raise _not_ready()
        return self._shop

    @property
    def shoppers(self) -> Shoppers:
        """Everybody. Raises Problem 503 before the first reading has ended."""
        if self._shoppers is None:
            raise _not_ready()
        return self._shoppers

    async def start(self) -> None:
        """Read the workspace, then answer and renew. Raises HabitueError."""
        await self.renew()
        self._renewal = asyncio.create_task(self._renew_now_and_then())

    async def stop(self) -> None:
        """Stop renewing."""
        if self._renewal is not None:
            self._renewal.cancel()
            await asyncio.gather(self._renewal, return_exceptions=True)
        self._reader.shutdown(wait=True, cancel_futures=True)

    def on_events(self, events: list[Row]) -> None:
        """Take events as the receiver hands them over."""
        if self._shoppers is None:
            self._early += events
            return
        self._since += len(events)
        believed = self._shoppers.take(events)
        index = self.shop.index
        self._unknown |= any(event["item_id"] is not None and event["item_id"] not in index for event in believed)
        for event in events:
            if event["received_at"] is not None:
                self.metrics.lag.add(seconds=max((now() - event["received_at"]).total_seconds(), 0.0))

    def key(self, *, user_id: str | None = None, anonymous_id: str | None = None) -> int | None:
        """Return the key of somebody named, or None for nobody this shop has met."""
        persons = self.shoppers.persons
        if user_id is not None:
            return persons.key("user_id", user_id)
        if anonymous_id is None or anonymous_id.startswith(GUEST):  # an order's number is no visitor
            return None
        return persons.key("anonymous_id", anonymous_id)

    def shopper(self, key: int | None) -> Shopper | None:
        """Return who may be answered in person; None for nobody, and for who did not agree to it."""
        shop, shoppers = self.shop, self.shoppers
        if key is None:
            return None
        shopper = shoppers.of(key)
        members = shoppers.persons.members(shoppers.persons.person(key))
        return None if members & shop.snapshot.withheld else shopper

    def recommend(self, key: int | None, question: Question) -> Answer:
        """Answer one question. Raises Problem."""
        began = time.perf_counter()
        answer = scorer.recommend(self.shop, self.shopper(key), question, self.rules.now(), now=self._clock())
        self.metrics.answered.add(seconds=time.perf_counter() - began)
        self.metrics.answers.add(question.placement, answer.model, answer.fallback or "none")
        return answer

    def predict(self, key: int) -> tuple[dict[str, float], dict[str, float | None]]:
        """Return what is foretold of somebody, and the declared features it was told from. Raises Problem."""
        shopper = self.shopper(key)
        if shopper is None:
            raise Problem(403, "no_consent", "This customer has not agreed to personal answers", "Do without it")
        moment = self._clock()
        return dict(scorer.predictions(self.shop, shopper, now=moment)), shopper.values(moment)

    def aliases(self, key: int, kind: str) -> list[str]:
        """Return somebody's raw ids of one kind, for the shop itself."""
        persons = self.shoppers.persons
        return persons.aliases(persons.person(key), kind)

    def gauges(self) -> dict[tuple[str, str], float]:
        """Return what /metrics shows of the state."""
        hot, fresh = (0, 0) if self._shoppers is None else (len(self._shoppers), self._shoppers.waiting())
        age = time.monotonic() - self._read_at if self.ready else 0.0
        return {
            ("habitue_shoppers_in_memory", "Shoppers put together in memory"): hot,
            ("habitue_events_since_reading", "Events in memory that came since the lake was read"): fresh,
            ("habitue_feature_freshness_seconds", "Time since the lake was read"): age,
            ("habitue_products", "Products that can be shown"): len(self._shop.items) if self._shop else 0,
        }

    async def renew(self) -> None:
        """Read the workspace again and go over to what was read. Raises HabitueError; then all stays as it was."""
        self._read_at, self._unknown, self._since = time.monotonic(), False, 0
        self._marks = self._changes()
        if self._flush is not None and self.ready:
            await self._flush()
        loop = asyncio.get_running_loop()
        try:
            made, base = await loop.run_in_executor(self._reader, self._read)
        except HabitueError:
            self.metrics.refreshes.add("failed")
            raise
        if self._shoppers is None:
            persons = Persons(self.workspace.identities)
            self._shoppers = Shoppers(base, persons, hot=self.config.hot)
            self._shop = made
            self.on_events(self._early)
            self._early = []
        self._shop = made
        self._shoppers.rebase(base, made.snapshot.stored)
        self.metrics.refreshes.add("done")
        _log.info("serving %s of %s products", made.snapshot.version or "no model", len(made.items))

    def _read(self) -> tuple[Shop, Base]:
        assert self._load is not None, "a desk without a lake to read was started"
        snapshot = self._load(self._began)
        return shop.make(snapshot), state.lay_out(snapshot.events, self.workspace.state)

    async def _renew_now_and_then(self) -> None:
        while True:
            await asyncio.sleep(self.config.look_s)
            try:
                if self._due():
                    await self.renew()
                    self._failed = None
            except HabitueError as error:  # what was served goes on being served
                self._failed = self._promoted()
                _log.error("%s", error)

    def _due(self) -> bool:
        ago = time.monotonic() - self._read_at
        promoted = self._promoted()
        return (
            (promoted != self.shop.snapshot.version and promoted != self._failed)
            or (self._unknown and ago >= self.config.new_products_s)
            or self._since >= self.config.events
            or (self._since > 0 and ago >= self.config.at_most_s)
            or (ago >= self.config.lake_s and self._changes() != self._marks)
        )

    def _changes(self) -> list[int]:
        """Return when consent, the catalogue and the receipts of erasures were written last."""
        tables = [self.workspace.lake.root / table.name / "_delta_log" for table in (CONSENT, ITEMS)]
        folders = [folder for folder in (*tables, self.workspace.receipts) if folder.exists()]
        return [folder.stat().st_mtime_ns for folder in folders]

    def _promoted(self) -> str | None:
        folder = registry.current(self.workspace.models)
        return None if folder is None else folder.name


def _not_ready() -> Problem:
    return Problem(503, "not_ready", "The server is still reading its lake", "Wait a moment", retry_after_s=2)
