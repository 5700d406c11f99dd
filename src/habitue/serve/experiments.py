"""Experiments that the server runs: who meets which arm, what an arm changes, and what was shown to whom.

An experiment divides the known people of some placements into arms by a hash of its name and the person
(`evaluate.experiment.assign`). Every list that somebody in it gets is an exposure: one row of EXPOSURES, on the disk
before the list goes out. `habitue experiment show NAME` holds them against the orders of the days after.

    lists         usual, popular (what everyone buys) or drawn (by chance, better products likelier; every product's
                  chance is kept, so that other rankings can be judged from the same log: evaluate.offpolicy)
    diversity, price    the knobs of a question, in the place of what it says

**A person keeps the arm met first**, also when a visitor turns out to be a customer: the arm is that of the earliest
exposure of all their keys, read from the lake at the start and remembered. Before anything was shown the hash decides.
Who is not known, or did not agree to be counted or to personal answers, is in no experiment and leaves no row.

**The hold-out** is a share of all people that no experiment touches, the same for ever: the experiment HOLD_OUT, which
runs as long as `[serve] hold_out` is above 0, with the arms "held out" and "everyone else".
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl

from habitue.core import settings
from habitue.core.errors import SettingsError, UsageError, did_you_mean
from habitue.core.lake import Lake
from habitue.core.schemas import EXPOSURES
from habitue.core.settings import fill
from habitue.core.workspace import PLAN
from habitue.evaluate.experiment import HELD_OUT, assign
from habitue.serve import operational
from habitue.serve.operational import Followed
from habitue.serve.rules import PLACEMENTS

if TYPE_CHECKING:  # a command that only writes an experiment down must not wait for every model
    from habitue.serve.scorer import Answer, Question

KIND = "experiments"  # documents of the store
HOLD_OUT, REST = "hold-out", "everyone else"
SOURCE = "serve"
LISTS = ("usual", "popular", "drawn")
MOST_ARMS = 20
LONGEST = 100  # characters of a name


@dataclass(frozen=True)
class Arm:
    """One arm: its share of those who are not held out, and what it changes."""

    name: str
    share: float
    lists: str = "usual"
    temperature: float = 0.3  # of drawn lists, in spreads of a customer's scores; higher = more by chance
    diversity: float | None = None
    price: float | None = None

    @property
    def knobs(self) -> frozenset[str]:
        """What it changes."""
        changed = {name for name in ("diversity", "price") if getattr(self, name) is not None}
        return frozenset(changed | ({"lists"} if self.lists != "usual" else set()))

    def changed(self, question: Question, *, seed: int) -> Question:
        """Return the question as this arm asks it."""
        new: dict[str, Any] = {
            name: getattr(self, name) for name in ("diversity", "price") if getattr(self, name) is not None
        }
        if self.lists == "popular":
            new["popular"] = True
        elif self.lists == "drawn":
            new |= {"temperature": self.temperature, "seed": seed, "diversity": 0.0}
        return dataclasses.replace(question, **new) if new else question


@dataclass(frozen=True)
class Experiment:
    """One experiment; the first arm is the control."""

    name: str
    arms: tuple[Arm, ...]
    placements: tuple[str, ...] = ()  # () = every one
    began_at: str = ""  # ISO 8601, UTC; "" = not yet
    ended_at: str = ""

    @property
    def shares(self) -> dict[str, float]:
        """Arm -> share of those who are not held out."""
        return {arm.name: arm.share for arm in self.arms}

    def at(self, placement: str) -> bool:
        """Whether it is about this placement."""
        return not self.placements or placement in self.placements


def begin(state: Path, experiment: Experiment) -> Experiment:
    """Let an experiment begin now; a running server follows within a second. Returns it as it is stored.

    Raises UsageError for one that would mean nothing, whose name was used before, or that changes what another one
    changes at the same placement.
    """
    _checked(experiment)
    with operational.change(state) as book:
        there = [fill(Experiment, said) for said in book.documents(KIND)]
        if any(other.name == experiment.name for other in there):
            raise _wrong(
                f"there was an experiment '{experiment.name}' already",
                "Give it a new name: who met which arm is told by it",
            )
        for other in there:
            if not other.ended_at and (both := _clash(experiment, other)):
                raise _wrong(
                    f"'{other.name}' changes {both} at the same placement",
                    f"Wait for its end, or end it: habitue experiment end {other.name}",
                )
        begun = dataclasses.replace(experiment, began_at=_now(), ended_at="")
        book.put(KIND, begun.name, asdict(begun))
        book.changed()
    return begun


def end(state: Path, name: str) -> Experiment:
    """End an experiment: everybody gets the usual lists again. Raises UsageError for one that does not run."""
    with operational.change(state) as book:
        said = book.document(KIND, name)
        if said is None or said["ended_at"]:
            running = [one["name"] for one in book.documents(KIND) if not one["ended_at"]]
            raise _wrong(f"no experiment '{name}' runs", did_you_mean(name, running) if running else "None does")
        ended = dataclasses.replace(fill(Experiment, said), ended_at=_now())
        book.put(KIND, name, asdict(ended))
        book.changed()
    return ended


def listed(state: Path) -> tuple[Experiment, ...]:
    """Return every experiment ever begun, oldest first."""
    with operational.change(state) as book:
        return tuple(fill(Experiment, said) for said in book.documents(KIND))


def named(state: Path, name: str) -> Experiment:
    """Return an experiment of the server, or its hold-out. Raises UsageError for one there is not."""
    section = operational.config(state)
    held = Trials(state, Followed(state), section.hold_out, section.hold_out_lists).running()[:1]
    known = {one.name: one for one in (*listed(state), *(one for one in held if one.name == HOLD_OUT))}
    if name not in known:
        raise UsageError(
            "experiment",
            found=f"the server never ran an experiment '{name}'",
            consequence="There is nothing to show",
            remedy=did_you_mean(name, known) if known else "Begin one: habitue experiment begin",
        )
    return known[name]


def declare(state: Path) -> None:
    """Begin the experiments of habitue.toml that have not begun. Raises SettingsError for one changed since then."""
    plan = state.parent / PLAN
    told = settings.read_toml(plan).get("experiment", []) if plan.is_file() else []
    listed_there = told if isinstance(told, list) else [told]  # [experiment] for [[experiment]] means one
    planned = [settings.fill(Experiment, one, where=f"{PLAN} [[experiment]]") for one in listed_there]
    if not planned:
        return
    known = {one.name: one for one in listed(state)}
    for experiment in planned:
        before = known.get(experiment.name)
        if before is None:
            begin(state, experiment)
        elif (before.arms, before.placements) != (experiment.arms, experiment.placements):
            raise SettingsError(
                f"habitue.toml [[experiment]] '{experiment.name}'",
                found="it is not what it was when it began",
                consequence="People would change their arms, and its table would mix two experiments",
                remedy="Write it as it was, or give the new one a new name",
            )


@dataclass(frozen=True)
class Met:
    """The arm of one experiment that somebody meets now."""

    experiment: Experiment
    arm: str
    propensity: float


@dataclass
class Trials:
    """The experiments as a running server uses them; for one thread."""

    state: Path
    followed: Followed
    hold_out: float = 0.0  # share of all people
    hold_out_lists: str = "usual"  # what they get: usual or popular
    _seen: object = field(default=0)
    _running: tuple[Experiment, ...] = ()
    _met: dict[str, dict[int, tuple[dt.datetime, str]]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuse a hold-out that is none. Raises SettingsError."""
        if not 0 <= self.hold_out < 1 or self.hold_out_lists not in ("usual", "popular"):
            raise SettingsError(
                "habitue.toml [serve]",
                found=f"hold_out = {self.hold_out:g}, hold_out_lists = '{self.hold_out_lists}'",
                consequence="Nobody, or everybody, would be held out",
                remedy="Give a share from 0 to below 1, and 'usual' or 'popular'",
            )

    def running(self) -> tuple[Experiment, ...]:
        """Return the experiments that run now, the hold-out first. Raises LakeError."""
        seen = self.followed.now()
        if seen != self._seen:
            begun = () if seen is None else listed(self.state)
            self._running = tuple(one for one in begun if not one.ended_at)
            self._seen = seen
        return (*self._held(), *self._running)

    def recall(self, lake: Lake) -> None:
        """Read from the lake who met which arm first. O(rows of EXPOSURES); about 150 bytes a person and experiment."""
        columns = ["at", "user_key", "what", "arm", "source"]
        rows = lake.read(EXPOSURES, columns=columns).filter(pl.col("source") == SOURCE).drop_nulls("user_key")
        first = rows.sort("at").group_by("what", "user_key", maintain_order=True).agg(pl.col("at", "arm").first())
        for what, key, at, arm in first.iter_rows():
            self._met.setdefault(what, {})[key] = (at, arm)

    def of(self, person: int, members: set[int], placement: str) -> list[Met]:
        """Return what somebody meets at a placement: the hold-out alone for the held out."""
        found = []
        for experiment in self.running():
            if not experiment.at(placement):
                continue
            met = self._arm(experiment, person, members)
            if met.arm == HELD_OUT and experiment.name != HOLD_OUT:
                continue  # held out since before this experiment: HOLD_OUT tells of them
            found.append(met)
            if met.arm == HELD_OUT:
                break
        return found

    def shown(self, met: Sequence[Met], person: int, at: dt.datetime) -> None:
        """Remember that somebody met these arms."""
        for one in met:
            self._met.setdefault(one.experiment.name, {}).setdefault(person, (at, one.arm))

    def _arm(self, experiment: Experiment, person: int, members: set[int]) -> Met:
        before = self._met.get(experiment.name, {})
        hold_out = 0.0 if experiment.name == HOLD_OUT else self.hold_out
        first = min((before[key] for key in members if key in before), default=None)
        if first is not None:
            chance = dict(experiment.shares).get(first[1], hold_out)
            return Met(experiment, first[1], chance if first[1] == HELD_OUT else chance * (1 - hold_out))
        if experiment.name == HOLD_OUT:
            told = assign([person], experiment=HOLD_OUT, arms={REST: 1.0}, hold_out=self.hold_out)
        else:
            told = assign([person], experiment=experiment.name, arms=experiment.shares, hold_out=self.hold_out)
        return Met(experiment, told["arm"][0], told["propensity"][0])

    def _held(self) -> tuple[Experiment, ...]:
        if not self.hold_out:
            return ()
        arms = (Arm(REST, 1 - self.hold_out), Arm(HELD_OUT, self.hold_out, lists=self.hold_out_lists))
        return (Experiment(HOLD_OUT, arms),)


