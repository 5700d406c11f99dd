"""What was sensed of a person: POST /v1/signals, Habitue's own, for there is no client of others to be like.

    {user_id? | anonymous_id?, session_id?, sent_at?, signals: [{signal, at, value, unit?, id?}, ...]}

Time: at = received - (sent_at - at), as Segment does. A value is known by its `id`, else by all it says: sent twice it
is stored once.
"""

from __future__ import annotations

import datetime as dt

from habitue.collect import lines
from habitue.collect.ids import keyed_one
from habitue.collect.sources.blocks import Record
from habitue.collect.wires.body import BodyError, Message, Messages, Owned
from habitue.collect.wires.skew import corrected

SOURCE = "signals"
LONGEST_BODY = 2**20  # bytes inflated
MOST = 10_000  # values of a request


def signals(content: Record, *, received: dt.datetime, secret: bytes) -> Messages:
    """Read a request. Raises BodyError when it is none, or holds too many."""
    listed = content.get("signals")
    if not isinstance(listed, list):
        raise BodyError("invalid_request", "The body has no list named signals.")
    if len(listed) > MOST:
        raise BodyError("too_many", f"The request holds more than {MOST:,} values.")
    return ((number, _value(one, content, received, secret)) for number, one in enumerate(listed, 1))


def _value(one: object, outer: Record, received: dt.datetime, secret: bytes) -> Message:
    """Return one value, or the reason code it is refused for."""
    if not isinstance(one, dict):
        return "bad_record"
    words = [lines.word(one.get(name)) for name in ("signal", "unit", "id")]
    signal, unit, own = words
    session = lines.word(outer.get("session_id"))
    if signal is None:
        return "missing_signal"
    if any(len(word) > lines.LONGEST_NAME for word in (*words, session) if word is not None):
        return "too_long"
    if lines.word(one.get("value")) is None:
        return "missing_value"
    value = lines.measure(one["value"])
    if value is None:
        return "bad_value"
    if lines.word(one.get("at")) is None:
        return "missing_time"
    at = lines.moment(corrected(one["at"], outer.get("sent_at"), received))
    if at is None:
        return "bad_time"
    if not lines.FIRST <= at <= received + lines.AHEAD:
        return "far_time"
    who = (outer.get("user_id"), outer.get("anonymous_id"))
    said = repr((who, session, own) if own else (who, session, signal, one["at"], value, unit))
    row = {"signal_id": keyed_one(said, source=SOURCE, secret=secret), "at": at, "signal": signal}
    return Owned("signals", row | {"value": value, "unit": unit, "session_id": session}, *who)
