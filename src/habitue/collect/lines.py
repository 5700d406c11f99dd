"""One row as a tracker said it -> one row of EVENTS, or the reason it is refused: `typed` for one row at a time.

A server meets rows by ones and hundreds, where a Polars column costs more than it brings. Plain values are read here;
whatever is written in a harder way goes through the very functions that read files, as a column of one. So a wire and a
file export of the same tracker give the same rows (tests/collect/test_lines.py holds them against each other).
"""

from __future__ import annotations

import datetime as dt
import functools
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import polars as pl

from habitue.collect import values
from habitue.collect.mapping import FREE
from habitue.collect.sources.blocks import Record, text
from habitue.core.extras import need
from habitue.core.schemas import EVENTS, REFUND
from habitue.protect.mask import mask

Event = dict[str, Any]  # one row of EVENTS: every column, None where there is nothing; moments are UTC datetimes

LONGEST_ID = 100  # characters of an event id, as Segment's
LONGEST_NAME = 256  # of any other id or name
LONGEST_TEXT = 8_192  # of a customer's own words, and of a title
LONGEST_EXTRA = 16_384  # of everything beyond the contract, as JSON
AHEAD = dt.timedelta(days=1)  # a clock may be wrong by this much after it was corrected
FIRST = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
PERSON = ("user_id", "anonymous_id")

_NAMES = ("kind", "item_id", "order_id", "session_id", "surface", "channel", "recommendation_id", "campaign_id")
_LONG = ("title", "query", "text")
_MEASURES = ("price", "quantity", "value", "rating", "dwell_s", "scroll")
_NOTHING: Event = dict.fromkeys(column.name for column in EVENTS.columns)
_ISO = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d{1,6})?(?:Z|[+-]\d\d:\d\d)", re.ASCII)
_DIGITS = re.compile(r"[+-]?\d{1,15}(?:\.\d{1,15})?", re.ASCII)
_ALONE = re.compile(r"\s*[A-Za-z]{3}\s*")
_SUSPECT = re.compile(r"[@\d０-９＠]")  # as protect.mask looks for


@dataclass(frozen=True)
class Person:
    """Who a row is about, in the source's own ids; a guest is known by its order."""

    user_id: str | None
    anonymous_id: str | None


def read(row: Record, *, source: str, received: dt.datetime, currency: str) -> tuple[Event, Person] | str:
    """Return the event and whom it is about, or a reason code of `collect.refusals`.

    `row`: the names of `trackers.ROW`, and `extra`, a dict of what else is worth keeping. `currency`: of money that
    names none. `user_key` and `import_id` are left None: whoever stores the event knows them. About 8 us.
    """
    event = _NOTHING.copy()
    event["source"], event["received_at"] = source, received
    event_id = word(row.get("event_id"))
    if event_id is None:
        return "missing_event_id"
    if len(event_id) > LONGEST_ID:
        return "too_long"
    event["event_id"], event["line"] = event_id, row.get("line", 0)
    told = row.get("at")
    at = moment(told)
    if at is None:
        return "missing_time" if word(told) is None else "bad_time"
    if not FIRST <= at <= received + AHEAD:
        return "far_time"
    event["at"] = at
    for name in _MEASURES:
        if (value := row.get(name)) is not None:
            if (number := measure(value)) is None and word(value) is not None:
                return f"bad_{name}"
            event[name] = number
    if (value := row.get("position")) is not None:
        place = measure(value)
        if (place is None or place != math.floor(place) or abs(place) >= 2**31) and word(value) is not None:
            return "bad_position"
        event["position"] = None if place is None else int(place)
    if (reason := _words(row, event)) is not None:
        return reason
    person = Person(word(row.get("user_id")), word(row.get("anonymous_id")))
    if any(len(one) > LONGEST_NAME for one in (person.user_id, person.anonymous_id) if one):
        return "too_long"
    if event["kind"] is None:
        return "missing_kind"
    if person.user_id is None and person.anonymous_id is None and event["order_id"] is None:
        return "missing_user_and_order"
    return _money(row.get("currency"), event, currency) or (event, person)


def _words(row: Record, event: Event) -> str | None:
    """Read names, words and what else is kept; returns a reason code where one is too long."""
    for name in _NAMES:
        if (value := row.get(name)) is not None:
            event[name] = told = word(value)
            if told is not None and len(told) > LONGEST_NAME:
                return "too_long"
    for name in _LONG:
        if (value := row.get(name)) is not None:
            told = word(value)
            if told is not None:
                if len(told) > LONGEST_TEXT:
                    return "too_long"
                event[name] = masked(told) if name in FREE else told
    if extra := row.get("extra"):
        event["extra"] = told = beyond(extra)
        if told is not None and len(told) > LONGEST_EXTRA:
            return "too_long"
    return None


