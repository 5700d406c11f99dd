"""GA4's Measurement Protocol: POST /mp/collect?measurement_id=&api_secret=

    {client_id, user_id?, timestamp_micros?, events: [{name, params: {..., items: [...]}, timestamp_micros?}]}

It has neither ids nor a time of sending: equal body and equal client time are the same event, and a clock that is wrong
stays wrong. Google's own server answers every request with 204.
"""

from __future__ import annotations

import datetime as dt

from habitue.collect.sources import trackers
from habitue.collect.sources.blocks import Record
from habitue.collect.wires.body import BodyError, Messages, unnamed
from habitue.collect.wires.skew import microseconds

SOURCE = "ga4"
LONGEST_BODY = 130_000  # bytes, Google's own limit
MOST = 25  # events of a request, Google's own limit


def batch(content: Record, *, received: dt.datetime) -> Messages:
    """Read a request. Raises BodyError when it is none, or holds too many."""
    events = content.get("events")
    if not isinstance(events, list):
        raise BodyError("invalid_request", "The body has no list named events.")
    if len(events) > MOST:
        raise BodyError("too_many", f"The request holds more than {MOST} events.")
    who = {name: content.get(name) for name in ("client_id", "user_id")}
    for number, event in enumerate(events, 1):
        if not isinstance(event, dict) or not isinstance(event.get("params", {}), dict):
            yield number, "bad_record"
            continue
        told = event.get("timestamp_micros", content.get("timestamp_micros"))
        params: Record = event.get("params", {})
        base = {
            "event_id": unnamed([who, told, event], timed=told is not None),
            "at": received if told is None else microseconds(told),
            "user_id": content.get("user_id"),
            "anonymous_id": content.get("client_id"),
            "campaign_id": params.get("campaign"),
        }
        for row in trackers.ga4_lines(event.get("name"), params, params.get("items"), base):
            yield number, row
