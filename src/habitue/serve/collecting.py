"""The routes trackers send to: read the body whatever its label says, take its events, answer as its client needs.

| code | when |
|---|---|
| 200 `{"success":true}` | every event that can be accepted is on the disk, those that cannot are in REFUSED |
| 400 | the body cannot be read, or is too large (413 makes Snowplow's tracker send it for ever) |
| 401, 403 | the key is missing, unknown or may not send events |
| 408 | the body comes too slowly |
| 429, Retry-After | too much is waiting, or the key sends more often than it may |
| 503, Retry-After | nothing can be stored: the disk is full, another process holds the workspace |

An error's body is a `problems.Problem`.
"""

from __future__ import annotations

import base64
import datetime as dt
import logging
import re
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

from litestar import Response, delete, get, patch, post, route
from litestar.exceptions import HTTPException
from litestar.types import Message, Scope

from habitue.collect.receiver import Busy, Receiver
from habitue.collect.wires import ga4, gorse, personalize, posthog, segment, snowplow
from habitue.collect.wires.body import BodyError, Messages, an_object, inflated, parsed
from habitue.core.errors import LakeError
from habitue.serve.fields import Asked, came, header, this_machine
from habitue.serve.keys import CATALOGUE, COLLECT, USERS, Door
from habitue.serve.problems import Problem

RETRY_S = 5  # when nothing can be stored
_PIXEL = base64.b64decode("R0lGODlhAQABAIAAAAAAAP///yH5BAEAAAAALAAAAAABAAEAAAIBRAA7")
_ASKED_HEADERS = b"access-control-request-headers"
_OK = b'{"success":true}'
_log = logging.getLogger("habitue.serve")


@post([f"/v1/{kind}" for pair in segment.TYPES.items() for kind in pair], status_code=200)
async def segment_message(request: Asked) -> Response[bytes]:
    """Take one message of Segment or RudderStack: track, page, screen, identify, group, alias, or its first letter."""
    body = await read(request, segment.LONGEST_EVENT)
    received = dt.datetime.now(dt.UTC)
    content = segment.content_of(body, several=False)
    admit(request, basic(request) or content.get("writeKey"))
    kind = request.scope["path"].rsplit("/", 1)[-1]
    return await take(request, segment.one(content, kind=kind, received=received), segment.SOURCE, received)


@post(["/v1/batch", "/v1/b"], status_code=200)
async def segment_batch(request: Asked) -> Response[bytes]:
    """Take a batch of Segment's or RudderStack's messages."""
    body = await read(request, segment.LONGEST_BODY)
    received = dt.datetime.now(dt.UTC)
    content = segment.content_of(body, several=True)
    admit(request, basic(request) or content.get("writeKey"))
    return await take(request, segment.batch(content, received=received), segment.SOURCE, received)


@post("/com.snowplowanalytics.snowplow/tp2", status_code=200)
async def snowplow_batch(request: Asked) -> Response[bytes]:
    """Take a request of Snowplow's trackers."""
    body = await read(request, snowplow.LONGEST_BODY)
    received = dt.datetime.now(dt.UTC)
    admit(request, key_in_query(request))
    return await take(request, snowplow.batch(an_object(parsed(body)), received=received), snowplow.SOURCE, received)


@get("/i", status_code=200, opt={"type": "image/gif"})
async def snowplow_pixel(request: Asked) -> Response[bytes]:
    """Take one event of Snowplow in a query, and answer with a picture of one pixel."""
    received = dt.datetime.now(dt.UTC)
    admit(request, key_in_query(request))
    said = {name: value for name, value in request.query_params.items() if isinstance(value, str)}
    await take(request, snowplow.pixel(said, received=received), snowplow.SOURCE, received)
    return Response(_PIXEL, media_type="image/gif", status_code=200, headers={"Cache-Control": "no-store"})


@post("/mp/collect", status_code=204)
async def ga4_batch(request: Asked) -> None:
    """Take a request of GA4's Measurement Protocol; the key is its api_secret."""
    body = await read(request, ga4.LONGEST_BODY)
    received = dt.datetime.now(dt.UTC)
    admit(request, request.query_params.get("api_secret"))
    await take(request, ga4.batch(an_object(parsed(body)), received=received), ga4.SOURCE, received)


@post([f"{path}{end}" for path in ("/batch", "/capture", "/e", "/i/v0/e") for end in ("", "/")], status_code=200)
async def posthog_batch(request: Asked) -> Response[bytes]:
    """Take a request of PostHog's clients."""
    body = await read(request, posthog.LONGEST_BODY)
    received = dt.datetime.now(dt.UTC)
    content = posthog.content_of(body)
    admit(request, posthog.key_of(content))
    return await take(request, posthog.batch(content, received=received), posthog.SOURCE, received)


