"""The desk where questions are answered: the shop as it is served now, everybody in it, and its renewal.

One thread answers. The lake and the promoted model are read again, by the child process where there is one, when there
is a reason to: another model was promoted or trained, a product came that the catalogue does not know, somebody said
something about consent, an import brought products, somebody was erased, or much has come since the last reading. What
was read lies in files (shop.py); a second thread maps them, and they are exchanged between two requests; none fails
meanwhile.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import itertools
import logging
import secrets
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from operator import itemgetter
from pathlib import Path
from typing import Any

from habitue.collect.entry import Consent
from habitue.core.errors import HabitueError, LakeError
from habitue.core.schemas import CONSENT, ITEMS
from habitue.core.workspace import Workspace
from habitue.protect import consent
from habitue.protect.identities import GUEST
from habitue.serve import about, counts, experiments, foretold, operational, registry, scorer, shop, state
from habitue.serve.counts import Line
from habitue.serve.events import Base, Row, mapped
from habitue.serve.metrics import Metrics
from habitue.serve.operational import Followed
from habitue.serve.persons import Persons
from habitue.serve.problems import Problem
from habitue.serve.rules import Rules
from habitue.serve.scorer import Answer, Question
from habitue.serve.shop import Shop
from habitue.serve.state import Shopper, Shoppers
from habitue.serve.traces import Traces

Read = Callable[[], Awaitable[Path]]  # the workspace as it is now -> a folder of files to answer from (shop.py)
Clock = Callable[[], dt.datetime]
Expose = Callable[[list[Row]], Awaitable[None]]  # rows of EXPOSURES -> on the disk

LISTED = 100_000  # people whose next steps are counted while a model is tried out
OUTCOMES = ("Product Clicked", "Product Added", "Order Completed")
_log = logging.getLogger("habitue.serve")


def now() -> dt.datetime:
    """Return the present moment, UTC."""
    return dt.datetime.now(dt.UTC)


@dataclass(frozen=True)
class Config:
    """When the lake is read again."""

    look_s: float = 1.0  # how often it is looked whether there is a reason
    new_products_s: float = 5.0  # at least so long between two readings for new products, or for what was left out
    events: int = 100_000  # since the last reading, kept in memory
    lake_s: float = 20.0  # at least so long between two readings for a statement of consent, a catalogue, an erasure
    at_most_s: float = 300.0  # between two readings when events came
    hot: int = state.HOT
    hot_mb: int = state.HOT_MB
    fresh: int = state.FRESH


@dataclass(frozen=True)
class Served:
    """A list as it goes out."""

    recommendation_id: str  # 32 characters; what follows from the list names it
    answer: Answer
    arms: dict[str, str]  # experiment -> arm met


class Desk:
    """Answers for one workspace. `flush` brings what was received into the lake; `read` None = it never answers.

    `expose` keeps what was shown to whom; None = no experiment runs.
    """

    def __init__(
        self,
        workspace: Workspace,
        read: Read | None,
        *,
        config: Config | None = None,
        flush: Callable[[], Awaitable[Any]] | None = None,
        expose: Expose | None = None,
        followed: Followed | None = None,
        clock: Clock = now,
    ) -> None:
        self.workspace, self.config, self.metrics = workspace, config or Config(), Metrics()
        followed = followed or Followed(workspace.state)
        self.rules = Rules(workspace.state, followed)
        section = operational.config(workspace.state)
        self.trials = experiments.Trials(workspace.state, followed, section.hold_out, section.hold_out_lists)
        self.personas = about.Personas(workspace.state)
        self.listeners: list[Callable[[list[Row]], None]] = []  # hear of events once answers know them
        self.traces = Traces()
        self._expose = expose
        self._newest: dt.datetime | None = None  # event since the server began
        self._withdrawn: dict[int, float] = {}  # who took a consent back since the lake was read -> when
        self._read, self._flush, self._clock = read, flush, clock
        self._shop: Shop | None = None
        self._tried: Shop | None = None  # with the model that is tried out
        self._canary: registry.Canary | None = None
        self._listed: dict[int, str] = {}  # person -> the version of the last list, while one is tried out
        self._shoppers: Shoppers | None = None
        self._early: list[Row] = []  # events that came before the first reading had ended
        self._unknown = False  # a product came that the catalogue does not know
        self._since = 0  # events since the last reading
        self._bought: list[tuple[int, Line]] = []  # that no reading holds, each with how many events had come
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
        experiments.declare(self.workspace.state)
        self.trials.recall(self.workspace.lake)
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
        behind, believed = self._shoppers.behind, self._shoppers.take(events)
        if self._shoppers.behind and not behind:
            _log.warning("more came than is kept in memory: what comes now counts when the lake has been read again")
        self._count(believed)
        index = self.shop.index
        self._unknown |= any(event["item_id"] is not None and event["item_id"] not in index for event in believed)
        moments = [event["at"] for event in believed]
        self._newest = max(moments if self._newest is None else [*moments, self._newest], default=None)
        for event in believed if self._listed else ():
            version = self._listed.get(self._shoppers.persons.person(event["user_key"]))
            if version is not None and event["kind"] in OUTCOMES and not event["line"]:
                self.metrics.outcomes.add(version, event["kind"])
        for heard in self.listeners:
            heard(believed)
        for received, alike in itertools.groupby(events, itemgetter("received_at")):  # those of one request
            if received is not None:
                lag = max((now() - received).total_seconds(), 0.0)
                self.metrics.lag.add(seconds=lag, times=len(list(alike)))

    def _count(self, believed: list[Row]) -> None:
        """Let purchases move what everybody buys and what stands in one order; of those who may be counted."""
        persons = self.shoppers.persons
        lines = []
        for event in believed:
            person = persons.person(event["user_key"])
            if (one := counts.line(event, person)) is not None and not self._withheld(person):
                lines.append(one)
        if lines:
            self._bought += [(self.shoppers.taken, one) for one in lines]
            self._move(lines)

    def _move(self, lines: list[Line]) -> None:
        """Count lines on in what is served, once each."""
        for served in (self._shop, self._tried):
            if served is None:
                continue
            bought: dict[int, dict[float, set[int]]] = {}
            for person, day, place in served.counts.take(lines):
                bought.setdefault(person, {}).setdefault(day, set()).add(place)
            if served.counts.follows is not None:
                for person, days in bought.items():
                    served.counts.follows.take(self.shoppers.of(person).orders(served.index), days)

    def _withheld(self, person: int) -> bool:
        members = self.shoppers.persons.members(person)
        withheld = self.shop.snapshot.withheld
        return not (withheld.isdisjoint(members) and self._withdrawn.keys().isdisjoint(members))

    def on_consents(self, said: list[Consent]) -> None:
        """Take statements of consent: who withdraws one is answered as nobody from now on."""
        for key, purpose, granted, _, _ in said:
            if purpose in (consent.ANALYTICS, consent.PERSONALISATION) and not granted:
                self._withdrawn[key] = time.monotonic()

    def key(self, *, user_id: str | None = None, anonymous_id: str | None = None) -> int | None:
        """Return the key of somebody named, or None for nobody this shop has met."""
        persons = self.shoppers.persons
        if user_id is not None:
            return persons.key("user_id", user_id)
        if anonymous_id is None or anonymous_id.startswith(GUEST):  # an order's number is no visitor
            return None
        return persons.key("anonymous_id", anonymous_id)

    def shopper(self, key: int | None, *, alone: bool = False) -> Shopper | None:
        """Return who may be answered in person; None for nobody, and for who did not agree to it.

        `alone`: of what was done under this very key, not by the person it was joined to.
        """
        shoppers = self.shoppers
        if key is None:
            return None
        shopper = shoppers.alone(key) if alone else shoppers.of(key)
        return None if self._withheld(shoppers.persons.person(key)) else shopper

    def events(self, key: int) -> list[Row] | None:
        """Return somebody's events in time; None of who did not agree to it."""
        shoppers = self.shoppers
        return None if self._withheld(shoppers.persons.person(key)) else shoppers.events(key)

    def recommend(self, key: int | None, question: Question, *, alone: bool = False) -> Answer:
        """Answer one question; `alone` as in `shopper`. Raises Problem."""
        began = time.perf_counter()
        shop = self._shop_of(key)
        answer = scorer.recommend(shop, self.shopper(key, alone=alone), question, self.rules.now(), now=self._clock())
        self.metrics.answered.add(seconds=time.perf_counter() - began)
        self.metrics.answers.add(question.placement, answer.model, answer.fallback or "none")
        return answer

    def _shop_of(self, key: int | None) -> Shop:
        """Return the shop somebody is answered from: that of the model tried out, for its share of the people.

        While one is tried out it is counted what is done after the lists of each.
        """
        if self._tried is None or self._canary is None or key is None:
            return self.shop
        person = self.shoppers.persons.person(key)
        found = self._tried if self._canary.gets(person) else self.shop
        version = found.snapshot.version or "none"
        self.metrics.lists.add(version)
        self._listed[person] = version
        if len(self._listed) > LISTED:
            self._listed.pop(next(iter(self._listed)))
        return found

    async def serve(self, key: int | None, question: Question, *, alone: bool = False) -> Served:
        """Answer one question as the experiments that run want it, and keep what was shown. Raises Problem.

        `alone` as in `shopper`; experiments are met by the person all the same.

        A list that cannot be kept goes out all the same, is counted (habitue_exposures_total) and said in the log.
        """
        name = secrets.token_hex(16)
        person, met = None, []
        if self._expose is not None and key is not None and self.trials.running() and self.shopper(key) is not None:
            persons = self.shoppers.persons
            person = persons.person(key)
            met = self.trials.of(person, persons.members(person), question.placement)
        with self.traces.span("rank", placement=question.placement) as span:
            answer = self.recommend(key, experiments.changed(question, met, seed=int(name, 16)), alone=alone)
            if span is not None:
                span.set_attributes({"model": answer.model, "fallback": answer.fallback or "none"})
        if met and person is not None and self._expose is not None:
            at = self._clock()
            shown = experiments.rows(met, answer, question.placement, recommendation_id=name, person=person, at=at)
            try:
                with self.traces.span("expose", experiments=len(met)):
                    await self._expose(shown)
                self.trials.shown(met, person, at)
                self.metrics.exposures.add("kept", by=len(met))
            except LakeError as error:
                self.metrics.exposures.add("lost", by=len(met))
                _log.error("what was shown could not be kept: %s", error)
        return Served(name, answer, {one.experiment.name: one.arm for one in met})

    def moment(self) -> tuple[dt.datetime, dt.datetime, bool]:
        """Return as of when somebody is told about, the time now, and whether the data are stale (about.py)."""
        present = self._clock()
        newest = max((one for one in (self.shop.snapshot.newest, self._newest) if one is not None), default=None)
        as_of, stale = about.moment(newest, present)
        return as_of, present, stale

    def predict(self, key: int) -> dict[str, Any]:
        """Return what is foretold of somebody, as /v1/predictions says it. Raises Problem."""
        shopper = self.shopper(key)
        if shopper is None:
            raise Problem(403, "no_consent", "This customer has not agreed to personal answers", "Do without it")
        as_of, present, stale = self.moment()
        (told,) = foretold.predictions(self.shop, [shopper], now=as_of)
        return about.predicted(self.shop, told, as_of=as_of, now=present, stale=stale)

    def known(self, key: int) -> dict[str, Any]:
        """Return what is known of somebody, as /v1/users says it; little of who did not agree to it."""
        shopper = self.shopper(key)
        as_of, present, stale = self.moment()
        persons = self.shoppers.persons
        persona = None if shopper is None else self.personas.of(persons.members(persons.person(key)))
        told = about.known(shopper, as_of=as_of, now=present, stale=stale)
        return {"may_be_personal": shopper is not None, "persona": persona, **told}

    def aliases(self, key: int, kind: str) -> list[str]:
        """Return somebody's raw ids of one kind, for the shop itself."""
        persons = self.shoppers.persons
        return persons.aliases(persons.person(key), kind)

    def gauges(self) -> dict[tuple[str, str], float]:
        """Return what /metrics shows of the state."""
        told = self._shoppers
        hot, fresh, behind = (0, 0, 0) if told is None else (len(told), told.waiting(), int(told.behind))
        age = time.monotonic() - self._read_at if self.ready else 0.0
        return {
            ("habitue_shoppers_in_memory", "Shoppers put together in memory"): hot,
            ("habitue_events_since_reading", "Events in memory that came since the lake was read"): fresh,
            ("habitue_events_left_to_reading", "1 = events came that count from the next reading on"): behind,
            ("habitue_feature_freshness_seconds", "Time since the lake was read"): age,
            ("habitue_products", "Products that can be shown"): len(self._shop.items) if self._shop else 0,
        }

    async def renew(self) -> None:
        """Read the workspace again and go over to what was read. Raises HabitueError; then all stays as it was."""
        self._read_at, self._unknown, self._since = time.monotonic(), False, 0
        flushed = self._read_at if self._flush is not None and self.ready else 0.0
        self._marks = self._changes()
        assert self._read is not None, "a desk without a lake to read was started"
        try:
            taken = 0
            if self._flush is not None and self._shoppers is not None:
                taken = self._shoppers.taken  # all of them are in what is flushed now
                await self._flush()
            folder = await self._read()
            loop = asyncio.get_running_loop()
            made, tried, base = await loop.run_in_executor(self._reader, self._opened, folder)
        except HabitueError:
            self.metrics.refreshes.add("failed")
            raise
        if self._shoppers is None:
            persons = Persons(self.workspace.identities)
            hot, hot_mb, fresh = self.config.hot, self.config.hot_mb, self.config.fresh
            self._shoppers = Shoppers(base, persons, hot=hot, hot_mb=hot_mb, fresh=fresh, searches=made.searches)
            self._shop = made
            self.on_events(self._early)
            self._early = []
        self._shop, self._tried = made, tried
        if tried is None:
            self._listed.clear()
        self._shoppers.rebase(base, taken=taken)
        self._bought = [(number, one) for number, one in self._bought if number > taken]
        self._move([one for _, one in self._bought])
        self._shoppers.searches = made.searches
        self._withdrawn = {key: at for key, at in self._withdrawn.items() if at >= flushed}
        self.metrics.refreshes.add("done")
        _log.info("serving %s of %s products", made.snapshot.version or "no model", len(made.items))

    def _opened(self, folder: Path) -> tuple[Shop, Shop | None, Base]:
        models = self.workspace.models
        made, self._canary = shop.opened(folder, models=models, before=self._shop), registry.canary(models)
        if self._canary is None:
            return made, None, mapped(folder)
        before = self._tried or made  # the same products: a customer's sets are laid out for both
        if before.index is not made.index:
            before = made
        try:
            tried = shop.opened(folder, models=models, before=before, version=self._canary.version)
        except HabitueError as error:
            _log.error("a model cannot be tried out: %s", error)
            return made, None, mapped(folder)
        return made, tried, mapped(folder)

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
            or (registry.canary(self.workspace.models) != self._canary and self._failed is None)
            or (self._unknown and ago >= self.config.new_products_s)
            or self._since >= self.config.events
            or (self.shoppers.behind and ago >= self.config.new_products_s)
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
