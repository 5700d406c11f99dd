"""Segment's HTTP tracking API, and RudderStack's, which is the same: one message, or a batch of them.

    POST /v1/{track,page,screen,identify,group,alias}, short {t,p,s,i,g,a}     POST /v1/batch, /v1/b

Time: at = receivedAt - (sentAt - originalTimestamp), as Segment does; `timestamp` is what its libraries call their own
originalTimestamp. Without a sentAt the client's time stands; without any time at all the moment of receiving does.
"""

from __future__ import annotations

import datetime as dt
import functools
from collections.abc import Callable
from typing import Any, TypedDict

from habitue.collect.sources import trackers
from habitue.collect.sources.blocks import Record
from habitue.collect.wires.body import BodyError, Introduction, Message, Messages, an_object, parsed, unnamed
from habitue.collect.wires.skew import corrected
from habitue.core.extras import need

SOURCE = "segment"
LONGEST_EVENT = 32 * 1024  # bytes of a body that is one event, Segment's own limit
LONGEST_BODY = 5 * 2**20  # of a batch, inflated: Segment's clients send up to 500 kB, RudderStack's 4 MB
MOST = 2_500  # events of a batch
TYPES = {"t": "track", "p": "page", "s": "screen", "i": "identify", "g": "group", "a": "alias"}
_EVENTS = ("track", "page", "screen")


class _Page(TypedDict, total=False):
    path: Any


class _Named(TypedDict, total=False):
    name: Any


class _Location(TypedDict, total=False):
    country: Any


class _Context(TypedDict, total=False):
    """What is read of the context: most of what browsers put into it is never made into objects."""

    page: _Page | None
    campaign: _Named | None
    location: _Location | None
    sessionId: Any
    channel: Any
    consent: Any
    traits: Any


class _Told(TypedDict, total=False):
    """What is read of a message."""

    type: Any
    event: Any
    event_text: Any
    messageId: Any
    userId: Any
    anonymousId: Any
    previousId: Any
    timestamp: Any
    originalTimestamp: Any
    sentAt: Any
    channel: Any
    properties: Any
    traits: Any
    context: _Context | None


class _Single(_Told, total=False):
    writeKey: Any


class _Batch(TypedDict, total=False):
    batch: list[_Told]
    context: _Context | None
    sentAt: Any
    writeKey: Any


def content_of(body: bytes, *, several: bool) -> Record:
    """Read what matters of a batch, or of one message; in less than half the time that reading all of it takes.

    A body in which something is not of the kind it should be is read whole, and so is one with a message that has no
    id: its id is made of everything it says. Raises BodyError.
    """
    msgspec = need("msgspec", extra="serve", purpose="collect.wires")
    try:
        content: Record = _decoder(several)(body)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError):
        return an_object(parsed(body))
    told = content.get("batch", ()) if several else (content,)
    named = all(message.get("messageId") is not None for message in told)
    return content if named else an_object(parsed(body))


@functools.cache
def _decoder(several: bool) -> Callable[[bytes], Record]:
    msgspec = need("msgspec", extra="serve", purpose="collect.wires")
    return msgspec.json.Decoder(_Batch if several else _Single).decode  # type: ignore[no-any-return]


def one(message: Record, *, kind: str, received: dt.datetime) -> Messages:
    """Read one message of the route's `kind`: "track" or "t", and so on."""
    message.setdefault("type", TYPES.get(kind, kind))
    for said in _message(message, message.get("sentAt"), received):
        yield 1, said


def batch(content: Record, *, received: dt.datetime) -> Messages:
    """Read a batch. Raises BodyError when it is none, or holds too many."""
    listed = content.get("batch")
    if not isinstance(listed, list):
        raise BodyError("invalid_request", "The body has no list named batch.")
    if len(listed) > MOST:
        raise BodyError("too_many", f"The batch holds more than {MOST:,} events.")
    return _numbered(listed, content, received)


def _numbered(listed: list[Any], outer: Record, received: dt.datetime) -> Messages:
    whole = outer.get("context")
    for number, message in enumerate(listed, 1):
        if not isinstance(message, dict):
            yield number, "bad_record"
            continue
        if isinstance(whole, dict):
            context = message.get("context")
            message["context"] = whole | context if isinstance(context, dict) else whole
        sent = message.get("sentAt") or outer.get("sentAt")
        for said in _message(message, sent, received):
            yield number, said


def _message(message: Record, sent: Any, received: dt.datetime) -> list[Message]:
    if message.get("messageId") is None:
        message["messageId"] = unnamed(message, timed=_told(message) is not None)
    message["timestamp"] = at = corrected(_told(message), sent, received)
    consent = _consent(message)
    kind = message.get("type", "track")
    if kind in _EVENTS:
        events: list[Message] = [*trackers.lines(message)]
        who = [Introduction(message.get("userId"), message.get("anonymousId"), at, consent=consent)] if consent else []
        return who + events
    if kind in ("identify", "alias", "group"):
        before = message.get("previousId") if kind == "alias" else message.get("anonymousId")
        traits = None
        if kind == "identify":  # RudderStack's libraries put them into the context
            traits = message.get("traits") or _inside(message, "traits")
        attributes = traits if isinstance(traits, dict) else {}
        return [Introduction(message.get("userId"), before, at, attributes, consent)]
    return ["no_event"]


def _told(message: Record) -> Any:
    return message.get("originalTimestamp") or message.get("timestamp") or None


def _consent(message: Record) -> dict[str, Any]:
    said = _inside(message, "consent")
    preferences = said.get("categoryPreferences") if isinstance(said, dict) else None
    return preferences if isinstance(preferences, dict) else {}


def _inside(message: Record, name: str) -> Any:
    context = message.get("context")
    return context.get(name) if isinstance(context, dict) else None
