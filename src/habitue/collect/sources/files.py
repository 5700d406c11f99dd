"""Open a file by its content, never by its name: what it is, its columns, and its rows in blocks."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from habitue.collect.sources import (
    archives,
    csv,
    encoding,
    excel,
    feed,
    jsonl,
    media,
    pages,
    parquet,
    sequences,
    sql,
    trackers,
)
from habitue.collect.sources.blocks import Block, Limits, Record, from_records, value_of
from habitue.core.errors import InputError, UsageError, did_you_mean

READERS = ("segment", "identify", "ga4", "sequences", "pages", "feed")
_TRACKERS = {"segment": trackers.segment, "identify": trackers.identify, "ga4": trackers.ga4}
_NOT_OURS = (
    (b"%PDF", "a PDF", "Export it as CSV, Parquet, JSON or Excel"),
    (b"\xd0\xcf\x11\xe0", "an old Excel workbook (.xls)", "Save it as .xlsx or as CSV in UTF-8"),
    (b"Rar!", "a RAR archive", "Unpack it, and import the file inside"),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive", "Unpack it, and import the file inside"),
    (b"BZh", "a bzip2 archive", "Unpack it, and import the file inside"),
    (b"\xfd7zXZ", "an xz archive", "Unpack it, and import the file inside"),
    (b"SQLite format 3", "an SQLite database", "Import a query: habitue import sqlite:///FILE --mapping M.toml"),
)


Pairs = Iterator[tuple[int, Record | str]]
Reading = tuple[Pairs, Callable[[], float]]  # the records of a file, and the share of it that has been read


@dataclass(frozen=True)
class Form:
    """How a file is to be read; None = told from its content."""

    reader: str | None = None  # segment, identify, ga4, sequences, pages or feed
    delimiter: str | None = None
    encoding: str | None = None
    header: bool = True
    quotes: bool | None = None
    sheet: str | None = None
    query: str | None = None  # of a database
    lines: str | None = None  # of JSON: the list in a record that becomes one row an element


@dataclass(frozen=True)
class Source:
    """An opened file. `columns`: those it is known to have before its rows are read; None = they differ by row."""

    name: str
    format: str  # csv, parquet, json, excel, segment, identify, ga4, sequences, pages, feed, media, sql
    columns: list[str] | None
    form: Form  # what was asked for, completed by what was found
    blocks: Callable[[Sequence[str] | None, int], Iterator[Block]]  # (wanted columns, blocks to pass by)


@contextmanager
def opened(
    place: Path | str, form: Form | None = None, *, wanted: Sequence[str] = (), limits: Limits | None = None
) -> Iterator[Source]:
    """Open a file, a folder of media or a database address. `wanted` helps to tell the delimiter of a CSV.

    Raises InputError: absent, empty, binary, damaged, a format that is not read; UsageError: an unknown reader.
    """
    form, limits = form or Form(), limits or Limits()
    if form.reader is not None and form.reader not in READERS:
        raise UsageError(
            str(place),
            found=f"there is no reader '{form.reader}'",
            consequence="How the file is to be read is unknown",
            remedy=did_you_mean(form.reader, READERS),
        )
    with ExitStack() as stack:
        if isinstance(place, str) and sql.is_dsn(place):
            yield _told("sql", sql.shown(place), form, limits, lambda: (sql.rows(place, form.query), _unknown))
        elif Path(place).is_dir():
            path = Path(place)
            yield _told("media", path.name, form, limits, lambda: (media.files(path), _unknown), list(media.ROW))
        else:
            yield _by_content(_File(Path(place), limits, stack), form, limits, wanted)


@dataclass(frozen=True)
class _File:
    """A file that can be opened again and again; the stack closes all of it."""

    path: Path
    limits: Limits
    stack: ExitStack

    def open(self) -> archives.Opened:
        return archives.unwrap(self.path, self.limits, self.stack)


def _first_look(file: _File) -> archives.Opened:
    path = file.path
    try:
        opened = file.open()
        head = opened.head()
    except FileNotFoundError as error:
        raise InputError(
            str(path),
            found="there is no such file",
            consequence="There is nothing to import",
            remedy="Check the path",
        ) from error
    except OSError as error:
        raise InputError(
            str(path),
            found=f"the file cannot be opened ({error.strerror})",
            consequence="There is nothing to import",
            remedy="Check that you may read it",
        ) from error
    if not head.strip():
        raise InputError(
            path.name,
            found="the file is empty",
            consequence="There is nothing to import",
            remedy="Export it again",
        )
    for magic, kind, remedy in _NOT_OURS:
        if head.startswith(magic):
            raise InputError(
                path.name, found=f"this is {kind}", consequence="No row can be read from it", remedy=remedy
            )
    return opened


def _by_content(file: _File, form: Form, limits: Limits, wanted: Sequence[str]) -> Source:
    opened, path = _first_look(file), file.path
    head = opened.head()
    name, length = encoding.mark(head) or ("", 0)
    start = head[length:].lstrip()
    if name.startswith("utf-16"):
        start = head[length:].decode(name, errors="ignore").encode(errors="ignore").lstrip()
    if head.startswith(parquet.MAGIC):
        content: Path | BinaryIO = archives.seekable(opened, file.stack) if opened.packed else path
        names = parquet.header(content, opened.name)

        def columns(wanted: Sequence[str] | None, skip: int) -> Iterator[Block]:
            return parquet.blocks(content, opened.name, names if wanted is None else wanted, limits=limits, skip=skip)

        return Source(opened.name, "parquet", names, form, columns)
    if head.startswith(archives.ZIP):  # what a zip still is once its archives are taken off
        book = archives.seekable(opened, file.stack)

        def sheet() -> Reading:
            return excel.rows(book, opened.name, limits, sheet=form.sheet, header=form.header), opened.done

        return _told("excel", opened.name, form, limits, sheet)
    if form.reader == "sequences":

        def lists() -> Reading:
            again = file.open()
            return sequences.records(again, limits, encoding=form.encoding), again.done

        return _told("sequences", opened.name, form, limits, lists, list(sequences.ROW))
    if _is_json(start) or form.reader in _TRACKERS:
        return _json(file, opened.name, form, limits)
    if start.startswith(b"<") and (form.reader == "pages" or _is_page(start)):

        def page() -> Reading:
            return pages.products(_whole(file.open(), pages.PAGE), opened.name), _unknown

        return _told("pages", opened.name, form, limits, page)
    if start.startswith(b"<"):

        def items() -> Reading:
            again = file.open()
            return feed.products(again.stream, opened.name), again.done

        return _told("feed", opened.name, form, limits, items)
    return _csv(file, opened.name, form, limits, wanted)


def _csv(file: _File, name: str, form: Form, limits: Limits, expected: Sequence[str]) -> Source:
    dialect = csv.Dialect(form.delimiter, form.encoding, form.header, form.quotes)

    def blocks(wanted: Sequence[str] | None, skip: int) -> Iterator[Block]:
        opened = file.open()
        found = csv.look(opened, dialect, expected)
        names = list(dict.fromkeys(found.names)) if wanted is None else wanted
        yield from csv.blocks(opened, found, names, header=form.header, limits=limits, skip=skip)

    found = csv.look(file.open(), dialect, expected)
    told = Form(
        delimiter=found.delimiter,
        encoding=found.text.encoding,
        header=form.header,
        quotes=found.quotes,
    )
    return Source(name, "csv", found.names, told, blocks)


def _json(file: _File, name: str, form: Form, limits: Limits) -> Source:
    kind, columns = form.reader, None
    if kind is None:
        first = next(
            (r for _, r in jsonl.records(file.open(), limits, encoding=form.encoding) if isinstance(r, dict)), {}
        )
        kind = "segment" if trackers.is_segment(first) else "ga4" if trackers.is_ga4(first) else None
    if form.reader is None and form.lines is not None:
        kind = None
    read = _TRACKERS.get(kind or "", lambda pairs: _exploded(pairs, form.lines))
    if kind in ("segment", "ga4"):
        columns = list(trackers.ROW)

    def reading() -> Reading:
        again = file.open()
        return read(jsonl.records(again, limits, encoding=form.encoding)), again.done

    return _told(kind or "json", name, form, limits, reading, columns)


def _told(
    kind: str,
    name: str,
    form: Form,
    limits: Limits,
    records: Callable[[], Reading],
    columns: list[str] | None = None,
) -> Source:
    """Make a source of records; pair number 0, where a format brings one, tells the columns."""
    if columns is None:
        first = next(records()[0], (1, {}))
        columns = list(first[1]) if first[0] == 0 and isinstance(first[1], dict) else None

    def blocks(wanted: Sequence[str] | None, skip: int) -> Iterator[Block]:
        pairs, done = records()
        rows = itertools.filterfalse(lambda pair: pair[0] == 0, pairs)
        return from_records(rows, wanted, limits=limits, where=name, done=done, skip=skip)

    return Source(name, kind, columns, form, blocks)


def _exploded(pairs: Pairs, lines: str | None) -> Pairs:
    """Make each element of the list `lines` a row of its own, beside what the record says outside of it."""
    for number, record in pairs:
        elements = None if isinstance(record, str) or lines is None else value_of(record, lines)
        if not isinstance(elements, list) or isinstance(record, str) or not elements:
            yield number, record
            continue
        for place, element in enumerate(elements):
            named = element if isinstance(element, dict) else {"value": element}
            yield number, record | {f"{lines}.{k}": v for k, v in named.items()} | {"line": place}


def _unknown() -> float:
    """Where the length of a file is not known."""
    return 0.0


def _whole(opened: archives.Opened, limit: int) -> bytes:
    content = opened.stream.read(limit + 1)
    if len(content) > limit:
        raise InputError(
            opened.name,
            found=f"the page is longer than {limit:,} bytes",
            consequence="It would not fit into memory",
            remedy="Import the pages one by one",
        )
    return content


def _is_json(start: bytes) -> bool:
    return start[:1] == b"{" or (start[:1] == b"[" and start[1:].lstrip()[:1] in (b"{", b"]", b""))


def _is_page(start: bytes) -> bool:
    lowered = start[:4096].lower()
    return lowered.startswith(b"<!doctype html") or b"<html" in lowered or b"ld+json" in start.lower()


def require(names: Sequence[str], wanted: Sequence[str], *, where: str) -> None:
    """Hold the columns that are there against the wanted ones. Raises InputError ("did you mean")."""
    for column in wanted:
        if column not in names:
            raise InputError(
                where,
                found=f"there is no column '{column}'",
                consequence="The mapping asks for it, and rows without it would mean something else",
                remedy=did_you_mean(column, names),
            )
        if list(names).count(column) > 1:
            raise InputError(
                where,
                found=f"{list(names).count(column)} columns are called '{column}'",
                consequence="Which of them is meant cannot be told",
                remedy="Give each column a name of its own",
            )
