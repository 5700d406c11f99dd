"""Open a file by its content, never by its name, and hold its columns against what was asked for."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import polars as pl

from habitue.collect.sources import csv, parquet
from habitue.core.errors import InputError, did_you_mean

_MAGIC = (
    (b"PK\x03\x04", "an Excel workbook or a zip archive"),
    (b"\xd0\xcf\x11\xe0", "an old Excel workbook"),
    (b"\x1f\x8b", "a gzip archive"),
    (b"\xff\xfe", "text in UTF-16"),
    (b"\xfe\xff", "text in UTF-16"),
    (b"%PDF", "a PDF"),
)


def read(path: Path, wanted: Sequence[str], *, delimiter: str = ",") -> pl.DataFrame:
    """Return the columns `wanted` of a CSV (all text, UTF-8) or Parquet file (its own types), rows in file order.

    Raises InputError: absent, a folder, empty, binary, damaged, a column that is missing.
    """
    if _head(path).startswith(parquet.MAGIC):
        require(parquet.header(path), wanted, where=path.name)
        return parquet.read(path, wanted)
    require(csv.header(path, wanted, delimiter=delimiter), wanted, where=path.name)
    return csv.read(path, wanted, delimiter=delimiter)


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


def _head(path: Path) -> bytes:
    if path.is_dir():
        raise InputError(
            str(path),
            found="this is a folder",
            consequence="One file is imported at a time",
            remedy="Name a CSV or Parquet file in it",
        )
    try:
        with path.open("rb") as file:
            head = file.read(65_536)
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
    if head.startswith(parquet.MAGIC):
        return head
    kind = next((words for magic, words in _MAGIC if head.startswith(magic)), None)
    if kind is None and b"\x00" in head:
        kind = "a binary file"
    if kind is not None:
        raise InputError(
            path.name,
            found=f"this is {kind}, neither CSV nor Parquet",
            consequence="No row can be read from it",
            remedy="Export it as CSV in UTF-8, or as Parquet",
        )
    return head
