"""Parquet: typed columns, read as they are."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import polars as pl

from habitue.core.errors import InputError

_DAMAGE = (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError)

MAGIC = b"PAR1"


def header(path: Path) -> list[str]:
    """Return the column names. Raises InputError when the file was cut off or damaged."""
    try:
        return list(pl.read_parquet_schema(path))
    except _DAMAGE as error:
        raise _broken(path) from error


def read(path: Path, wanted: Sequence[str]) -> pl.DataFrame:
    """Return the columns `wanted`. Raises InputError when the file is damaged."""
    try:
        return pl.read_parquet(path, columns=list(wanted), hive_partitioning=False)
    except _DAMAGE as error:
        raise _broken(path) from error


def _broken(path: Path) -> InputError:
    return InputError(
        path.name,
        found="the file starts as Parquet and is cut off or damaged",
        consequence="No row of it can be trusted",
        remedy="Copy or export it again",
    )
