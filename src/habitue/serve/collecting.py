"""The routes trackers send to: read the body whatever its label says, take its events, answer as its client needs.

| code | when |
|---|---|
| 200 `{"success":true}` | every event that can be accepted is on the disk, those that cannot are in REFUSED |
| 400 | the body cannot be read, or is too large (413 makes Snowplow's tracker send it for ever) |
| 401 | the key may not send events |
| 408 | the body comes too slowly |
| 429, Retry-After | too much is waiting |
| 503, Retry-After | nothing can be stored: the disk is full, another process holds the workspace |

An error's body is JSON with code, message and detail: RudderStack's client reads the first two, PostHog's the third,
and both send again what they cannot read.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import datetime as dt
import json
import logging
from collections.abc import Callable
from typing import Any

from litestar import Request, Response, post
from litestar.datastructures import State
from litestar.exceptions import HTTPException

from habitue.collect.receiver import Busy, Receiver
from habitue.collect.wires import segment
from habitue.collect.wires.body import BodyError, Messages, an_object, inflated, parsed, too_large
from habitue.core.errors import LakeError

Asked = Request[Any, Any, State]
MaySend = Callable[[str | None], bool]  # a write key as the client names it, or None -> whether it may send events

SLOWEST_S = 30.0  # for a body to come
RETRY_S = 5  # when nothing can be stored
_OK = b'{"success":true}'
_log = logging.getLogger("habitue.serve")


def anyone(_key: str | None) -> bool:
    """Let everybody send: right for a server that only its own machine can reach."""
    return True


@post([f"/v1/{kind}" for pair in segment.TYPES.items() for kind in pair], status_code=200)
async def segment_message(request: Asked) -> Response[bytes]:
    """Take one message of Segment or RudderStack: track, page, screen, identify, group, alias, or its first letter."""
    body = await read(request, segment.LONGEST_EVENT)
    received = dt.datetime.now(dt.UTC)
    content = an_object(parsed(body))
    admit(request, basic(request) or content.get("writeKey"))
    kind = request.scope["path"].rsplit("/", 1)[-1]
    return await take(request, segment.one(content, kind=kind, received=received), segment.SOURCE, received)


@post(["/v1/batch", "/v1/b"], status_code=200)
async def segment_batch(request: Asked) -> Response[bytes]:
    """Take a batch of Segment's or RudderStack's messages."""
    body = await read(request, segment.LONGEST_BODY)
    received = dt.datetime.now(dt.UTC)
    content = an_object(parsed(body))
    admit(request, basic(request) or content.get("writeKey"))
    return await take(request, segment.batch(content, received=received, size=len(body)), segment.SOURCE, received)


async def read(request: Asked, limit: int) -> bytes:
    """Return the inflated body of at most `limit` bytes; memory never holds more than twice that.

    Raises BodyError: too_large, invalid_gzip, cut_off (the client went away), too_slow.
    """
    parts, size = [], 0
    try:
        async with asyncio.timeout(SLOWEST_S):
            more = True
            while more:
                message = await request.receive()
                if message["type"] == "http.disconnect":
                    raise BodyError("cut_off", "The body ended before it was complete.")
                assert message["type"] == "http.request"
                parts.append(message["body"])
                size += len(message["body"])
                if size > limit:
                    raise too_large(limit)
                more = message["more_body"]
    except TimeoutError as error:
        raise BodyError("too_slow", f"The body did not come within {SLOWEST_S:.0f} seconds.", status=408) from error
    return inflated(b"".join(parts), limit=limit)


async def take(request: Asked, messages: Messages, source: str, received: dt.datetime) -> Response[bytes]:
    """Accept messages and answer 200 once they are on the disk."""
    receiver: Receiver = request.app.state.receiver
    await receiver.take(messages, source, received)
    return Response(_OK, media_type="application/json", status_code=200)


def basic(request: Asked) -> str | None:
    """Return the user of HTTP Basic, which is where Segment's clients put the write key; with or without the colon."""
    scheme, _, given = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        return base64.b64decode(given, validate=True).decode().partition(":")[0] or None
    except (binascii.Error, UnicodeDecodeError):
        return None


def admit(request: Asked, key: Any) -> None:
    """Raise BodyError 401 unless the key may send events."""
    may_send: MaySend = request.app.state.may_send
    if not may_send(key if isinstance(key, str) else None):
        raise BodyError("unauthorized", "The write key is missing or unknown.", status=401)


def failed(code: str, message: str, status: int, *, retry_s: int | None = None) -> Response[bytes]:
    """Answer with an error that every client's library can read."""
    body = json.dumps({"success": False, "code": code, "message": message, "detail": message}).encode()
    headers = {} if retry_s is None else {"Retry-After": str(retry_s)}
    return Response(body, media_type="application/json", status_code=status, headers=headers)


def on_bad_body(_request: Asked, error: BodyError) -> Response[bytes]:
    """Answer a body that cannot be taken."""
    return failed(error.code, str(error), error.status)


def on_busy(_request: Asked, error: Busy) -> Response[bytes]:
    """Ask the client to wait."""
    return failed("too_many_requests", "Too much is waiting to be stored.", 429, retry_s=error.retry_s)


def on_lake_error(_request: Asked, error: LakeError) -> Response[bytes]:
    """Say that nothing was stored; the client keeps its events and sends them again."""
    _log.error("%s", error)
    return failed("unavailable", "The events cannot be stored now. Send them again later.", 503, retry_s=RETRY_S)


def on_http_error(_request: Asked, error: HTTPException) -> Response[bytes]:
    """Answer what the router refuses: an unknown path, another method."""
    words = {
        404: ("not_found", "There is no such path."),
        405: ("method_not_allowed", "The path takes another method."),
    }
    code, message = words.get(error.status_code, ("invalid_request", "The request cannot be read."))
    return failed(code, message, error.status_code)


def on_our_mistake(_request: Asked, error: Exception) -> Response[bytes]:
    """Answer an error that is ours: its place goes to the log, nothing of the request does."""
    _log.error("a request failed", exc_info=error)
    return failed("internal", "The server made a mistake; it is in its log.", 500)


ERRORS: dict[int | type[Exception], Callable[[Asked, Any], Response[Any]]] = {
    BodyError: on_bad_body,
    Busy: on_busy,
    LakeError: on_lake_error,
    HTTPException: on_http_error,
    Exception: on_our_mistake,
}