def changed(question: Question, met: Sequence[Met], *, seed: int) -> Question:
    """Return the question as the arms somebody meets ask it."""
    for one in met:
        for arm in one.experiment.arms:
            if arm.name == one.arm:
                question = arm.changed(question, seed=seed)
    return question


def rows(
    met: Sequence[Met], answer: Answer, placement: str, *, recommendation_id: str, person: int, at: dt.datetime
) -> list[dict[str, Any]]:
    """Return the rows of EXPOSURES of one list."""
    return [
        {
            "exposure_id": f"{recommendation_id}:{one.experiment.name}",
            "at": at,
            "user_key": person,
            "what": one.experiment.name,
            "arm": one.arm,
            "propensity": one.propensity,
            "cost": None,
            "outcome": None,
            "recommendation_id": recommendation_id,
            "placement": placement,
            "items": json.dumps(answer.items, ensure_ascii=False),
            "chances": json.dumps([round(chance, 9) for chance in answer.chances]) if answer.chances else None,
            "source": SOURCE,
        }
        for one in met
    ]


def _checked(experiment: Experiment) -> None:
    names = [arm.name for arm in experiment.arms]
    total = sum(arm.share for arm in experiment.arms)
    found = ""
    if not experiment.name or len(experiment.name) > LONGEST or experiment.name == HOLD_OUT:
        found, remedy = "its name", f"Give a name of 1 to {LONGEST} characters that is not '{HOLD_OUT}'"
    elif not 2 <= len(names) <= MOST_ARMS or len(set(names)) < len(names) or HELD_OUT in names or "" in names:
        found, remedy = "its arms", f"Give 2 to {MOST_ARMS} arms with different names, none of them '{HELD_OUT}'"
    elif not all(0 < arm.share < 1 for arm in experiment.arms) or not math.isclose(total, 1, abs_tol=1e-9):
        found, remedy = f"shares that add up to {total:g}", "Give each arm a share above 0; together they make 1"
    for placement in experiment.placements:
        if placement not in PLACEMENTS:
            found, remedy = f"there is no placement '{placement}'", did_you_mean(placement, PLACEMENTS)
    for arm in experiment.arms:
        if arm.lists not in LISTS:
            found, remedy = f"'{arm.name}' has lists '{arm.lists}'", did_you_mean(arm.lists, LISTS)
        elif not 0 < arm.temperature <= 100:
            found, remedy = f"'{arm.name}' has a temperature of {arm.temperature:g}", "Give above 0, at most 100"
        elif not 0 <= (arm.diversity or 0) <= 1 or not -1 <= (arm.price or 0) <= 1:
            found, remedy = f"a knob of '{arm.name}'", "diversity is from 0 to 1, price from -1 to 1"
        elif arm.lists == "drawn" and arm.diversity:
            found, remedy = f"'{arm.name}' is drawn and diverse", "A drawn list has no known chances then: choose one"
    if found:
        raise _wrong(found, remedy)


def _clash(one: Experiment, other: Experiment) -> str:
    places = set(one.placements or PLACEMENTS) & set(other.placements or PLACEMENTS)
    knobs = [frozenset[str]().union(*(arm.knobs for arm in each.arms)) for each in (one, other)]
    return ", ".join(sorted(knobs[0] & knobs[1])) if places else ""


def _now() -> str:
    return dt.datetime.now(dt.UTC).isoformat(timespec="seconds")


def _wrong(found: str, remedy: str) -> UsageError:
    return UsageError("experiment", found=found, consequence="Nothing was changed", remedy=remedy)
