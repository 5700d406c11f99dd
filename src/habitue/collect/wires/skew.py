"""The moment of an event by the server's clock: at = received - (sent - original), as Segment corrects clocks."""

from __future__ import annotations

import datetime as dt
from typing import Any

from habitue.collect.lines import moment

EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)


def corrected(original: Any, sent: Any, received: dt.datetime) -> Any:
    """Return the corrected moment; without a readable `sent` the client's own, without an `original` the `received`.

    What cannot be read is returned as it is, to be refused where moments are read.
    """
    if original is None:
        return received
    at, left = moment(original), moment(sent)
    if at is None:
        return original
    try:
        return at if left is None else received - (left - at)
    except OverflowError:
        return at


def milliseconds(value: Any) -> Any:
    """Read a number, or the text of one, as milliseconds since 1970; anything else stands as it is."""
    return _since(value, 1_000)


def microseconds(value: Any) -> Any:
    """Read microseconds since 1970; anything else stands as it is."""
    return _since(value, 1)


def seconds(value: Any) -> Any:
    """Read seconds since 1970; anything else stands as it is."""
    return _since(value, 1_000_000)


def _since(value: Any, micros: int) -> Any:
    if isinstance(value, bool) or not isinstance(value, int | float | str) or value == "":
        return value
    try:
        return EPOCH + dt.timedelta(microseconds=round(float(value) * micros))
    except (ValueError, OverflowError):
        return value