@route(
    ["/flags", "/decide", "/s", "/array/{key:str}/config", "/array/{key:str}/config.js"],
    http_method=["GET", "POST"],
    status_code=200,
)
async def posthog_beside() -> Response[bytes]:
    """Answer what posthog-js asks beside: no flags, no recording, no settings."""
    return Response(b"{}", media_type="application/json", status_code=200)


@get("/v1/projects/{key:str}/settings")
async def segment_settings(request: Asked) -> Response[dict[str, Any]]:
    """Tell Segment's browser client where to send: here."""
    host = request.headers.get("host", "127.0.0.1")
    there = {"apiKey": request.path_params["key"], "apiHost": f"{host}/v1", "protocol": request.url.scheme}
    return Response({"integrations": {"Segment.io": there}}, status_code=200)


@route("/api/feedback", http_method=["POST", "PUT"], status_code=200)
async def gorse_feedback(request: Asked) -> Response[dict[str, int]]:
    """Take Gorse's feedback."""
    return await _gorse(request, gorse.feedback)


@post(["/api/item", "/api/items"], status_code=200)
async def gorse_items(request: Asked) -> Response[dict[str, int]]:
    """Take what Gorse's clients say of items."""
    return await _gorse(request, gorse.items, CATALOGUE)


@post(["/api/user", "/api/users"], status_code=200)
async def gorse_users(request: Asked) -> Response[dict[str, int]]:
    """Take what Gorse's clients say of users."""
    return await _gorse(request, gorse.users, USERS)


@patch("/api/item/{item_id:str}", status_code=200)
async def gorse_item_changed(request: Asked) -> Response[dict[str, int]]:
    """Take what is new about a product: it holds from now on, and what is not named stays as it was."""
    return await _gorse(request, gorse.items, CATALOGUE, ItemId=request.path_params["item_id"], Timestamp=None)


@delete("/api/item/{item_id:str}", status_code=200)
async def gorse_item_hidden(request: Asked) -> Response[dict[str, int]]:
    """Show a product to nobody from now on; what was done with it stays known."""
    admit(request, request.headers.get("x-api-key"), CATALOGUE)
    said = {"ItemId": request.path_params["item_id"], "IsHidden": True}
    return await _gorse_taken(request, gorse.items, said)


@patch("/api/user/{user_id:str}", status_code=200)
async def gorse_user_changed(request: Asked) -> Response[dict[str, int]]:
    """Take the labels of a user, from now on."""
    return await _gorse(request, gorse.users, USERS, UserId=request.path_params["user_id"])


async def _gorse(
    request: Asked, wire: Callable[..., Messages], scope: str = COLLECT, **of_path: str | None
) -> Response[dict[str, int]]:
    body = await read(request, gorse.LONGEST_BODY)
    admit(request, request.headers.get("x-api-key"), scope)
    content = parsed(body)
    return await _gorse_taken(request, wire, {**an_object(content), **of_path} if of_path else content)


async def _gorse_taken(request: Asked, wire: Callable[..., Messages], content: Any) -> Response[dict[str, int]]:
    received = dt.datetime.now(dt.UTC)
    messages = list(wire(content, received=received))
    await take(request, iter(messages), gorse.SOURCE, received)
    return Response({"RowAffected": len(messages)}, status_code=200)


@post("/events", status_code=200)
async def personalize_events(request: Asked) -> Response[bytes]:
    """Take PutEvents of Amazon Personalize."""
    return await _personalize(request, personalize.events)


@post("/items", status_code=200)
async def personalize_items(request: Asked) -> Response[bytes]:
    """Take PutItems of Amazon Personalize."""
    return await _personalize(request, personalize.items, CATALOGUE)


@post("/users", status_code=200)
async def personalize_users(request: Asked) -> Response[bytes]:
    """Take PutUsers of Amazon Personalize."""
    return await _personalize(request, personalize.users, USERS)


async def _personalize(request: Asked, wire: Callable[..., Messages], scope: str = COLLECT) -> Response[bytes]:
    body = await read(request, personalize.LONGEST_BODY)
    received = dt.datetime.now(dt.UTC)
    admit(request, aws_key(request), scope)
    await take(request, wire(an_object(parsed(body)), received=received), personalize.SOURCE, received)
    return Response(b"", media_type="application/json", status_code=200)


async def read(request: Asked, limit: int) -> bytes:
    """Return the inflated body of at most `limit` bytes; memory never holds more than twice that.

    Raises BodyError: too_large, invalid_gzip, cut_off (the client went away), too_slow.
    """
    return inflated(await came(request, limit), limit=limit)


async def take(request: Asked, messages: Messages, source: str, received: dt.datetime) -> Response[bytes]:
    """Accept messages and answer 200 once they are on the disk."""
    receiver: Receiver = request.app.state.receiver
    with request.app.state.traces.span("store", source=source):
        await receiver.take(messages, source, received)
    return Response(_OK, media_type="application/json", status_code=200)


