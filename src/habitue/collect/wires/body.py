"""The body of a request as it came -> plain values, told by its content: gzip or not, JSON whatever its label says."""

from __future__ import annotations

import hashlib
import json
import secrets
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from habitue.collect.sources.blocks import Record
from habitue.core.extras import need

GZIP = b"\x1f\x8b"


class BodyError(Exception):
    """A request's body cannot be taken: `code` for programs, the message for people, the HTTP status for both."""

    def __init__(self, code: str, message: str, *, status: int = 400) -> None:
        super().__init__(message)
        self.code, self.status = code, status


@dataclass(frozen=True)
class Introduction:
    """Who somebody is: ids that belong together from `at` on, attributes, purposes agreed to."""

    user_id: Any
    anonymous_id: Any
    at: Any
    attributes: Mapping[str, Any] = field(default_factory=dict)
    consent: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Described:
    """What a product is from `at` on: `known` by the names of ITEMS, the others as attributes."""

    item_id: Any
    at: Any
    known: Mapping[str, Any]
    attributes: Mapping[str, Any]


@dataclass(frozen=True)
class Owned:
    """A row of SIGNALS or MEDIA (`table`) without its person, source and import; a product's medium has no person."""

    table: str
    row: Mapping[str, Any]
    user_id: Any = None
    anonymous_id: Any = None


Message = Record | Introduction | Described | Owned | str
Messages = Iterator[tuple[int, Message]]


def inflated(body: bytes, *, limit: int) -> bytes:
    """Return the body, inflated where it is gzip, of at most `limit` bytes; memory is `limit` at most.

    Raises BodyError: "too_large", "invalid_gzip".
    """
    if not body.startswith(GZIP):
        if len(body) > limit:
            raise too_large(limit)
        return body
    unpacker = zlib.decompressobj(wbits=31)
    try:
        plain = unpacker.decompress(body, limit + 1)
    except zlib.error as error:
        raise BodyError("invalid_gzip", "The body begins like gzip and is none.") from error
    if len(plain) > limit:
        raise too_large(limit)
    if not unpacker.eof:
        raise BodyError("invalid_gzip", "The gzip body is cut off.")
    return plain


def parsed(body: bytes) -> Any:
    """Read JSON. Raises BodyError: "invalid_json", "too_deep"."""
    msgspec = need("msgspec", extra="serve", purpose="collect.wires")
    try:
        return msgspec.json.decode(body)
    except RecursionError as error:
        raise BodyError("too_deep", "The JSON is nested too deep.") from error
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise BodyError("invalid_json", "The body is no JSON that can be read.") from error


def an_object(value: Any) -> dict[str, Any]:
    """Return a JSON object as it is. Raises BodyError "invalid_request" for anything else."""
    if not isinstance(value, dict):
        raise BodyError("invalid_request", "The body is JSON, but no object.")
    return value


def too_large(limit: int) -> BodyError:
    """Say that a body is longer than `limit` bytes: 400, for 413 makes Snowplow's client send it again for ever."""
    return BodyError("too_large", f"The body holds more than {limit:,} bytes.")


OF_BODY = "body:"  # begins the id of an event that brought none: the receiver keys the hash behind it


def unnamed(message: Any, *, timed: bool) -> str:
    """Return an id for an event without one: equal body and equal client time are the same event.

    Without a client time (`timed`) two equal bodies are two events: nothing is merged.
    """
    if not timed:
        return secrets.token_hex(16)
    body = json.dumps(message, sort_keys=True, ensure_ascii=False, default=str)
    return OF_BODY + hashlib.blake2b(body.encode(), digest_size=16).hexdigest()
