"""Where a person is still to be found: every byte of a folder, what is packed unpacked.

Files are searched as they lie, Parquet also page by page decoded (compressed pages and dictionaries hide words), SQLite
also row by row. Looked for: the keys as numbers in text and as eight bytes in either order, the name a key has on
pages, and the aliases, also as JSON and HTML write them. An alias of fewer than eight characters, such as a customer
number, would be found in any heap of numbers: it counts where it stands alone, as a whole cell or between quotes.
"""

from __future__ import annotations

import html
import json
import re
import sqlite3
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from habitue.core.errors import LakeError
from habitue.protect.people import pseudonym

LONG = 8  # characters; shorter aliases must stand alone
BINARY = 2**32  # smaller keys are not looked for as bytes: random keys are hardly ever smaller


@dataclass(frozen=True)
class Person:
    """Whom to look for."""

    keys: tuple[int, ...]
    aliases: tuple[str, ...]


@dataclass(frozen=True)
class Found:
    """Files with a trace, as paths from the folder, and how much was searched."""

    paths: tuple[Path, ...]
    files: int
    size: int  # bytes as they lie on disk


def search(root: Path, person: Person, *, leave_out: Iterable[Path] = ()) -> Found:
    """Search every file under `root`, hidden ones and link targets in it included; O(bytes), one file in memory.

    `leave_out`: files and folders that are not looked into. Raises LakeError for a file that cannot be read.
    """
    skipped = {path.resolve() for path in leave_out}
    paths, files, size = [], 0, 0
    for path in sorted(root.rglob("*")):
        if not path.is_file() or skipped & {path.resolve(), *path.resolve().parents}:
            continue
        files += 1
        size += path.stat().st_size
        try:
            if holds(path, person):
                paths.append(path.relative_to(root))
        except (OSError, sqlite3.Error, pl.exceptions.PolarsError) as error:
            raise LakeError(
                str(path),
                found=f"the file cannot be searched ({type(error).__name__})",
                consequence="Whether somebody is still in it cannot be told",
                remedy="Mend it or take it away, then do it again",
            ) from error
    return Found(tuple(paths), files, size)


def holds(path: Path, person: Person) -> bool:
    """Return whether a file holds any trace of the person."""
    content = path.read_bytes()
    if re.search(_pattern(person).encode(), content) or any(packed in content for packed in _packed(person)):
        return True
    if content[:4] == b"PAR1" and content[-4:] == b"PAR1":
        return _in_parquet(path, person)
    if content[:16] == b"SQLite format 3\0":
        return any(word.encode() in content for word in person.aliases if len(word) >= LONG) or _in_sqlite(path, person)
    return False


def _in_parquet(path: Path, person: Person) -> bool:
    pattern = _pattern(person)
    frame = pl.read_parquet(path, hive_partitioning=False)
    for column in frame.get_columns():
        if column.dtype.is_integer():
            hit = column.cast(pl.Int64, strict=False).is_in(list(person.keys)).any()
        elif column.dtype == pl.Binary:
            hit = any(map(_bytes_with(person), column.drop_nulls().unique()))
        elif column.dtype == pl.String:
            hit = column.unique().str.contains(pattern).any()
        elif column.dtype.is_nested():
            text = column.to_frame("it").select(pl.struct("it").struct.json_encode()).to_series()
            hit = text.str.contains(pattern).any()
        else:
            hit = False
        if hit:
            return True
    return False


def _in_sqlite(path: Path, person: Person) -> bool:
    words, keys = set(person.aliases), set(person.keys)
    connection = sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)
    try:
        tables = [row[0] for row in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")]
        for table in tables:
            for row in connection.execute(f'SELECT * FROM "{table}"'):
                if any(cell in words if isinstance(cell, str) else cell in keys for cell in row):
                    return True
    finally:
        connection.close()
    return False


def _bytes_with(person: Person) -> Callable[[bytes], bool]:
    """Return a function that tells whether bytes hold the person."""
    pattern = re.compile(_pattern(person).encode())
    return lambda content: bool(pattern.search(content))


def _pattern(person: Person) -> str:
    """Return a regular expression of the text forms, for Python and Rust alike."""
    alone = [str(key) for key in person.keys] + [pseudonym(key) for key in person.keys]
    quoted: list[str] = []
    for alias in person.aliases:
        forms = {alias, json.dumps(alias)[1:-1], html.escape(alias)}
        (alone if len(alias) >= LONG else quoted).extend(sorted(forms))
    parts = [rf"(?:^|[^0-9A-Za-z_])(?:{_any(alone)})(?:$|[^0-9A-Za-z_])"]
    if quoted:
        parts.append(rf"""(?:^|["'>])(?:{_any(quoted)})(?:$|["'<])""")
    return "|".join(parts)


def _any(words: Iterable[str]) -> str:
    # only what both engines read as itself may be escaped
    return "|".join("".join(f"\\{c}" if c in r".^$*+?{}[]\|()-&~#/" else c for c in word) for word in words)


def _packed(person: Person) -> list[bytes]:
    return [key.to_bytes(8, order) for key in person.keys if key >= BINARY for order in ("little", "big")]
