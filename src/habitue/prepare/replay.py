"""Declared features event by event: the form a server keeps per user, equal to the table of `features`.

    states = start(declared)
    for event in events of one user before t, in order of (at, event_id, line):
        update(declared, states, event)
    values(declared, states, at=t)

An update takes constant time a feature (a window: amortised); a value too, but a window's costs the events in it.
Integers, sums, times and gaps equal the table exactly, decayed sums to 1e-9 relative. A late event is the caller's
matter: start again from the events kept.
"""

from __future__ import annotations

import datetime as dt
import math
from collections import OrderedDict, deque
from collections.abc import Mapping, Sequence
from typing import Any

from habitue.prepare.declared import OPERATORS, TINY, Feature, days

EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
MICROSECOND = dt.timedelta(microseconds=1)

State = dict[str, Any]


def start(declared: Sequence[Feature]) -> dict[str, State]:
    """Return the states of a user nothing is known about, by feature name."""
    return {feature.name: _start(feature) for feature in declared}


def update(declared: Sequence[Feature], states: dict[str, State], event: Mapping[str, Any]) -> None:
    """Take one EVENTS row (a mapping of its columns; `at` a UTC datetime) into the states, in place."""
    now = _us(event["at"])
    for feature in declared:
        if feature.kind not in ("ratio", "calendar") and _matches(feature, event):
            _update(feature, states[feature.name], event, now)


def values(declared: Sequence[Feature], states: Mapping[str, State], *, at: dt.datetime) -> dict[str, float | None]:
    """Return every feature as of `at`, by name; the states have met the events before `at` and no other."""
    found: dict[str, float | None] = {}
    for feature in declared:
        if feature.kind == "ratio":
            first, second = (found[name] for name in feature.of)
            found[feature.name] = None if first is None or not second else first / second
        elif feature.kind == "calendar":
            utc = at.astimezone(dt.UTC)
            found[feature.name] = float(utc.month if feature.column == "month" else utc.isoweekday())
        else:
            found[feature.name] = _value(feature, states[feature.name], _us(at))
    return found


def _us(moment: dt.datetime) -> int:
    return (moment - EPOCH) // MICROSECOND


def _matches(feature: Feature, event: Mapping[str, Any]) -> bool:
    if event["kind"] not in feature.kinds or any(event[c] is None for c in feature.per):
        return False
    found = ((event[column], sign, constant) for column, sign, constant in feature.where)
    return all(value is not None and OPERATORS[sign](value, constant) for value, sign, constant in found)


def _start(feature: Feature) -> State:
    if feature.window_days is not None:
        return {"recent": OrderedDict() if feature.per else deque()}
    match feature.kind:
        case "count" | "sum":
            return {"total": 0.0}
        case "distinct":
            return {"met": set()}
        case "decayed_sum":
            return {"total": 0.0, "seen": None, "met": set()}
        case "last":
            return {"total": None, "seen": None}
        case "days_since_first" | "days_since_last":
            return {"seen": None}
        case _:
            return {"seen": None, "n": 0, "total": 0.0, "square": 0.0}


def _update(feature: Feature, state: State, event: Mapping[str, Any], now: int) -> None:
    combination = tuple(event[c] for c in feature.per)
    amount = _amount(feature, event)
    if feature.window_days is not None:
        _slide(feature, state["recent"], combination, amount, now)
        return
    match feature.kind:
        case "count" | "sum":
            state["total"] += amount
        case "distinct":
            state["met"].add(combination)
        case "decayed_sum":
            if feature.per:
                amount = 0.0 if combination in state["met"] else amount
                state["met"].add(combination)
            state["total"] = _decayed(feature, state, now) + amount
            state["seen"] = now
        case "last":
            state["total"] = amount + (state["total"] if state["seen"] == now else 0.0)
            state["seen"] = now
        case "days_since_first":
            state["seen"] = now if state["seen"] is None else state["seen"]
        case "days_since_last":
            state["seen"] = now
        case _:
            if state["seen"] is not None and now > state["seen"]:
                gap = days(now - state["seen"])
                state["n"] += 1
                state["total"] += gap
                state["square"] += gap * gap
            state["seen"] = now


def _value(feature: Feature, state: State, now: int) -> float | None:
    if feature.window_days is not None:
        first = now - _length(feature)
        if feature.per:
            return float(sum(time >= first for time in state["recent"].values()))
        total = 0.0
        for time, amount in state["recent"]:
            total += amount if time >= first else 0.0
        return total
    match feature.kind:
        case "count" | "sum" | "last":
            return state["total"]  # type: ignore[no-any-return]
        case "distinct":
            return float(len(state["met"]))
        case "decayed_sum":
            return _decayed(feature, state, now)
        case "days_since_first" | "days_since_last":
            return None if state["seen"] is None else days(now - state["seen"])
        case _:
            return _gaps(feature, state)


def _amount(feature: Feature, event: Mapping[str, Any]) -> float:
    if feature.column is None:
        return 1.0
    value = event[feature.column]
    return 0.0 if value is None else float(value)


def _decayed(feature: Feature, state: State, now: int) -> float:
    if state["seen"] is None or feature.half_life_days is None:
        return 0.0
    return float(state["total"] * 2.0 ** (-days(now - state["seen"]) / feature.half_life_days))


def _gaps(feature: Feature, state: State) -> float | None:
    if state["n"] == 0:
        return None
    mean, square = state["total"] / state["n"], state["square"] / state["n"]
    if feature.kind == "gap_mean":
        return float(mean)
    variance = square - mean * mean
    return math.sqrt(variance) if variance > TINY * square else 0.0


def _slide(feature: Feature, recent: Any, combination: tuple[Any, ...], amount: float, now: int) -> None:
    """Take an event into a window and let go of what no later window can hold."""
    first = now - _length(feature)
    if feature.per:
        recent[combination] = now
        recent.move_to_end(combination)
        while recent[next(iter(recent))] < first:
            recent.popitem(last=False)
    else:
        recent.append((now, amount))
        while recent[0][0] < first:
            recent.popleft()


def _length(feature: Feature) -> int:
    return dt.timedelta(days=feature.window_days or 0) // MICROSECOND
