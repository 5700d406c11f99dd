"""Amazon Personalize: POST /events (PutEvents), /items and /users (PutItems, PutUsers), as boto3 and the JS SDK send.

    {trackingId, userId?, sessionId, eventList: [{eventType, sentAt, itemId?, eventValue?, eventId?, properties?, ...}]}

A sessionId stands for its visitor until a userId comes with it. `properties` is JSON as text, read under Segment's
names. Times are seconds since 1970 without a time of sending: a clock that is wrong stays wrong.
"""

from __future__ import annotations

import datetime as dt
from typing import Any

from habitue.collect.profiles import kind_of
from habitue.collect.sources import trackers
from habitue.collect.sources.blocks import Record
from habitue.collect.wires.body import BodyError, Described, Introduction, Messages, parsed, unnamed
from habitue.collect.wires.skew import seconds

SOURCE = "personalize"
LONGEST_BODY = 2**20
MOST = 10  # events, items or users of a request, Amazon's own limit


def events(content: Record, *, received: dt.datetime) -> Messages:
    """Read PutEvents. Raises BodyError when it is none, or holds too many."""
    session = content.get("sessionId")
    for number, event in enumerate(_listed(content, "eventList"), 1):
        properties = _properties(event)
        if properties is None:
            yield number, "bad_record"
            continue
        told = event.get("sentAt")
        name = event.get("eventType")
        kind = None if not isinstance(name, str) else kind_of(name) or trackers.name_of(name)
        beside = {"impression": event["impression"]} if event.get("impression") else {}
        for row in trackers.lines(
            {
                "type": "track",
                "event": kind,
                "messageId": event.get("eventId") or unnamed([content.get("userId"), session, event], timed=bool(told)),
                "userId": content.get("userId"),
                "anonymousId": session,
                "timestamp": received if told is None else seconds(told),
                "properties": {"product_id": event.get("itemId")}
                | properties
                | {"recommendation_id": event.get("recommendationId")},
                "context": {"sessionId": session},
            }
        ):
            if isinstance(row, dict):
                row["extra"] = row["extra"] | beside
                row["value"] = event.get("eventValue")  # an order's revenue stands in the event of each of its items
            yield number, row


def items(content: Record, *, received: dt.datetime) -> Messages:
    """Read PutItems: what a product is from now on."""
    for number, item in enumerate(_listed(content, "items"), 1):
        said = _properties(item)
        if said is None:
            yield number, "bad_record"
            continue
        known = {ours: said.pop(theirs) for theirs, ours in _ITEM.items() if theirs in said}
        yield number, Described(item.get("itemId"), received, known, said)


def users(content: Record, *, received: dt.datetime) -> Messages:
    """Read PutUsers: a person's attributes from now on."""
    for number, user in enumerate(_listed(content, "users"), 1):
        said = _properties(user)
        if said is None:
            yield number, "bad_record"
        else:
            yield number, Introduction(user.get("userId"), None, received, said)


_ITEM = {"title": "title", "TITLE": "title", "name": "title", "description": "description"}
_ITEM |= {"ITEM_DESCRIPTION": "description", "category": "category", "CATEGORY_L1": "category", "brand": "brand"}
_ITEM |= {"price": "price", "PRICE": "price", "currency": "currency"}


def _listed(content: Record, name: str) -> list[Record]:
    found = content.get(name)
    if not isinstance(found, list) or not all(isinstance(one, dict) for one in found):
        raise BodyError("invalid_request", f"The body has no list of objects named {name}.")
    if len(found) > MOST:
        raise BodyError("too_many", f"The list {name} holds more than {MOST}.")
    return found


def _properties(said: Record) -> Record | None:
    """Read the JSON text of `properties`; None when it is no object."""
    text = said.get("properties")
    if text is None:
        return {}
    try:
        found: Any = parsed(text.encode()) if isinstance(text, str) else text
    except BodyError:
        return None
    return found if isinstance(found, dict) else None
