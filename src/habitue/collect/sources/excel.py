"""Excel workbooks (.xlsx): the first sheet with rows, or the one that is named; streamed, cell values only.

A workbook is a zip of XML. Formulas are never computed: the value that Excel stored beside one is read. Dates are
numbers whose format says so; they come out as ISO 8601.
"""

from __future__ import annotations

import datetime as dt
import itertools
import re
import zipfile
from collections.abc import Iterator
from typing import IO, BinaryIO
from xml.etree.ElementTree import Element

from habitue.collect.sources import markup
from habitue.collect.sources.archives import DAMAGE, damaged
from habitue.collect.sources.blocks import Limits, Record, heading
from habitue.core.errors import InputError, did_you_mean

_DATES = frozenset((*range(14, 23), *range(27, 37), *range(45, 48), *range(50, 59)))  # built-in formats of a moment
_EPOCH = dt.datetime(1899, 12, 30)  # Excel thinks 1900 was a leap year; from March 1900 on this is right
_COLUMN = re.compile(r"[A-Z]{1,3}")
SAMPLE = 60  # rows that are looked at to find the header
STRINGS = 256 << 20  # bytes of the workbook's shared texts: they lie in memory while a sheet is read


def rows(
    stream: BinaryIO, name: str, limits: Limits, *, sheet: str | None, header: bool
) -> Iterator[tuple[int, Record | str]]:
    """Yield (number, column -> text, number or moment). The header is the first row of the table,
    whatever title stands above it.

    Raises InputError: damaged, inflating beyond the limits, no such sheet, XML that declares entities.
    """
    try:
        with zipfile.ZipFile(stream) as archive:
            inflated = sum(info.file_size for info in archive.infolist())
            if inflated > limits.max_bytes:
                raise InputError(
                    name,
                    found=f"the workbook inflates to more than {limits.max_bytes:,} bytes",
                    consequence="Reading stopped there, and nothing was stored",
                    remedy="Raise the limit if the file is meant to be that large: --max-bytes",
                )
            path = _sheet(archive, name, sheet)
            strings = _strings(archive, name)
            dated = _dated(archive, name)
            with archive.open(path) as content:
                yield from _records(content, name, strings, dated, header)
    except (KeyError, *DAMAGE) as error:
        raise damaged(name, 0) from error


def _records(
    content: IO[bytes], name: str, strings: list[str], dated: list[bool], header: bool
) -> Iterator[tuple[int, Record | str]]:
    rest = (_cells(row, strings, dated) for row in markup.elements(content, {"row"}, name))
    first = list(itertools.islice(itertools.dropwhile(lambda cells: not cells, rest), SAMPLE))
    if not first:
        return
    above = heading([[str(value) for value in cells.values()] for cells in first]) if header else 0
    width = max(first[above]) + 1
    names = [str(first[above].get(i, "")).strip() if header else str(i + 1) for i in range(width)]
    yield 0, dict.fromkeys(names)  # tells the columns, is no row
    for number, cells in enumerate(itertools.chain(first[above + header :], rest), 1):
        if any(i >= width for i in cells):
            yield number, "too_many_fields"
        elif cells:
            yield number, {names[i]: value for i, value in cells.items() if names[i]}


def _cells(row: Element, strings: list[str], dated: list[bool]) -> dict[int, object]:
    """The values of a row by column, from 0."""
    cells = {}
    for place, cell in enumerate(c for c in row if markup.local(c.tag) == "c"):
        value = _value(cell, strings, dated)
        if value is not None:
            cells[_index(cell.get("r", ""), place)] = value
    return cells


def _value(cell: Element, strings: list[str], dated: list[bool]) -> object:
    kind = cell.get("t", "n")
    if kind == "inlineStr":
        return "".join(t.text or "" for t in cell.iter() if markup.local(t.tag) == "t")
    text = next((v.text for v in cell if markup.local(v.tag) == "v"), None)
    if text is None or kind == "e":  # an error such as #N/A is no value
        return None
    if kind == "s":
        return strings[int(text)] if text.isdecimal() and int(text) < len(strings) else None
    if kind == "b":
        return text == "1"
    if kind in ("str", "d"):
        return text
    style = cell.get("s", "0")
    if style.isdecimal() and int(style) < len(dated) and dated[int(style)]:
        return _moment(text)
    return _number(text)


def _number(text: str) -> object:
    """Write 12.300000000000001, as Excel stores 12.3, with the 15 digits Excel shows."""
    try:
        return float(f"{float(text):.15g}")
    except ValueError:
        return text


def _moment(text: str) -> object:
    try:
        moment = _EPOCH + dt.timedelta(milliseconds=round(float(text) * 86_400_000))
    except (ValueError, OverflowError):
        return text
    return moment.isoformat(sep=" ")


def _index(reference: str, place: int) -> int:
    """Column of a cell, from 0: "BC12" is 54."""
    letters = _COLUMN.match(reference)
    if letters is None:
        return place
    index = 0
    for letter in letters.group():
        index = index * 26 + ord(letter) - 64
    return index - 1


def _sheet(archive: zipfile.ZipFile, name: str, wanted: str | None) -> str:
    """Return the path of a sheet: the one called `wanted`, else the first."""
    with archive.open("xl/workbook.xml") as content:
        sheets = {e.get("name", ""): _relation(e) for e in markup.elements(content, {"sheet"}, name)}
    with archive.open("xl/_rels/workbook.xml.rels") as content:
        targets = {e.get("Id", ""): e.get("Target", "") for e in markup.elements(content, {"Relationship"}, name)}
    if not sheets:
        raise damaged(name, 0)
    if wanted is not None and wanted not in sheets:
        raise InputError(
            name,
            found=f"there is no sheet '{wanted}'",
            consequence="Which rows are meant cannot be told",
            remedy=did_you_mean(wanted, sheets),
        )
    target = targets[sheets[wanted] if wanted is not None else next(iter(sheets.values()))]
    return target.lstrip("/") if target.startswith("/") else f"xl/{target}"


def _relation(sheet: Element) -> str:
    return next((value for key, value in sheet.attrib.items() if key.endswith("}id")), "")


def _strings(archive: zipfile.ZipFile, name: str) -> list[str]:
    """The texts that cells point to."""
    if "xl/sharedStrings.xml" not in archive.namelist():
        return []
    if archive.getinfo("xl/sharedStrings.xml").file_size > STRINGS:
        raise InputError(
            name,
            found=f"the workbook's texts take more than {STRINGS:,} bytes",
            consequence="They would not fit into memory",
            remedy="Save the sheet as CSV in UTF-8",
        )
    with archive.open("xl/sharedStrings.xml") as content:
        return [
            "".join(t.text or "" for t in item.iter() if markup.local(t.tag) == "t")
            for item in markup.elements(content, {"si"}, name)
        ]


def _dated(archive: zipfile.ZipFile, name: str) -> list[bool]:
    """Whether each cell style shows a moment."""
    if "xl/styles.xml" not in archive.namelist():
        return []
    with archive.open("xl/styles.xml") as content:
        parts = {markup.local(e.tag): e for e in markup.elements(content, {"numFmts", "cellXfs"}, name)}
    own: set[int] = set()
    for form in parts.get("numFmts", ()):
        code = re.sub(r'"[^"]*"|\[[^\]]*\]|\\.', "", form.get("formatCode", ""))
        if re.search(r"[ymdhs]", code, re.IGNORECASE) and form.get("numFmtId", "").isdecimal():
            own.add(int(form.get("numFmtId", "0")))
    return [int(form.get("numFmtId", "0")) in _DATES | own for form in parts.get("cellXfs", ())]
