"""PostHog's capture: POST /batch/, /capture/, /e/, /i/v0/e/ with {api_key, batch, sent_at}, a list, or one event.

`distinct_id` is a person's once they are identified, and a visitor's before: posthog-js says which, and so does a
distinct_id that is the device's own. A server's library sends what the shop names: it is taken for a user.
Time: at = received - (sent_at - timestamp); with `offset` (milliseconds), at = received - offset; a batch of
`historical_migration` keeps its times. Names that begin with $ are PostHog's own: those of a shopper are taken, the
others (`$feature_flag_called` and the like) are no events of a shop.
"""

from __future__ import annotations

import base64
import datetime as dt
from collections.abc import Iterator
from typing import Any
from urllib.parse import parse_qs

from habitue.collect.sources import trackers
from habitue.collect.sources.blocks import Record
from habitue.collect.wires.body import BodyError, Introduction, Message, Messages, parsed, unnamed
from habitue.collect.wires.skew import corrected

SOURCE = "posthog"
LONGEST_BODY = 5 * 2**20  # bytes inflated, what its clients send at most
MOST = 5_000  # events of a request
OWN = {"$pageview": "Page Viewed", "$screen": "Screen Viewed", "$pageleave": "Dwelled", "$rageclick": "Rage Clicked"}
_INTRODUCING = ("$identify", "$set", "$set_once", "$create_alias")


def content_of(body: bytes) -> Any:
    """Read the body: JSON, or a form whose field `data` is JSON in base64. Raises BodyError."""
    if not body.startswith(b"data="):
        return parsed(body)
    try:
        return parsed(base64.b64decode(parse_qs(body.decode("ascii"))["data"][0], validate=True))
    except (KeyError, ValueError) as error:
        raise BodyError("invalid_json", "The form's field data is no JSON in base64.") from error


def key_of(content: Any) -> Any:
    """Return the project's key: of the request, or of its first event."""
    one = content[0] if isinstance(content, list) and content else content
    if not isinstance(one, dict):
        return None
    properties = one.get("properties")
    inner = properties.get("token") if isinstance(properties, dict) else None
    return one.get("api_key") or one.get("token") or inner


def batch(content: Any, *, received: dt.datetime) -> Messages:
    """Read a request. Raises BodyError when it is none, or holds too many."""
    outer: Record = content if isinstance(content, dict) else {}
    events = outer.get("batch", outer.get("data")) if isinstance(content, dict) else content
    if events is None and "event" in outer:
        events = [outer]
    if not isinstance(events, list):
        raise BodyError("invalid_request", "The body has neither a list named batch nor an event.")
    if len(events) > MOST:
        raise BodyError("too_many", f"The request holds more than {MOST:,} events.")
    sent = None if outer.get("historical_migration") is True else outer.get("sent_at")
    for number, event in enumerate(events, 1):
        for said in _event(event, sent, received) if isinstance(event, dict) else ("bad_record",):
            yield number, said


def _event(event: Record, sent: Any, received: dt.datetime) -> Iterator[Message]:
    given = event.get("properties")
    p: Record = given if isinstance(given, dict) else {}
    name = event.get("event")
    distinct = event.get("distinct_id") or p.get("distinct_id")
    visitor = p.get("$is_identified") is False or distinct == p.get("$device_id")
    user_id = None if visitor else distinct
    anonymous_id = distinct if visitor else p.get("$anon_distinct_id") or p.get("$device_id")
    offset: Any = event.get("offset")
    told = event.get("timestamp")
    if told is None and type(offset) in (int, float) and abs(offset) < 10**11:
        at: Any = received - dt.timedelta(milliseconds=offset)
    else:
        at = corrected(told, sent, received)
    if name in _INTRODUCING:
        if name == "$create_alias":
            anonymous_id = p.get("alias")
        attributes = event.get("$set") or p.get("$set")
        yield Introduction(user_id, anonymous_id, at, attributes if isinstance(attributes, dict) else {})
        return
    if isinstance(name, str) and name.startswith("$") and name not in OWN:
        yield "no_event"
        return
    kind = OWN.get(name, trackers.name_of(name)) if isinstance(name, str) else None
    yield from trackers.lines(
        {
            "type": "track",
            "event": kind,
            "messageId": event.get("uuid") or p.get("$insert_id") or unnamed(event, timed=told is not None),
            "userId": user_id,
            "anonymousId": anonymous_id,
            "timestamp": at,
            "properties": _properties(p) if name == "$pageleave" else p,
            "context": {
                "sessionId": p.get("$session_id"),
                "page": {"path": p.get("$pathname")},
                "campaign": {"name": p.get("utm_campaign")},
            },
        }
    )


def _properties(p: Record) -> Record:
    """Return how long a page was open and how far it was scrolled."""
    return {"dwell_s": p.get("$prev_pageview_duration"), "scroll": p.get("$prev_pageview_max_scroll_percentage")}
