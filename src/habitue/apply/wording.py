"""How verdicts write shares and their intervals."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def percent(share: float, digits: int = 1) -> str:
    """0.1234 -> '12.3 %'."""
    return f"{share * 100:,.{digits}f} %"


def rate(row: Mapping[str, Any], digits: int = 1) -> str:
    """{mean, low, high} -> '12.3 % (11.0 to 13.5 %)'; without bounds the mean alone."""
    if row["low"] is None or row["high"] is None:
        return percent(row["mean"], digits)
    return f"{percent(row['mean'], digits)} ({row['low'] * 100:,.{digits}f} to {percent(row['high'], digits)})"


def points(row: Mapping[str, Any]) -> str:
    """A difference of shares -> '+4.2 points (95 % interval +3.2 to +5.3)'."""
    if row["low"] is None or row["high"] is None:
        return f"{row['mean'] * 100:+.1f} points (no interval can be told)"
    return f"{row['mean'] * 100:+.1f} points (95 % interval {row['low'] * 100:+.1f} to {row['high'] * 100:+.1f})"


def clear(row: Mapping[str, Any]) -> bool:
    """Whether the interval is there and leaves 0 out."""
    return row["low"] is not None and row["high"] is not None and not row["low"] <= 0 <= row["high"]
