"""Parquet: typed columns, read as they are, some ten thousand rows at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

import polars as pl

from habitue.collect.sources.blocks import ROWS, Block, Limits
from habitue.core.errors import InputError

_DAMAGE = (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError)

MAGIC = b"PAR1"


def header(source: Path | BinaryIO, name: str) -> list[str]:
    """Return the column names. Raises InputError when the file was cut off or damaged."""
    try:
        return list(pl.read_parquet_schema(source))
    except _DAMAGE as error:
        raise _broken(name) from error


def blocks(
    source: Path | BinaryIO, name: str, wanted: Sequence[str], *, limits: Limits, skip: int = 0
) -> Iterator[Block]:
    """Yield the columns `wanted`, rows in file order, after `skip` blocks. Raises InputError when it is damaged."""
    try:
        lazy = pl.scan_parquet(source, hive_partitioning=False)
        height = lazy.select(pl.len()).collect().item()
        for start in range(skip * ROWS, height, ROWS):
            frame = lazy.slice(start, ROWS).select(wanted).collect()
            limits.rows(start + frame.height, name)
            numbers = pl.int_range(start + 1, start + frame.height + 1, eager=True).alias("row")
            yield Block(frame, numbers, done=min((start + ROWS) / height, 1.0))
    except _DAMAGE as error:
        raise _broken(name) from error


def _broken(name: str) -> InputError:
    return InputError(
        name,
        found="the file starts as Parquet and is cut off or damaged",
        consequence="No row of it can be trusted",
        remedy="Copy or export it again",
    )