def _money(told: Any, event: Event, shop: str) -> str | None:
    """Complete currency and value, and turn a refund against the shop; returns a reason code or None."""
    written = word(told)
    found = None if written is None else currency_of(written[:LONGEST_NAME])
    if found is None and written is not None and _ALONE.fullmatch(written):
        return "bad_currency"
    event["currency"] = found or shop
    price, quantity = event["price"], event["quantity"]
    if price is not None and quantity is not None:
        counted = price * quantity
        if abs(counted) >= values.MONEY_LIMIT:
            return "bad_value"
        if event["value"] is None:
            event["value"] = counted
    if event["kind"] == REFUND:
        for name in ("quantity", "value"):
            if event[name] is not None:
                event[name] = -abs(event[name])
    return None


def word(value: Any) -> str | None:
    """Write a value as text; blanks alone are nothing, and so is a number too long to be anybody's."""
    if type(value) is str:
        return None if not value or value.isspace() else value
    if isinstance(value, int) and abs(value) >= 2**128:
        return "9" * (LONGEST_NAME + 1)  # Python refuses to write it; no field takes it
    told = text(value)
    return None if told is None or not told.strip() else told


def measure(value: Any) -> float | None:
    """Read a finite number below the limit of money, written in whatever way `values.numbers` reads; else None."""
    if type(value) is float or type(value) is int:
        number = float(value) if abs(value) < values.MONEY_LIMIT else None
        return number + 0.0 if number is not None else None  # -0.0 and 0.0 are one number
    told = word(value)
    if told is None or len(told) > LONGEST_NAME:
        return None
    if _DIGITS.fullmatch(told):
        number = float(told)
        return number + 0.0 if abs(number) < values.MONEY_LIMIT else None
    return _hard_number(told)


def moment(value: Any) -> dt.datetime | None:
    """Read a UTC moment, as `values.moments` does for ISO 8601 with UTC as its zone; None when it cannot be read."""
    if isinstance(value, dt.datetime):
        return value
    return _moment(value) if isinstance(value, str) and len(value) <= 64 else None


@functools.lru_cache(4096)
def currency_of(written: str) -> str | None:
    """Read the ISO 4217 code in a text, as `values.currencies`."""
    found: str | None = values.currencies(pl.Series([written]))[0]
    return found


def masked(told: str) -> str:
    """Mask a text of the customer's own; most cost nothing, see `protect.mask`."""
    return mask(told) if _SUSPECT.search(told) else told


def beyond(extra: Mapping[str, Any]) -> str | None:
    """Write what lies beyond the contract as JSON of words, each masked; None when nothing is left."""
    said = {name: masked(told) for name, value in extra.items() if (told := word(value)) is not None}
    return _json(said) if said else None


@functools.cache
def _encode() -> Callable[[Any], bytes]:
    encoder = need("msgspec", extra="serve", purpose="collect.lines").json.Encoder()
    return encoder.encode  # type: ignore[no-any-return]


def _json(said: dict[str, Any]) -> str:
    return _encode()(said).decode()


def refused(row: Record, person: int | None) -> str:
    """Write a refused row as JSON: the person as a key, every other word masked and cut at LONGEST_NAME.

    What it holds is enough to read it again after a fix (`receiver.again`).
    """
    said: dict[str, Any] = {}
    for name, value in row.items():
        if name in PERSON or value is None:
            continue
        if isinstance(value, dict):
            said[name] = {k: masked(told)[:LONGEST_NAME] for k, v in value.items() if (told := word(v)) is not None}
        elif (told := word(value)) is not None:
            said[name] = masked(told)[:LONGEST_NAME]
    if person is not None:
        said["user_key"] = person
    return _json(said)


@functools.lru_cache(1024)
def _hard_number(told: str) -> float | None:
    found, _ = values.numbers(pl.Series([told]))
    number: float | None = found[0]
    return number


@functools.lru_cache(4096)
def _moment(told: str) -> dt.datetime | None:
    if _ISO.fullmatch(told):
        try:
            return dt.datetime.fromisoformat(told).astimezone(dt.UTC)
        except (ValueError, OverflowError):
            return None
    found: dt.datetime | None = values.moments(pl.Series([told]), zone="UTC", time_format=None)[0]
    return found
