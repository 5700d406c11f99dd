"""What a route takes, declared once: read from the query or the body, and written into /openapi.json."""

from __future__ import annotations

import asyncio
import ipaddress
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from litestar import Request
from litestar.datastructures import State

from habitue.collect.wires.body import BodyError, too_large
from habitue.serve.problems import Problem

Asked = Request[Any, Any, State]
LONGEST_BODY = 64 * 1024
SLOWEST_S = 30.0  # for a body to come
LONGEST_WORD = 4_096  # characters of any one value; ids are held to less by what reads them


@dataclass(frozen=True)
class Field:
    """One value: text, whole (a whole number), number, yes (true or false), words (a list of text), base64, rows."""

    name: str
    kind: str
    meaning: str
    needed: bool = False

    def schema(self) -> dict[str, Any]:
        """Return its JSON Schema."""
        text = {"type": "string", "maxLength": LONGEST_WORD}
        kinds: dict[str, dict[str, Any]] = {
            "text": text,
            "whole": {"type": "integer"},
            "number": {"type": "number"},
            "yes": {"type": "boolean"},
            "words": {"type": "array", "items": text},
            "base64": {"type": "string", "contentEncoding": "base64"},
            "rows": {"type": "array", "items": {"type": "object"}},
        }
        return kinds[self.kind]


def header(request: Asked, name: str) -> str:
    """Return a header, of several alike the first, "" without it; `request.headers` would lay all of them out."""
    wanted = name.lower().encode("latin-1")
    return next((value.decode("latin-1") for key, value in request.scope["headers"] if key == wanted), "")


def this_machine(host: str) -> bool:
    """Whether a name leads to this machine and nowhere else: localhost, a name below it, a literal of the loopback."""
    try:
        return host == "localhost" or host.endswith(".localhost") or ipaddress.ip_address(host).is_loopback
    except ValueError:  # no address
        return False


def of_query(request: Asked, fields: Sequence[Field]) -> dict[str, Any]:
    """Return the values of the query string; a list is words with commas between. Raises Problem 400."""
    told = {}
    for name, values in request.query_params.dict().items():
        if len(values) > 1:
            raise _bad(name, "stands in the query more than once")
        told[name] = values[0]
    found = {}
    for name, value in _known(told, fields):
        kind = next(field.kind for field in fields if field.name == name)
        if kind == "words":
            found[name] = _checked(name, kind, [word for word in value.split(",") if word])
        elif kind == "yes":
            found[name] = _checked(name, kind, {"true": True, "1": True, "false": False, "0": False}.get(value.lower()))
        elif kind in ("whole", "number"):
            found[name] = _checked(name, kind, _number(value))
        else:
            found[name] = _checked(name, kind, value)
    return _complete(found, fields)


async def of_body(request: Asked, fields: Sequence[Field], *, longest: int = LONGEST_BODY) -> dict[str, Any]:
    """Return the values of a JSON object in the body of at most `longest` bytes. Raises Problem 400."""
    told = await an_object(request, longest=longest)
    found = {}
    for name, value in _known(told, fields):
        if value is not None:
            found[name] = _checked(name, next(field.kind for field in fields if field.name == name), value)
    return _complete(found, fields)


async def an_object(request: Asked, *, longest: int = LONGEST_BODY) -> dict[str, Any]:
    """Return the JSON object in the body. Raises Problem 400."""
    told = await parsed(request, longest=longest)
    if not isinstance(told, dict):
        raise Problem(400, "invalid_request", "The body is no JSON object", "Send an object, in braces")
    return told


async def came(request: Asked, limit: int) -> bytes:
    """Return the body as it came, of at most `limit` bytes.

    Raises BodyError: too_large, cut_off (the client went away), too_slow.
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
    return b"".join(parts)


async def parsed(request: Asked, *, longest: int = LONGEST_BODY) -> Any:
    """Return the JSON of the body, an empty object where there is none. Raises Problem 400 and 408."""
    try:
        body = await came(request, longest)
    except BodyError as error:
        raise Problem(error.status, error.code, str(error), "Ask again, for less at once") from error
    try:
        return json.loads(body or b"{}")
    except (ValueError, RecursionError) as error:
        raise Problem(400, "invalid_request", "The body is no JSON", "Send JSON in UTF-8") from error


def _known(told: Mapping[str, Any], fields: Sequence[Field]) -> list[tuple[str, Any]]:
    names = {field.name for field in fields}
    for name in told:
        if name not in names:
            raise Problem(
                400,
                "unknown_parameter",
                "There is a parameter that the route does not know",
                f"It takes {_list(names)}",
            )
    return list(told.items())


def _complete(found: dict[str, Any], fields: Sequence[Field]) -> dict[str, Any]:
    for field in fields:
        if field.needed and field.name not in found:
            raise _bad(field.name, "is missing")
    return found


def _checked(name: str, kind: str, value: Any) -> Any:
    """Return a value of its kind. Raises Problem 400."""
    if kind == "whole" and isinstance(value, float) and value.is_integer():
        value = int(value)
    right = {
        "text": isinstance(value, str),
        "whole": isinstance(value, int) and not isinstance(value, bool),
        "number": isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value),
        "yes": isinstance(value, bool),
        "words": isinstance(value, list) and all(isinstance(word, str) for word in value),
    }[kind]
    if not right:
        words = {"text": "text", "whole": "a whole number", "number": "a number", "yes": "true or false"}
        raise _bad(name, f"is not {words.get(kind, 'a list of text')}")
    some = value if kind == "words" else [value] if kind == "text" else []
    if any(len(word) > LONGEST_WORD for word in some):
        raise _bad(name, f"has more than {LONGEST_WORD:,} characters")
    if any("\x00" in word or not _is_unicode(word) for word in some):
        raise _bad(name, "holds characters that are none")
    return float(value) if kind == "number" else value


def _is_unicode(word: str) -> bool:
    try:
        word.encode()
    except UnicodeEncodeError:
        return False
    return True


def _number(value: str) -> float | None:
    try:
        return float(value) if len(value) < 40 else None
    except ValueError:
        return None


def _list(names: set[str]) -> str:
    return ", ".join(sorted(names)) or "none"


def _bad(name: str, what: str) -> Problem:
    return Problem(400, f"bad_{name}", f"{name} {what}", "See /openapi.json for what the route takes")
