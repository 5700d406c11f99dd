"""Columns as numbers: numbers standardised, categories one-hot or hashed, moments as places on their circles.

What is learnt from a table (means, spreads, categories) comes back as `fitted`; pass it to bring other rows into the
same columns. Hashing: Weinberger et al. 2009, "Feature hashing for large scale multitask learning", eq. 2 (signed).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass

import numpy as np
import numpy.typing as npt
import polars as pl

from habitue.core.errors import SchemaError, SettingsError
from habitue.encode.vectors import Vectors

ENCODER = "table.columns@1"
CONSTANT = 1e-12  # a spread below this share of the largest value is rounding, not information
Block = npt.NDArray[np.float64]  # [I, numbers of one column]


@dataclass(frozen=True)
class Config:
    """How columns become numbers. Raises SettingsError for settings that make no sense."""

    one_hot: int = 32  # a column with more categories is hashed
    buckets: int = 64  # numbers a hashed column becomes
    limit: float = 10.0  # standard deviations; what lies further out counts as this far

    def __post_init__(self) -> None:
        """Refuse settings that would lose every column."""
        if not (self.one_hot >= 1 and self.buckets >= 1 and self.limit > 0):
            raise SettingsError(
                "encode.table.Config",
                found=f"one_hot {self.one_hot}, buckets {self.buckets}, limit {self.limit}",
                consequence="Every column would become nothing",
                remedy="Give one_hot >= 1, buckets >= 1 and limit > 0",
            )


@dataclass(frozen=True)
class Column:
    """What was learnt of one column; `kind` is number, category, hashed or time."""

    name: str
    kind: str
    dtype: str  # in words, to refuse another one later
    largest: float = 1.0  # of the numbers, so that no sum can overflow
    mean: float = 0.0  # of number / largest
    spread: float = 0.0  # standard deviation of number / largest; 0 for a constant
    values: tuple[str, ...] = ()  # categories, by name


@dataclass(frozen=True)
class Fitted:
    """What a later call needs to make the same columns."""

    config: Config
    columns: tuple[Column, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """One name per number of a row, e.g. 'price', 'price missing', 'colour=red', 'at weekday sin'."""
        return tuple(name for column in self.columns for name in _names(column, self.config))


def encode(things: pl.DataFrame, config: Config | None = None, *, fitted: Fitted | None = None) -> Vectors:
    """Return one row per thing: every column of `things` but `id`; float32, not of length 1.

    A number gives (standardised, missing); null, NaN and infinity are missing. Text gives one number a category, one
    for "any other" and one for missing, or `buckets` signed numbers when there are more categories than `one_hot`.
    A date or time gives its place on the circles of day, week and year, itself standardised, and missing. Columns that
    `fitted` does not know are left out. O(rows x columns). Raises SchemaError for lists and binary columns, for a
    column that `fitted` knows and `things` lacks or has in another type; SettingsError for other settings than its.
    """
    config = config or (fitted.config if fitted else Config())
    if fitted and fitted.config != config:
        raise SettingsError(
            "encode.table.Config",
            found=f"{config}; the columns were made with {fitted.config}",
            consequence="The numbers of a row would not mean the same",
            remedy="Pass the settings the columns were made with, or none",
        )
    _check(things)
    fitted = fitted or Fitted(config, tuple(_learn(things[n], config) for n in things.columns if n != "id"))
    blocks = [_block(_same(things, column), column, config) for column in fitted.columns]
    matrix = np.hstack(blocks).astype(np.float32)
    ids = tuple(things["id"])
    state = hashlib.sha256(json.dumps([ENCODER, asdict(fitted), ids]).encode())
    state.update(np.ascontiguousarray(matrix).tobytes())
    return Vectors(ids, matrix, np.ones(len(ids), dtype=bool), ENCODER, state.hexdigest(), fitted=fitted)


def _check(things: pl.DataFrame) -> None:
    found = ""
    if "id" not in things.columns:
        found = "column 'id' is missing"
    elif things["id"].n_unique() < things.height:
        found = "an id comes twice"
    elif things.width == 1:
        found = "there is no column beside 'id'"
    if found:
        raise SchemaError(
            "encode.table",
            found=found,
            consequence="Rows could not be told apart, or there is nothing to encode",
            remedy="Give one row per thing with id and at least one column",
        )


def _learn(series: pl.Series, config: Config) -> Column:
    kind = _kind(series)
    if kind == "category":
        values = tuple(sorted(series.cast(pl.String).drop_nulls().unique()))
        if len(values) > config.one_hot:
            return Column(series.name, "hashed", _type(series))
        return Column(series.name, kind, _type(series), values=values)
    numbers = _numbers(series)
    there = numbers[np.isfinite(numbers)]
    largest = float(np.abs(there).max(initial=0.0)) or 1.0
    share = there / largest
    mean, spread = (float(share.mean()), float(share.std())) if len(share) else (0.0, 0.0)
    return Column(series.name, kind, _type(series), largest, mean, spread if spread > CONSTANT else 0.0)


def _kind(series: pl.Series) -> str:
    dtype = series.dtype
    if dtype.is_numeric() or dtype in (pl.Boolean, pl.Duration, pl.Null):
        return "number"
    if dtype in (pl.String, pl.Categorical, pl.Enum):
        return "category"
    if dtype in (pl.Date, pl.Datetime, pl.Time):
        return "time"
    raise SchemaError(
        "encode.table",
        found=f"column '{series.name}' is {dtype}",
        consequence="It is no number, category or moment, so it has no place in a row",
        remedy="Leave it out, or make numbers or words of it first",
    )


def _type(series: pl.Series) -> str:
    """Return what must stay the same between fit and use: kinds of numbers may mix, kinds of moments may not."""
    kind = _kind(series)
    return f"{kind} {series.dtype.base_type().__name__}" if kind == "time" else kind


def _same(things: pl.DataFrame, column: Column) -> pl.Series:
    found = ""
    if column.name not in things.columns:
        found = f"column '{column.name}' is missing"
    elif things.schema[column.name] == pl.Null:
        return pl.Series(column.name, [None] * things.height, dtype=_nulls(column))
    elif _type(things[column.name]) != column.dtype:
        found = f"column '{column.name}' is {things.schema[column.name]}; it was fitted as {column.dtype}"
    if found:
        raise SchemaError(
            "encode.table",
            found=found,
            consequence="The row would mean something else than those learnt from",
            remedy="Give the columns that were fitted, in their types",
        )
    return things[column.name]


def _nulls(column: Column) -> pl.DataType:
    types = {"number": pl.Float64(), "category": pl.String(), "hashed": pl.String()}
    moments = {"time Date": pl.Date(), "time Datetime": pl.Datetime(), "time Time": pl.Time()}
    return types.get(column.kind) or moments[column.dtype]


def _block(series: pl.Series, column: Column, config: Config) -> Block:
    blocks: dict[str, Callable[[pl.Series, Column, Config], Block]] = {
        "number": _standardised,
        "category": _one_hot,
        "hashed": _hashed,
        "time": _circles,
    }
    return blocks[column.kind](series, column, config)


def _standardised(series: pl.Series, column: Column, config: Config) -> Block:
    numbers = _numbers(series)
    missing = ~np.isfinite(numbers)
    with np.errstate(over="ignore"):  # far beyond what was fitted: infinite here, at the limit below
        offset = np.where(missing, column.mean, numbers / column.largest) - column.mean
        scaled = np.divide(offset, column.spread, out=np.zeros_like(offset), where=column.spread > 0)
    return np.column_stack([np.clip(scaled, -config.limit, config.limit), missing])


def _one_hot(series: pl.Series, column: Column, _: Config) -> Block:
    place = {value: i for i, value in enumerate(column.values)}
    other, null = len(place), len(place) + 1
    columns = [null if value is None else place.get(value, other) for value in series.cast(pl.String)]
    block = np.zeros((len(series), null + 1))
    block[np.arange(len(series)), columns] = 1.0
    return block


def _hashed(series: pl.Series, column: Column, config: Config) -> Block:
    block = np.zeros((len(series), config.buckets + 1))
    places: dict[str, tuple[int, float]] = {}
    for row, value in enumerate(series.cast(pl.String)):
        if value is None:
            block[row, -1] = 1.0
            continue
        if value not in places:
            digest = hashlib.blake2b(f"{column.name}\x00{value}".encode(), digest_size=8).digest()
            places[value] = int.from_bytes(digest[:7]) % config.buckets, 1.0 if digest[7] % 2 else -1.0
        bucket, sign = places[value]
        block[row, bucket] = sign
    return block


def _circles(series: pl.Series, column: Column, config: Config) -> Block:
    parts = []
    for name, period in _periods(column):
        share = _part(series, name).cast(pl.Float64).to_numpy() / period * 2 * np.pi
        parts += [np.nan_to_num(np.sin(share)), np.nan_to_num(np.cos(share))]
    trend = _standardised(series, column, config)
    return np.column_stack([*parts, trend])


def _periods(column: Column) -> list[tuple[str, float]]:
    day, week_and_year = [("day", 86_400.0)], [("week", 7.0), ("year", 365.25)]
    return {"Time": day, "Date": week_and_year}.get(column.dtype.split()[-1], day + week_and_year)


def _part(series: pl.Series, name: str) -> pl.Series:
    if name == "week":
        return series.dt.weekday() - 1
    if name == "year":
        return series.dt.ordinal_day() - 1
    return series.dt.hour().cast(pl.Int32) * 3600 + series.dt.minute().cast(pl.Int32) * 60 + series.dt.second()


def _numbers(series: pl.Series) -> npt.NDArray[np.float64]:
    """Return float64[I]; null is NaN. A moment is its microseconds, a duration too."""
    if series.dtype == pl.Time:
        series = series.cast(pl.Int64)
    elif series.dtype in (pl.Date, pl.Datetime):
        series = series.dt.timestamp("us")
    elif series.dtype == pl.Duration:
        series = series.dt.total_microseconds()
    return series.cast(pl.Float64).to_numpy().astype(np.float64)


def _names(column: Column, config: Config) -> list[str]:
    if column.kind == "category":
        return [
            *(f"{column.name}={value}" for value in column.values),
            f"{column.name} other",
            f"{column.name} missing",
        ]
    if column.kind == "hashed":
        return [*(f"{column.name}#{bucket}" for bucket in range(config.buckets)), f"{column.name} missing"]
    circles = _periods(column) if column.kind == "time" else []
    return [
        *(f"{column.name} {n} {f}" for n, _ in circles for f in ("sin", "cos")),
        column.name,
        f"{column.name} missing",
    ]
