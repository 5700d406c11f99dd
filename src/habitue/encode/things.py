"""What an encoder is given: a frame with `id` and the content of each: checked, cleaned, told apart by hash."""

from __future__ import annotations

import hashlib
import re
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import polars as pl

from habitue.core.errors import SchemaError

T = TypeVar("T")

SENSES = ("text", "path", "bytes")
CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]+")  # line ends and tabs too: an encoder reads one line
HASH_BYTES = 16
LARGEST_FILE = 1 << 28
AHEAD = 16  # things decoded before they are asked for, each worker: bounds the memory
NO_TEXT = ("no_text", "It holds no text to encode.")


def check(things: pl.DataFrame, *, of: Sequence[str], where: str) -> None:
    """Raise SchemaError unless `things` has a unique, non-null `id` of strings and one of the columns `of`."""
    found = ""
    if "id" not in things.columns:
        found = "column 'id' is missing"
    elif things.schema["id"] != pl.String:
        found = f"column 'id' is {things.schema['id']}, not String"
    elif things["id"].null_count():
        found = f"{things['id'].null_count()} ids are null"
    elif things["id"].n_unique() < things.height:
        found = "an id comes twice"
    elif sum(column in things.columns for column in of) != 1:
        found = f"it must have exactly one of the columns {', '.join(of)}; it has {', '.join(things.columns)}"
    else:
        column = next(c for c in of if c in things.columns)
        wanted = pl.Binary if column == "bytes" else pl.String
        if things.schema[column] not in (wanted, pl.Null):
            found = f"column '{column}' is {things.schema[column]}, not {wanted}"
    if found:
        raise SchemaError(
            where,
            found=found,
            consequence="Vectors could not be told apart, or there is nothing to encode",
            remedy=f"Give one row per thing with id (String) and one of: {', '.join(of)}",
        )


def texts(things: pl.DataFrame, *, characters: int) -> tuple[list[int], list[str]]:
    """Return the places of the things with a text, and their texts: cut at `characters`, controls as blanks."""
    places, clean = [], []
    for place, text in enumerate(things["text"]):
        line = CONTROL.sub(" ", text[:characters]).strip() if text else ""
        if line:
            places.append(place)
            clean.append(line)
    return places, clean


def contents(things: pl.DataFrame) -> list[bytes]:
    """Return 16 bytes per thing: the start of the SHA-256 of all its columns but `id`; a path counts as its file.

    A file that cannot be read counts as its error, so it is tried again once it can.
    """
    columns = sorted(column for column in things.columns if column != "id")
    return [_content(columns, row) for row in things.select(columns).iter_rows()]


def in_order(
    contents: Iterable[Any], make: Callable[[Any], T], *, workers: int, ahead: int = AHEAD
) -> Iterator[tuple[int, T]]:
    """Yield (place, make(content)) in order, made in `workers` threads, each at most `ahead` ahead of whoever asks."""
    with ThreadPoolExecutor(workers) as pool:
        waiting: deque[tuple[int, Future[T]]] = deque()
        for place, content in enumerate(contents):
            waiting.append((place, pool.submit(make, content)))
            if len(waiting) > ahead * workers:
                done, future = waiting.popleft()
                yield done, future.result()
        for done, future in waiting:
            yield done, future.result()


def _content(columns: Sequence[str], row: Sequence[Any]) -> bytes:
    state = hashlib.sha256()
    for column, value in zip(columns, row, strict=True):
        if column == "path" and value is not None:
            column, value = "bytes", read_file(value) or value
        data = (
            value if isinstance(value, bytes) else repr(value).encode() if not isinstance(value, str) else _utf8(value)
        )
        state.update(f"{column}:{type(value).__name__}:{len(data)}:".encode())
        state.update(data)
    return state.digest()[:HASH_BYTES]


def _utf8(text: str) -> bytes:
    return text.encode()


def read_file(path: str) -> bytes | None:
    """Return the bytes of a file, or None when it cannot be read, is no plain file, or is larger than 256 MB."""
    try:
        file = Path(path)
        if not file.is_file():  # a pipe would be waited for
            return None
        length = file.stat().st_size
        if length > LARGEST_FILE:
            return None
        with file.open("rb") as opened:
            return opened.read(length)
    except (OSError, ValueError):  # ValueError: a name with a null character
        return None
