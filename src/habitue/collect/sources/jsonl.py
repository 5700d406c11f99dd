"""JSON: one object a line (JSONL), an array of objects, or one object that holds such a list."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

from habitue.collect.sources.archives import Opened
from habitue.collect.sources.blocks import Limits, Record
from habitue.collect.sources.encoding import Utf8
from habitue.core.errors import InputError

DOCUMENT = 64 << 20  # bytes of a document that is one object: all of it lies in memory

_SPACE = b" \t\r\n,"
_HALF = re.compile(r"\\u[dD][89a-fA-F]")


def records(opened: Opened, limits: Limits, *, encoding: str | None = None) -> Iterator[tuple[int, Record | str]]:
    """Yield (number, object); what is no object or cannot be read is "bad_record".

    Raises InputError: an array that ends too early, a record or a single object that is too long.
    """
    pieces = iter(Utf8(opened.stream, opened.name, encoding))
    head = next(pieces, b"")
    first = head.lstrip()[:1]
    if first == b"[":
        yield from _array(head, pieces, opened.name, limits)
    elif first == b"{" and _spans_lines(head):
        yield from _document(head, pieces, opened.name)
    else:
        yield from _lines(head, pieces, opened.name, limits)


def _lines(head: bytes, pieces: Iterator[bytes], name: str, limits: Limits) -> Iterator[tuple[int, Record | str]]:
    rest, number = head, 0
    while True:
        *whole, rest = rest.split(b"\n")
        for line in whole:
            number += 1
            if line.strip():
                yield number, _record(line)
        if len(rest) > limits.max_record:
            raise InputError(
                name,
                found=f"line {number + 1:,} is longer than {limits.max_record:,} bytes",
                consequence="It would not fit into memory",
                remedy="Export the file again, one object a line",
            )
        piece = next(pieces, b"")
        if not piece:
            break
        rest += piece
    if rest.strip():
        yield number + 1, _record(rest)


def _array(head: bytes, pieces: Iterator[bytes], name: str, limits: Limits) -> Iterator[tuple[int, Record | str]]:
    """Read the objects of an array one after the other; memory holds one piece of the file and one object."""
    decoder, number, position = json.JSONDecoder(), 0, 1
    rest = head.lstrip().decode()
    while True:
        while position < len(rest) and rest[position] in " \t\r\n,":
            position += 1
        if position < len(rest) and rest[position] == "]":
            return
        try:
            if position >= len(rest):
                raise ValueError
            start = position
            value, position = decoder.raw_decode(rest, start)
            value = whole_letters(value, rest[start:position])
        except RecursionError as error:
            raise _damaged(name, number, "is nested too deep") from error
        except ValueError as error:
            piece = next(pieces, b"")
            if not piece:
                raise _damaged(name, number, "is cut off or is no JSON") from error
            rest, position = rest[position:] + piece.decode(), 0
            while 2 * len(piece) < len(rest):  # an object of many pieces is tried again only when it has doubled
                more = next(pieces, b"")
                if not more:
                    break
                rest, piece = rest + more.decode(), piece + more
            if len(rest) > limits.max_record + (8 << 20):
                raise _damaged(name, number, f"is longer than {limits.max_record:,} bytes, or is no JSON") from error
            continue
        number += 1
        yield number, value if isinstance(value, dict) else "bad_record"


def _document(head: bytes, pieces: Iterator[bytes], name: str) -> Iterator[tuple[int, Record | str]]:
    """Read one object: the longest list of objects in it, or the object itself."""
    content = head
    for piece in pieces:
        content += piece
        if len(content) > DOCUMENT:
            raise InputError(
                name,
                found=f"the file is one JSON object of more than {DOCUMENT:,} bytes",
                consequence="It would not fit into memory",
                remedy="Export it as JSONL, one object a line",
            )
    try:
        document = loads(content.decode())
    except RecursionError as error:
        raise _damaged(name, 0, "is nested too deep") from error
    except ValueError as error:
        raise _damaged(name, 0, "is cut off or is no JSON") from error
    lists: list[list[Record]] = [value for value in _lists(document, depth=3) if value]
    longest = max(lists, key=lambda records: len(records)) if lists else [document]
    yield from enumerate(longest, start=1)


def _lists(value: Any, depth: int) -> Iterator[list[Record]]:
    """The lists of objects in a document."""
    if isinstance(value, list) and all(isinstance(v, dict) for v in value):
        yield value
    elif isinstance(value, dict) and depth:
        for inner in value.values():
            yield from _lists(inner, depth - 1)


def loads(text: str) -> Any:
    """Read JSON; half a letter in an escape ("\\ud83d": what a cut leaves of an emoji) is U+FFFD, in any text of it.

    Such a half cannot be stored. Raises ValueError, RecursionError.
    """
    return whole_letters(json.loads(text), text)


def whole_letters(value: Any, text: str) -> Any:
    """Return what `text` was read as without halves of letters; one that writes no such half is not looked through."""
    return _mended(value) if _HALF.search(text) else value


def _mended(value: Any) -> Any:
    if isinstance(value, str):
        return value.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    if isinstance(value, dict):
        return {_mended(key): _mended(one) for key, one in value.items()}
    return [_mended(one) for one in value] if isinstance(value, list) else value


def _record(line: bytes) -> Record | str:
    value, fault = _parse(line)
    return value if isinstance(value, dict) and not fault else "bad_record"


def _parse(content: bytes) -> tuple[Any, bool]:
    """Read JSON; returns (value, fault). Ten thousand brackets and numbers of a million digits are faults, no crash."""
    try:
        return loads(content.decode()), False
    except (ValueError, RecursionError):
        return None, True


def _spans_lines(head: bytes) -> bool:
    """Whether the head is one object written over several lines: none of its first lines is an object by itself."""
    lines = [line for line in head.split(b"\n", 20)[:20] if line.strip()]
    return len(lines) > 1 and not any(isinstance(_parse(line)[0], dict) for line in lines)


def _damaged(name: str, number: int, what: str) -> InputError:
    return InputError(
        name,
        found=f"the JSON {what} after object {number:,}",
        consequence="What follows cannot be read; nothing was stored",
        remedy="Export it again, as JSONL with one object a line if you can",
    )
