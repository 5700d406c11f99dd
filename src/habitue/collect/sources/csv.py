"""Text with one row a line: CSV, TSV and their dialects, any of the usual encodings, read in blocks.

Fields with the delimiter, quotes or line breaks stand in double quotes. A block is cut where a line ends outside of
quotes. Rows with too many fields are refused one by one: their values would stand under the wrong names.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from habitue.collect.sources.archives import Opened
from habitue.collect.sources.blocks import ABOVE, Block, Limits, heading
from habitue.collect.sources.encoding import Utf8
from habitue.core.errors import InputError

DELIMITERS = (",", ";", "\t", "|", "::")
BLOCK = 4 << 20  # bytes of UTF-8 parsed at once
SAMPLE_LINES = 60


@dataclass(frozen=True)
class Dialect:
    """How the lines of a file are written; None = told from the file."""

    delimiter: str | None = None
    encoding: str | None = None
    header: bool = True  # False: the columns are called "1", "2", ...
    quotes: bool | None = None  # False: a double quote is a letter like any other


@dataclass(frozen=True)
class Found:
    """What the head of a file tells: its columns, in order, and its dialect."""

    names: list[str]
    delimiter: str
    quotes: bool
    above: int  # records above the one that names the columns
    text: Utf8
    pieces: Iterator[bytes]  # the file from its first byte on, as UTF-8


def look(opened: Opened, dialect: Dialect, wanted: Sequence[str]) -> Found:
    """Read the first block and tell the dialect: the delimiter that gives most of `wanted`, else the steadiest width.

    Raises InputError: a delimiter that was asked for and does not fit, text in no known encoding, binary.
    """
    text = Utf8(opened.stream, opened.name, dialect.encoding)
    rest = iter(text)
    head = next(rest, b"")
    if b"\n" not in head and b"\r" in head:  # line ends of an old Mac
        return look_again(head, rest, text, dialect, wanted, opened.name)
    return _found(head, rest, text, dialect, wanted, opened.name)


def look_again(
    head: bytes, rest: Iterator[bytes], text: Utf8, dialect: Dialect, wanted: Sequence[str], name: str
) -> Found:
    """Turn line ends of carriage returns alone into those everybody reads."""
    return _found(
        head.replace(b"\r", b"\n"), (piece.replace(b"\r", b"\n") for piece in rest), text, dialect, wanted, name
    )


def _found(head: bytes, rest: Iterator[bytes], text: Utf8, dialect: Dialect, wanted: Sequence[str], name: str) -> Found:
    quotes = dialect.quotes if dialect.quotes is not None else _quoted(head)
    delimiter = dialect.delimiter or _delimiter(head, wanted, quotes)
    records = list(_records(head, delimiter, quotes))
    above = heading(records, wanted) if dialect.header else 0
    first = records[above] if records else []
    names = [n.strip() for n in first] if dialect.header else [str(i + 1) for i in range(len(first))]
    if dialect.header and wanted and dialect.delimiter and not set(wanted) & set(names):
        other = _delimiter(head, wanted, quotes)
        if _named(_records(head, other, quotes), wanted):
            raise InputError(
                name,
                found=f"its columns are separated by {other!r}, not by {delimiter!r}",
                consequence="Every line would be one column",
                remedy=f"Write in the mapping: delimiter = {toml(other)}",
            )

    def pieces() -> Iterator[bytes]:
        yield head
        yield from rest

    return Found(names, delimiter, quotes, above, text, pieces())


def blocks(
    opened: Opened, found: Found, wanted: Sequence[str], *, header: bool, limits: Limits, skip: int = 0
) -> Iterator[Block]:
    """Yield the columns `wanted` as text, an empty field as null; `skip` blocks are passed by without being parsed.

    Raises InputError naming the line at fault when quotes do not close, and for a record beyond `limits.max_record`.
    """
    columns = [found.names.index(name) for name in wanted]
    line, row, number = 1, 0, 0
    for lines in _cut(found, opened.name, limits):
        start_line, count = line, lines.count(b"\n") + (not lines.endswith(b"\n"))
        line += count
        if number == 0 and header:
            end = _first_end(lines, found)
            start_line += lines[:end].count(b"\n")
            lines = lines[end:]
        number += 1
        if not lines:
            continue
        block = _parse(lines, found, columns, list(wanted), start_line, row, opened)
        row += block[1]
        limits.rows(row, opened.name)
        if number > skip:
            yield block[0]


def toml(delimiter: str) -> str:
    """Write a delimiter as TOML."""
    return '"\\t"' if delimiter == "\t" else f'"{delimiter}"'


def _parse(
    lines: bytes, found: Found, columns: list[int], wanted: list[str], line: int, row: int, opened: Opened
) -> tuple[Block, int]:
    """Parse one block; returns it and how many rows it has."""
    separator = found.delimiter
    if len(separator) > 1:
        lines, separator = lines.replace(separator.encode(), b"\x1f"), "\x1f"
    width = len(found.names)
    try:
        frame = pl.read_csv(
            lines,
            has_header=False,
            separator=separator,
            quote_char='"' if found.quotes else None,
            infer_schema=False,
            encoding="utf8",
            schema={str(i): pl.String() for i in range(width)},
            columns=None,
        )
        frame = frame.select([pl.col(str(i)).alias(name) for i, name in zip(columns, wanted, strict=True)])
        broken: dict[int, str] = {}
        numbers = pl.int_range(row + 1, row + frame.height + 1, eager=True)
        height = frame.height
    except pl.exceptions.PolarsError:
        frame, numbers, broken = _slowly(lines, separator, found.quotes, width, columns, wanted, line, row, opened.name)
        height = frame.height + len(broken)
    return Block(frame, numbers.alias("row"), broken, opened.done()), height


def _slowly(
    lines: bytes,
    separator: str,
    quotes: bool,
    width: int,
    columns: list[int],
    wanted: list[str],
    line: int,
    row: int,
    name: str,
) -> tuple[pl.DataFrame, pl.Series, dict[int, str]]:
    """Read a block in which something is at fault record by record, to refuse just that, or to name it."""
    csv.field_size_limit(2**31 - 1)  # the limit of a record is ours
    records = csv.reader(
        io.StringIO(lines.decode(), newline=""),
        delimiter=separator,
        quoting=csv.QUOTE_MINIMAL if quotes else csv.QUOTE_NONE,
        strict=True,
    )
    rows: list[list[str | None]] = []
    numbers: list[int] = []
    broken: dict[int, str] = {}
    try:
        for record in records:
            row += 1
            if len(record) > width:
                broken[row] = "too_many_fields"
                continue
            rows.append([record[i] or None if i < len(record) else None for i in columns])
            numbers.append(row)
    except csv.Error as error:
        raise unclosed(name, line + records.line_num - 1) from error
    frame = pl.DataFrame(rows, schema=dict.fromkeys(wanted, pl.String()), orient="row")
    return frame, pl.Series(numbers, dtype=pl.Int64), broken


def unclosed(name: str, line: int) -> InputError:
    """Say where quotes do not close."""
    return InputError(
        name,
        found=f"the quotes near line {line:,} do not close",
        consequence="Rows would run into each other, or the file was cut off there",
        remedy='Close every double quote, and write one inside a field twice: "". If quotes are plain letters there, '
        "write in the mapping: quotes = false",
    )


def _cut(found: Found, name: str, limits: Limits) -> Iterator[bytes]:
    """Yield pieces that end where a record ends."""
    rest = b""
    line = 1
    for piece in found.pieces:
        rest = rest + piece if rest else piece
        while len(rest) >= BLOCK:
            end = _last_end(rest, found.quotes)
            if end == 0:
                if len(rest) > limits.max_record:
                    if found.quotes:
                        raise unclosed(name, line)
                    raise InputError(
                        name,
                        found=f"line {line:,} is longer than {limits.max_record:,} bytes",
                        consequence="It would not fit into memory",
                        remedy="Export the file again; no record of a shop is that long",
                    )
                break
            yield rest[:end]
            line += rest[:end].count(b"\n")
            rest = rest[end:]
    if rest:
        yield rest


def _last_end(piece: bytes, quotes: bool) -> int:
    """Return where the last whole record of a piece ends: after a line end with an even number of quotes before it."""
    if not quotes or b'"' not in piece:
        return piece.rfind(b"\n") + 1
    letters = np.frombuffer(piece, dtype=np.uint8)
    ends = np.flatnonzero(letters == 0x0A)
    before = np.searchsorted(np.flatnonzero(letters == 0x22), ends)
    whole = ends[before % 2 == 0]
    return int(whole[-1]) + 1 if len(whole) else 0


def _first_end(piece: bytes, found: Found) -> int:
    """Return where the header ends, whatever stands above it."""
    at, left = -1, found.above
    while True:
        at = piece.find(b"\n", at + 1)
        if at < 0:
            return len(piece)
        if not found.quotes or piece.count(b'"', 0, at) % 2 == 0:
            if left == 0:
                return at + 1
            left -= 1


def _quoted(head: bytes) -> bool:
    """Whether double quotes hold fields together: the records of the head read cleanly so."""
    if b'"' not in head:
        return True
    lines = head.split(b"\n")[:-1] if head.count(b"\n") > 1 else [head]
    lines = lines[:2000]
    strays = sum(line.count(b'"') % 2 for line in lines)
    opening = sum(
        b',"' in line or b'\t"' in line or b';"' in line or b'|"' in line or line.startswith(b'"') for line in lines
    )
    return opening > 0 or strays == 0


def _delimiter(head: bytes, wanted: Sequence[str], quotes: bool) -> str:
    """Return the delimiter that gives most of the wanted columns, else the one with the steadiest, largest width."""
    best, best_score = DELIMITERS[0], (-1.0, -1.0, -1.0)
    for delimiter in DELIMITERS:
        if delimiter.encode() not in head:
            continue
        widths = [len(r) for r in _records(head, delimiter, quotes)][:SAMPLE_LINES]
        if len(widths) > 2 and len(head) > 1 << 21:
            widths = widths[:-1]
        named = _named(_records(head, delimiter, quotes), wanted)
        usual = max(set(widths), key=widths.count)
        steady = widths.count(usual) / len(widths)
        score = (float(named), steady if usual > 1 else 0.0, float(usual))
        if score > best_score:
            best, best_score = delimiter, score
    return best


def _named(records: Iterator[list[str]], wanted: Sequence[str]) -> int:
    """How many of the wanted columns the record names that names most of them."""
    first = (record for _, record in zip(range(ABOVE), records, strict=False))
    return max((len({v.strip() for v in record} & set(wanted)) for record in first), default=0)


def _records(head: bytes, delimiter: str, quotes: bool) -> Iterator[list[str]]:
    """Yield the first records of the head; stops at what cannot be read."""
    separator = delimiter
    if len(delimiter) > 1:
        head, separator = head[: 1 << 20].replace(delimiter.encode(), b"\x1f"), "\x1f"
    csv.field_size_limit(2**31 - 1)
    lines = io.StringIO(head.decode(errors="replace"), newline="")
    reader = csv.reader(lines, delimiter=separator, quoting=csv.QUOTE_MINIMAL if quotes else csv.QUOTE_NONE)
    try:
        for _, record in zip(range(SAMPLE_LINES), reader, strict=False):
            yield record
    except csv.Error:
        return
