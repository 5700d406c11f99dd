"""Raw columns -> the contract's types, with a reason beside every value that could not be read."""

from __future__ import annotations

import polars as pl

MONEY_LIMIT = 2**53 / 100  # beyond it a double no longer holds the last cent

_OFFSET = r"(?:Z|[+-]\d{2}:?\d{2})$"
_NAIVE_FORMATS = ("%Y-%m-%dT%H:%M:%S%.f", "%Y-%m-%dT%H:%M")


def words(raw: pl.Series) -> pl.Series:
    """Read ids and names as text, as they stand: whole numbers without a decimal point, blanks alone as null."""
    if raw.dtype.is_float():
        whole = (raw.is_finite() & (raw == raw.floor()) & (raw.abs() < 2**53)).fill_null(False)
        raw = raw.set(~whole, None).cast(pl.Int64).cast(pl.String).zip_with(whole, raw.cast(pl.String))
    text = raw.cast(pl.String)
    return text.set(text.str.strip_chars() == "", None)


def numbers(raw: pl.Series) -> tuple[pl.Series, pl.Series]:
    """Read numbers; returns (f64, bad): bad where something stood there that is no finite number below the limit."""
    if raw.dtype == pl.String:
        text = raw.str.strip_chars()
        there = text.is_not_null() & (text != "")
        value = text.cast(pl.Float64, strict=False)
    else:
        there = raw.is_not_null()
        value = (
            raw.cast(pl.Float64) if raw.dtype.is_numeric() else pl.repeat(None, len(raw), dtype=pl.Float64, eager=True)
        )
    good = (value.is_finite() & (value.abs() < MONEY_LIMIT)).fill_null(False)
    value = value.set(~good, None)
    return value.set(value == 0.0, 0.0), there & ~good  # -0.0 and 0.0 are one number, so they are one in an id


def moments(raw: pl.Series, *, zone: str, time_format: str | None) -> pl.Series:
    """Read times as UTC; null where there is none, where it cannot be read, and in an hour the clocks skipped.

    A time with an offset keeps it; one without is local to `zone`, and the earlier one in the hour that came twice.
    """
    if raw.dtype == pl.Date:
        raw = raw.cast(pl.Datetime("us"))
    if isinstance(raw.dtype, pl.Datetime):
        return _utc(raw.dt.cast_time_unit("us"), zone)
    if raw.dtype != pl.String:
        return pl.Series(raw.name, [None] * len(raw), dtype=pl.Datetime("us", "UTC"))
    text = raw.str.strip_chars()
    if time_format is not None:
        if "%z" in time_format or "%:z" in time_format:
            return text.str.to_datetime(time_format, time_unit="us", strict=False).dt.convert_time_zone("UTC")
        return _utc(text.str.to_datetime(time_format, time_unit="us", strict=False), zone)
    iso = text.str.replace(r"^(\d{4}-\d{2}-\d{2}) ", "${1}T")
    local = pl.Series(raw.name, [None] * len(raw), dtype=pl.Datetime("us"))
    for pattern in _NAIVE_FORMATS:
        local = local.fill_null(iso.str.to_datetime(pattern, time_unit="us", strict=False))
    local = local.fill_null(iso.str.to_date("%Y-%m-%d", strict=False).cast(pl.Datetime("us")))
    found = _utc(local, zone)
    if not iso.str.contains(rf"T.*{_OFFSET}").any():
        return found
    offset = iso.str.replace("Z$", "+00:00").str.to_datetime("%Y-%m-%dT%H:%M:%S%.f%z", time_unit="us", strict=False)
    return offset.dt.convert_time_zone("UTC").fill_null(found)


def _utc(local: pl.Series, zone: str) -> pl.Series:
    if isinstance(local.dtype, pl.Datetime) and local.dtype.time_zone is not None:
        return local.dt.convert_time_zone("UTC")
    aware = local.dt.replace_time_zone(zone, ambiguous="earliest", non_existent="null")
    return aware.dt.convert_time_zone("UTC")
