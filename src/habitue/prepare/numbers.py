"""Float64 columns of a frame as one matrix, unknown = NaN, and back: what impute, outliers, scale and reduce share."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
import numpy.typing as npt
import polars as pl

from habitue.core.errors import SchemaError, UsageError, did_you_mean
from habitue.core.metrics import Floats

LARGEST = 1e100  # its square is a number still


def numbers(rows: pl.DataFrame) -> tuple[str, ...]:
    """Return the names of the Float64 columns."""
    return tuple(name for name, dtype in rows.schema.items() if dtype == pl.Float64)


def present(rows: pl.DataFrame, columns: Iterable[str], *, at: str) -> None:
    """Raise SchemaError when a column that was fitted is not there."""
    for name in columns:
        if name not in rows.columns:
            raise SchemaError(
                at,
                found=f"column '{name}' is missing",
                consequence="What was learnt of it would be put to nothing",
                remedy=did_you_mean(name, rows.columns),
            )


def matrix(rows: pl.DataFrame, columns: tuple[str, ...]) -> Floats:
    """Return [N, C] float64 with NaN for null, NaN and infinity; what is beyond LARGEST stands there."""
    if not columns:
        return np.zeros((rows.height, 0))
    table = np.column_stack([rows[name].cast(pl.Float64).fill_null(float("nan")).to_numpy() for name in columns])
    return np.where(np.isfinite(table), np.clip(table, -LARGEST, LARGEST), np.nan)


def known(rows: pl.DataFrame, columns: tuple[str, ...], *, at: str) -> Floats:
    """Return the matrix of columns without an unknown value. Raises UsageError when there is one."""
    table = matrix(rows, columns)
    gaps = np.isnan(table).sum(axis=0)
    if gaps.any():
        worst = columns[int(gaps.argmax())]
        raise UsageError(
            at,
            found=f"column '{worst}' is unknown in {int(gaps.max()):,} of {rows.height:,} rows",
            consequence="A direction in space cannot be told for them",
            remedy="Fill unknown values first: prepare.impute",
        )
    return table


def put(rows: pl.DataFrame, columns: Mapping[str, npt.NDArray[np.float64]]) -> pl.DataFrame:
    """Return `rows` with these columns set, NaN as NaN; new ones stand at the end."""
    return rows.with_columns(pl.Series(name, np.ascontiguousarray(values)) for name, values in columns.items())


def seconds(moments: pl.Series) -> pl.Series:
    """Return moments, or numbers, as Float64 seconds; null as NaN."""
    if moments.dtype.is_temporal():
        moments = moments.cast(pl.Datetime("us")).dt.epoch("us") / 1e6
    return moments.cast(pl.Float64).fill_null(float("nan"))
