"""What a shop's own servers send besides events: media of products and people, and what was sensed of people.

Both need a secret key unless the plan says `senses_from_pages = true`, and both are on the disk before their 200.
"""

from __future__ import annotations

import asyncio
import base64
import datetime as dt
import hashlib
from typing import Any

from litestar import Response, post

from habitue.collect import lines, shelf
from habitue.collect.receiver import Receiver
from habitue.collect.sources.media import modality
from habitue.collect.wires import sensed
from habitue.collect.wires.body import Owned, an_object, parsed
from habitue.core.looking import looked_at
from habitue.core.media import Flaw
from habitue.serve.answers import admitted
from habitue.serve.collecting import read, take
from habitue.serve.desk import Desk
from habitue.serve.fields import Asked, Field
from habitue.serve.keys import CATALOGUE, COLLECT, USERS
from habitue.serve.problems import Problem

SOURCE = "media"
OWNERS = {"item_id": "item", "event_id": "event", "user_id": "user", "anonymous_id": "user"}
MEDIUM = (
    Field("item_id", "text", "The product it shows; one of the four ids is needed"),
    Field("event_id", "text", "The event it belongs to, such as a review"),
    Field("user_id", "text", "The person it is of"),
    Field("anonymous_id", "text", "The visitor it is of"),
    Field("content", "base64", "The file"),
    Field("text", "text", "Words, in the place of a file"),
    Field("modality", "text", "image, audio, video or text: refused when the content is another"),
    Field("at", "text", "When it was made, ISO 8601"),
)
SIGNALS = (
    Field("user_id", "text", "The person it was sensed of; or anonymous_id"),
    Field("anonymous_id", "text", "The visitor it was sensed of"),
    Field("session_id", "text", "The visit"),
    Field("sent_at", "text", "When it was sent, by the sender's clock, which is corrected with it"),
    Field("signals", "rows", "Values: signal, at, value, unit?, id?", needed=True),
)
AT_ONCE = 2  # media that are looked at together


@post("/v1/signals", status_code=200, opt={"body": SIGNALS})
async def signals(request: Asked) -> Response[bytes]:
    """Take what was sensed of a person: a pulse, attention, a touch."""
    body = await read(request, sensed.LONGEST_BODY)
    received = dt.datetime.now(dt.UTC)
    content = an_object(parsed(body))
    _admit(request, USERS)
    _agreed(request, content)
    receiver: Receiver = request.app.state.receiver
    messages = sensed.signals(content, received=received, secret=receiver.secret)
    return await take(request, messages, sensed.SOURCE, received)


