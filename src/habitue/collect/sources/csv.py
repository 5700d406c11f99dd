"""Text with one row a line, UTF-8, a header, fields with the delimiter or line breaks in double quotes."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

import polars as pl

from habitue.core.errors import InputError

DELIMITERS = (",", ";", "\t", "|")


def header(path: Path, wanted: Sequence[str], *, delimiter: str) -> list[str]:
    """Return the column names. Raises InputError when another delimiter fits the wanted columns, or for no UTF-8."""
    names = _first_record(path, delimiter)
    if not set(wanted) & set(names):
        for other in DELIMITERS:
            if other != delimiter and set(wanted) & set(_first_record(path, other)):
                raise InputError(
                    path.name,
                    found=f"its columns are separated by {other!r}, not by {delimiter!r}",
                    consequence="Every line would be one column",
                    remedy=f"Write in the mapping: delimiter = {_toml(other)}",
                )
    return names


def read(path: Path, wanted: Sequence[str], *, delimiter: str) -> pl.DataFrame:
    """Return the columns `wanted` as text, an empty field as null. Raises InputError naming the line at fault."""
    try:
        frame = pl.read_csv(path, columns=list(wanted), separator=delimiter, infer_schema=False, encoding="utf8")
    except pl.exceptions.PolarsError as error:
        raise _broken(path, delimiter) from error
    return frame.select(wanted)


def _first_record(path: Path, delimiter: str) -> list[str]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            return next(csv.reader(file, delimiter=delimiter), [])
    except (UnicodeDecodeError, csv.Error) as error:
        raise _broken(path, delimiter) from error


def _broken(path: Path, delimiter: str) -> InputError:
    """Find the first line that is at fault; only called once something is."""
    with path.open("rb") as raw:
        for number, line in enumerate(raw, start=1):
            try:
                line.decode()
            except UnicodeDecodeError:
                return InputError(
                    path.name,
                    found=f"line {number:,} is not UTF-8",
                    consequence="Names and titles would be garbled",
                    remedy="Export it as UTF-8, or convert it: iconv -f LATIN1 -t UTF-8 FILE > NEW",
                )
    with path.open(encoding="utf-8-sig", newline="") as file:
        records = csv.reader(file, delimiter=delimiter, strict=True)
        try:
            width = len(next(records))
            for record in records:
                if len(record) > width:
                    return InputError(
                        path.name,
                        found=f"line {records.line_num:,} has {len(record)} fields and the header {width}",
                        consequence="Its values would stand under the wrong names",
                        remedy="Put fields that hold the delimiter into double quotes",
                    )
        except csv.Error:
            pass  # the line of the quote is as good an answer as any: said below
        return InputError(
            path.name,
            found=f"the quotes near line {records.line_num:,} do not close",
            consequence="Rows would run into each other",
            remedy='Close every double quote, and write one inside a field twice: ""',
        )


def _toml(delimiter: str) -> str:
    return '"\\t"' if delimiter == "\t" else f'"{delimiter}"'
