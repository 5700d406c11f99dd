"""What every reader of a file yields: blocks of raw rows with their numbers, and the limits that stop it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import polars as pl

from habitue.core.errors import InputError

ROWS = 50_000  # of a block: what lies in memory at once

GIB = 2**30


@dataclass(frozen=True)
class Limits:
    """Where reading stops in words: an archive may inflate without end."""

    max_bytes: int = 256 * GIB  # of the file's content once inflated
    max_rows: int = 2_000_000_000
    max_record: int = 64 * 2**20  # bytes of one record: an unclosed quote must not pull the whole file into memory

    def rows(self, number: int, where: str) -> None:
        """Raise InputError when row `number` is beyond the limit."""
        if number > self.max_rows:
            raise InputError(
                where,
                found=f"there are more than {self.max_rows:,} rows",
                consequence="Reading stopped there, and nothing was stored",
                remedy="Raise the limit if the file is meant to be that long: --max-rows",
            )


@dataclass(frozen=True)
class Block:
    """Consecutive rows of a file as raw columns.

    `numbers`: the number of each row's record in the file, from 1. `broken`: records that could not be read at all,
    number -> reason code. `done`: how much of the file has been read, 0 to 1.
    """

    frame: pl.DataFrame
    numbers: pl.Series
    broken: dict[int, str] = field(default_factory=dict)
    done: float = 0.0


Record = dict[str, Any]
ABOVE = 20  # records at most that may stand above the one that names the columns


def heading(records: Sequence[Sequence[str]], wanted: Sequence[str] = ()) -> int:
    """Return which of the first records names the columns: the one with all of `wanted`, else the first of the table.

    Above a table may stand a title, a date, or nothing: records of two filled fields at most, where the usual record
    has four or more.
    """
    first = records[:ABOVE]
    if wanted:
        named = next((i for i, record in enumerate(first) if set(wanted) <= {v.strip() for v in record}), None)
        if named is not None:
            return named
    filled = [sum(bool(v.strip()) for v in record) for record in records]
    usual = max(set(filled), key=filled.count, default=0)
    least = 3 if usual > 3 else 1
    return next((i for i, n in enumerate(filled[:ABOVE]) if n >= least), 0)


def from_records(
    records: Iterable[tuple[int, Record | str]],
    wanted: Sequence[str] | None,
    *,
    limits: Limits,
    where: str,
    done: Any = None,
    skip: int = 0,
) -> Iterator[Block]:
    """Gather (number, record) pairs into blocks of text columns; a record that is a str is a reason code.

    `wanted` None: every key of the block, in the order met, an object's as dotted paths ("a.b"). Several pairs may have
    one number: lines of one record. A block ends only between records. `done()`: the share read so far. `skip`: blocks
    to leave out, for a resumed import.
    """
    rows: list[Record] = []
    numbers: list[int] = []
    broken: dict[int, str] = {}
    count = 0
    for number, record in records:
        if len(rows) + len(broken) >= ROWS and number != (numbers[-1] if numbers else 0):
            if count >= skip:
                yield _block(rows, numbers, broken, wanted, done() if done else 0.0)
            rows, numbers, broken, count = [], [], {}, count + 1
        limits.rows(number, where)
        if isinstance(record, str):
            broken[number] = record
        else:
            rows.append(record)
            numbers.append(number)
    if (rows or broken) and count >= skip:
        yield _block(rows, numbers, broken, wanted, 1.0)


def _block(
    rows: list[Record], numbers: list[int], broken: dict[int, str], wanted: Sequence[str] | None, done: float
) -> Block:
    names = wanted if wanted is not None else list(dict.fromkeys(name for row in rows for name in _leaves(row)))
    columns = {name: pl.Series(name, [text(value_of(row, name)) for row in rows], dtype=pl.String) for name in names}
    if not names:  # objects without a key: a frame without columns has no rows
        numbers = []
    return Block(pl.DataFrame(columns), pl.Series("row", numbers, dtype=pl.Int64), broken, done)


def _leaves(record: Record) -> Iterator[str]:
    """Yield the keys of a record; of an object inside it, its keys behind a dot. Deeper objects stay as they are."""
    for name, value in record.items():
        if isinstance(value, dict) and value:
            yield from (f"{name}.{inner}" for inner in value)
        else:
            yield name


def value_of(record: Record, name: str) -> Any:
    """Return the value of a key, or of a dotted path into nested objects and lists ("a.b", "a.0.b"); else None."""
    if name in record:
        return record[name]
    value: Any = record
    for part in name.split("."):
        if isinstance(value, dict):
            value = value.get(part)
        elif isinstance(value, list) and part.isdecimal():
            value = value[int(part)] if int(part) < len(value) else None
        else:
            return None
    return value


def text(value: Any) -> str | None:
    """Write a value as text: whole numbers without a decimal point, moments as ISO 8601, lists and objects as JSON."""
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return str(int(value)) if value.is_integer() and abs(value) < 2**53 else repr(value)
    if isinstance(value, list | dict):
        return json.dumps(value, ensure_ascii=False)
    if isinstance(value, bytes | bytearray | memoryview):
        return bytes(value).hex()
    return value.isoformat() if hasattr(value, "isoformat") else str(value)