def basic(request: Asked) -> str | None:
    """Return the user of HTTP Basic, which is where Segment's clients put the write key; with or without the colon."""
    scheme, _, given = header(request, "authorization").partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        return base64.b64decode(given, validate=True).decode().partition(":")[0] or None
    except ValueError:  # no base64, letters beyond ASCII, or no UTF-8 in it
        return None


def key_in_query(request: Asked) -> str | None:
    """Return the key of a tracker that can only be given another path or query: `?write_key=`, or Basic."""
    return request.query_params.get("write_key") or basic(request)


def aws_key(request: Asked) -> str | None:
    """Return the access key id of an AWS signature: where an AWS client puts the key. The signature is not read."""
    found = re.search(r"Credential=([^/,\s]+)", header(request, "authorization"))
    return found[1] if found else None


def key_of(request: Asked) -> str | None:
    """Return the key from where any client may put it: X-API-Key, Bearer, Basic, an AWS signature."""
    scheme, _, given = header(request, "authorization").partition(" ")
    bearer = given.strip() if scheme.lower() == "bearer" else None
    return header(request, "x-api-key") or bearer or basic(request) or aws_key(request)


def from_elsewhere(request: Asked) -> bool:
    """Whether a browser asks for a page that does not come from this machine."""
    origin = header(request, "origin")
    try:
        return bool(origin) and not this_machine(urlsplit(origin).hostname or "")
    except ValueError:  # no address
        return True


def admit(request: Asked, key: Any, scope: str = COLLECT) -> None:
    """Go on when the key may do this: what products and users are, a write key may not say.

    `key`: what stood where this tracker puts it; without one there, any of `key_of`'s places.

    Raises Problem 401, 403, 429.
    """
    door: Door = request.app.state.door
    text = key if isinstance(key, str) and key else key_of(request)
    door.admit(text, scope, page=from_elsewhere(request))


async def let_pages_ask(message: Message, scope: Scope) -> None:
    """Allow any page to read the answer (CORS): the key decides, and no cookie is ever looked at.

    The Origin is echoed, for Snowplow's browser tracker asks with credentials, where a * is not allowed.
    """
    if message["type"] == "http.response.start":
        asked = {name: value for name, value in scope["headers"] if name in (b"origin", _ASKED_HEADERS)}
        if origin := asked.get(b"origin"):
            more = [(b"access-control-allow-origin", origin), (b"access-control-allow-credentials", b"true")]
            if scope.get("method") == "OPTIONS":
                more += [(b"access-control-allow-headers", asked.get(_ASKED_HEADERS, b"*"))]
                more += [(b"access-control-allow-methods", b"GET, POST, PUT"), (b"access-control-max-age", b"86400")]
            message["headers"] = [*message["headers"], *more, (b"vary", b"Origin")]


def answer(problem: Problem) -> Response[dict[str, Any]]:
    """Answer with a problem; its body is what every client's library can read."""
    return Response(problem.body(), status_code=problem.status, headers=problem.headers())


def on_problem(_request: Asked, problem: Problem) -> Response[dict[str, Any]]:
    """Answer what was said to be wrong."""
    return answer(problem)


def on_bad_body(_request: Asked, error: BodyError) -> Response[dict[str, Any]]:
    """Answer a body that cannot be taken."""
    return answer(Problem(error.status, error.code, str(error), "Nothing of it was stored (docs/collect.md)"))


def on_busy(_request: Asked, error: Busy) -> Response[dict[str, Any]]:
    """Ask the client to wait."""
    words = ("Too much is waiting to be stored", "Wait as long as Retry-After says, then send it again")
    return answer(Problem(429, "too_many_requests", *words, retry_after_s=error.retry_s))


def on_lake_error(_request: Asked, error: LakeError) -> Response[dict[str, Any]]:
    """Say that nothing was stored or told; the client keeps its events and sends them again."""
    _log.error("%s", error)
    words = ("The server cannot use its files now", "Send it again later; the server's log says what is wrong")
    return answer(Problem(503, "unavailable", *words, retry_after_s=RETRY_S))


def on_http_error(_request: Asked, error: HTTPException) -> Response[dict[str, Any]]:
    """Answer what the router refuses: an unknown path, another method."""
    words = {404: ("not_found", "There is no such path"), 405: ("method_not_allowed", "The path takes another method")}
    code, message = words.get(error.status_code, ("invalid_request", "The request cannot be read"))
    return answer(Problem(error.status_code, code, message, "GET /openapi.json lists every path and its methods"))


def on_our_mistake(_request: Asked, error: Exception) -> Response[dict[str, Any]]:
    """Answer an error that is ours: its place goes to the log, nothing of the request does."""
    _log.error("a request failed", exc_info=error)
    return answer(Problem(500, "internal", "The server made a mistake", "It is in the server's log"))


ERRORS: dict[int | type[Exception], Callable[[Asked, Any], Response[Any]]] = {
    Problem: on_problem,
    BodyError: on_bad_body,
    Busy: on_busy,
    LakeError: on_lake_error,
    HTTPException: on_http_error,
    Exception: on_our_mistake,
}
