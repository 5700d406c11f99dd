"""Ordered lists: one user a line, then the items in the order they were met ("u1 i5 i9 i2"), no times.

The order is all there is, so item n of a user gets the moment START + n seconds: the dates mean nothing.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator

from habitue.collect.sources.archives import Opened
from habitue.collect.sources.blocks import Limits, Record
from habitue.collect.sources.encoding import Utf8
from habitue.core.errors import InputError

ROW = ("user", "item", "position", "at")
START = dt.datetime(2000, 1, 1, tzinfo=dt.UTC)


def records(opened: Opened, limits: Limits, *, encoding: str | None) -> Iterator[tuple[int, Record | str]]:
    """Yield (number of the line, user, item, position from 1, at); a line with a user alone is "no_item"."""
    rest, number = b"", 0
    pieces = iter(Utf8(opened.stream, opened.name, encoding))
    while True:
        piece = next(pieces, b"")
        *lines, rest = (rest + piece).split(b"\n") if piece else [*(rest + b"\n").split(b"\n")]
        for line in lines:
            number += 1
            user, *items = line.decode().replace(",", " ").split() or [""]
            if user and not items:
                yield number, "no_item"
            for position, item in enumerate(items, start=1):
                at = START + dt.timedelta(seconds=position - 1)
                yield number, {"user": user, "item": item, "position": position, "at": at}
        if not piece:
            return
        if len(rest) > limits.max_record:
            raise InputError(
                opened.name,
                found=f"line {number + 1:,} is longer than {limits.max_record:,} bytes",
                consequence="It would not fit into memory",
                remedy="One user's list stands on one line; check the line ends",
            )