@post("/v1/media", status_code=200, opt={"body": MEDIUM})
async def media(request: Asked) -> Response[dict[str, Any]]:
    """Take a picture, a sound, a video or a text of a product, an event or a person."""
    receiver: Receiver = request.app.state.receiver
    most = receiver.config.media_mb * 2**20
    body = await read(request, most * 4 // 3 + 2**14)  # base64 takes four letters for three bytes
    received = dt.datetime.now(dt.UTC)
    said = an_object(parsed(body))
    named = [name for name in OWNERS if lines.word(said.get(name)) is not None]
    owner = {OWNERS[name] for name in named}
    if len(owner) != 1:
        raise _bad("invalid_request", "A medium has one owner", "Send one of item_id, event_id, user_id, anonymous_id")
    _admit(request, CATALOGUE if owner == {"item"} else USERS)
    ids = {name: lines.word(said[name]) for name in named}
    if any(len(one) > lines.LONGEST_NAME for one in ids.values() if one is not None):
        raise _bad("too_long", f"An id is longer than {lines.LONGEST_NAME} characters", "Send the id of your catalogue")
    at = None if said.get("at") is None else lines.moment(said["at"])
    if said.get("at") is not None and (at is None or not lines.FIRST <= at <= received + lines.AHEAD):
        raise _bad("bad_time", "The time is none that can be read", "Send ISO 8601: 2026-05-01T10:00:00Z")
    if owner == {"item"}:
        _known(request, str(ids["item_id"]))
    _agreed(request, said)
    content = _content(said, most)
    found = await _looked_at(request, content, said.get("modality"))
    if found == "text":  # a customer's words are masked, as those of an event are
        content = lines.masked(content.decode()).encode()
    kept, path = await asyncio.to_thread(shelf.keep, receiver.workspace.root / shelf.FOLDER, content)
    whose = ids.get("item_id") or ids.get("event_id")
    medium = hashlib.blake2b(digest_size=16, key=receiver.secret)
    medium.update(repr((sorted(ids.items()), kept)).encode())
    row: dict[str, Any] = {
        "media_id": medium.hexdigest(),
        "owner": owner.pop(),
        "owner_id": whose,
        "modality": found,
        "path": str(path),
    }
    row |= {"at": at, "start_s": None, "sha256": kept}
    owned = Owned("media", row, ids.get("user_id"), ids.get("anonymous_id"))
    await receiver.take(iter([(1, owned)]), SOURCE, received)
    if not path.exists():  # an erasure removed it just now, before the row was there to name it
        await asyncio.to_thread(shelf.keep, receiver.workspace.root / shelf.FOLDER, content)
    told = {"success": True, "media_id": row["media_id"], "modality": found, "sha256": kept}
    return Response(told, status_code=200)


def _admit(request: Asked, scope: str) -> None:
    receiver: Receiver = request.app.state.receiver
    admitted(request, COLLECT if receiver.config.senses_from_pages else scope)


def _agreed(request: Asked, said: dict[str, Any]) -> None:
    """Go on unless the person has withdrawn a consent. Raises Problem 403."""
    desk: Desk = request.app.state.desk
    if not desk.ready:
        return
    for kind in ("user_id", "anonymous_id"):
        name = lines.word(said.get(kind))
        key = None if name is None else desk.key(**{kind: name})
        if key is not None and desk.shopper(key) is None:
            raise Problem(
                403, "no_consent", "This customer has not agreed to it", "Nothing was stored; do not send it again"
            )


def _known(request: Asked, item_id: str) -> None:
    """Go on when the catalogue has the product, or nobody reads one here. Raises Problem 404."""
    desk: Desk = request.app.state.desk
    if desk.ready and item_id not in desk.shop.index:
        raise Problem(
            404, "unknown_item", "There is no such product", "Send the product first; it is known within a minute"
        )


def _content(said: dict[str, Any], most: int) -> bytes:
    """Return the bytes of a medium. Raises Problem 400."""
    text, packed = said.get("text"), said.get("content")
    if isinstance(text, str) and packed is None:
        content = text.encode()
    elif isinstance(packed, str) and text is None:
        try:
            content = base64.b64decode(packed, validate=True)
        except ValueError as error:  # binascii.Error is one; another is raised for letters beyond ASCII
            raise _bad("invalid_request", "content is no base64", "Send the file's bytes in base64") from error
    else:
        raise _bad("invalid_request", "There is no content", "Send content (base64) or text, one of them")
    if len(content) > most:
        raise _bad("too_large", f"The medium holds more than {most:,} bytes", "Send a smaller one")
    return content


async def _looked_at(request: Asked, content: bytes, declared: Any) -> str:
    """Return what the bytes are, after a process of its own has opened them. Raises Problem 400."""
    found = modality(content[:64])
    if found is None:
        raise _bad("unknown_format", "It is no picture, sound, video or text that is known here", "Send JPEG, PNG, ...")
    if declared is not None and declared != found:
        raise _bad("wrong_type", f"By its first bytes it is of another kind: {found}", "Send what modality says")
    try:
        async with request.app.state.looking:
            await looked_at(content, found)
    except Flaw as flaw:
        raise _bad(flaw.code, flaw.sentence, "Nothing of it was stored (docs/collect.md)") from flaw
    return found


def _bad(code: str, message: str, detail: str) -> Problem:
    return Problem(400, code, message, detail)
