"""One row as a tracker said it -> one row of EVENTS, or the reason it is refused: `typed` for one row at a time.

A server meets rows by ones and hundreds, where a Polars column costs more than it brings. A row of plain values, which
nearly all are, is read in one pass (`_plain`). Any other is read value by value (`_careful`), and whatever is written
in a harder way goes through the very functions that read files, as a column of one. So a wire and a file export of the
same tracker give the same rows, and both passes the same event (tests/collect/test_lines.py holds them together).
"""

from __future__ import annotations

import datetime as dt
import functools
import math
import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

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

_NAME, _TITLE, _WORDS, _NUMBER = range(4)  # how a plain value of each name is read
_NAMES = ("kind", "item_id", "order_id", "session_id", "surface", "channel", "recommendation_id", "campaign_id")
_LONG = ("title", "query", "text")
_MEASURES = ("price", "quantity", "value", "rating", "dwell_s", "scroll")
_HOW = dict.fromkeys(_NAMES, _NAME) | dict.fromkeys(_MEASURES, _NUMBER)
_HOW |= {name: _WORDS if name in FREE else _TITLE for name in _LONG}
_AS_STORED = ("event_id", *_NAMES)
_NOTHING: Event = dict.fromkeys(column.name for column in EVENTS.columns)
_ISO = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d{1,6})?(?:Z|[+-]\d\d:\d\d)", re.ASCII)
_DIGITS = re.compile(r"[+-]?\d{1,15}(?:\.\d{1,15})?", re.ASCII)
_ALONE = re.compile(r"\s*[A-Za-z]{3}\s*")
_SUSPECT = re.compile(r"[@\d０-９＠]")  # as protect.mask looks for
_SUSPICIOUS, _WIDE = b"@0123456789", "０".encode()[:2]  # as in UTF-8; every full-width letter begins so
_HARMLESS = re.compile(r"(?:0|[1-9]\d{0,5})(?:\.\d{1,4})?", re.ASCII)  # a number too short for what it looks for


class Person(NamedTuple):
    """Who a row is about, in the source's own ids; a guest is known by its order."""

    user_id: str | None
    anonymous_id: str | None


def read(row: Record, *, source: str, received: dt.datetime, currency: str) -> tuple[Event, Person] | str:
    """Return the event and whom it is about, or a reason code of `collect.refusals`.

    `row`: the names of `trackers.ROW`, and `extra`, a dict of what else is worth keeping. `currency`: of money that
    names none. `user_key` and `import_id` are left None: whoever stores the event knows them. About 4 us.
    """
    found = _plain(row, source, received, currency)
    return _careful(row, source, received, currency) if found is None else found


def _plain(row: Record, source: str, received: dt.datetime, shop: str) -> tuple[Event, Person] | None:
    """Read a row in one pass over what it holds, or return None: `_careful` reads any row, three times as slow."""
    event_id, at, extra = row.get("event_id"), row.get("at"), row.get("extra")
    if type(event_id) is not str or not 0 < len(event_id) <= LONGEST_ID or event_id.isspace():
        return None
    if type(at) is not dt.datetime and (at := moment(at)) is None:
        return None
    if at < FIRST or (at > received and at > received + AHEAD):
        return None
    event = _NOTHING.copy()
    event["source"], event["received_at"] = source, received
    event["event_id"], event["line"], event["at"] = event_id, row.get("line", 0), at
    for name, value in row.items():
        if value is None or (how := _HOW.get(name)) is None:
            continue
        of = type(value)
        if how == _NUMBER:
            if of is str and _DIGITS.fullmatch(value):
                value = float(value)
            elif of is not float and of is not int:
                return None
            if not -values.MONEY_LIMIT < value < values.MONEY_LIMIT:
                return None
            event[name] = value + 0.0  # -0.0 and 0.0 are one number
            continue
        if of is int and -(2**63) < value < 2**63:
            value = str(value)
        elif of is not str or not value or value.isspace():
            return None
        if len(value) > (LONGEST_NAME if how == _NAME else LONGEST_TEXT):
            return None
        event[name] = masked(value) if how == _WORDS else value
    if (place := row.get("position")) is not None:
        if type(place) is not int or not -(2**31) < place < 2**31:
            return None
        event["position"] = place
    if extra and (kept := beyond(extra)) is not None:
        if len(kept) > LONGEST_EXTRA:
            return None
        event["extra"] = kept
    person = Person(row.get("user_id"), row.get("anonymous_id"))
    for who in person:
        if who is not None and (type(who) is not str or not 0 < len(who) <= LONGEST_NAME or who.isspace()):
            return None
    if event["kind"] is None or (person == (None, None) and event["order_id"] is None):
        return None
    return None if _money(row.get("currency"), event, shop) else (event, person)


def _careful(row: Record, source: str, received: dt.datetime, currency: str) -> tuple[Event, Person] | str:
    """Read any row value by value, as `read` says."""
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
    return mask(told) if _SUSPECT.search(told) and not _HARMLESS.fullmatch(told) else told


def beyond(extra: Mapping[str, Any]) -> str | None:
    """Write what lies beyond the contract as JSON of words, each masked; None when nothing is left."""
    said = {}
    for name, value in extra.items():
        if type(value) is str:
            if value and not value.isspace():
                said[name] = value
        elif (told := word(value)) is not None:
            said[name] = told
    if not said:
        return None
    written = _encode()(said)
    if len(written.translate(None, _SUSPICIOUS)) != len(written) or _WIDE in written:
        written = _encode()({name: _masked_thing(told) for name, told in said.items()})
    return written.decode()


@functools.cache
def _encode() -> Callable[[Any], bytes]:
    encoder = need("msgspec", extra="serve", purpose="collect.lines").json.Encoder()
    return encoder.encode  # type: ignore[no-any-return]


def _json(said: dict[str, Any]) -> str:
    return _encode()(said).decode()


def refused(row: Record, person: int | None) -> str:
    """Write a refused row as JSON: the person as a key, every other word masked and cut at LONGEST_NAME.

    Ids and names are kept as an accepted row keeps them, and so is the moment: seconds like ":05.184105" look like a
    telephone number. What it holds is enough to read it again after a fix (`collect.replay`).
    """
    said: dict[str, Any] = {}
    for name, value in row.items():
        if name in PERSON or value is None:
            continue
        if isinstance(value, dict):
            said[name] = {k: masked(told)[:LONGEST_NAME] for k, v in value.items() if (told := word(v)) is not None}
        elif (told := word(value)) is not None:
            plain = name in _AS_STORED or isinstance(value, dt.datetime)
            said[name] = (told if plain else masked(told))[:LONGEST_NAME]
    if person is not None:
        said["user_key"] = person
    return _json(said)


@functools.lru_cache(1024)
def _hard_number(told: str) -> float | None:
    found, _ = values.numbers(pl.Series([told]))
    number: float | None = found[0]
    return number


def _masked_thing(told: str) -> str:
    """Mask a text about a thing; the short ones come again with every event, so 4 MB of them are remembered."""
    return _remembered(told) if len(told) <= 512 else masked(told)


_remembered = functools.lru_cache(8_192)(masked)


@functools.lru_cache(4096)
def _moment(told: str) -> dt.datetime | None:
    if _ISO.fullmatch(told):
        try:
            found = dt.datetime.fromisoformat(told)
            return found if found.tzinfo is dt.UTC else found.astimezone(dt.UTC)
        except (ValueError, OverflowError):
            return None
    read: dt.datetime | None = values.moments(pl.Series([told]), zone="UTC", time_format=None)[0]
    return read
