"""One record of the log: what a group of requests brought, with keys in the place of people and words masked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from habitue.collect.lines import Event
from habitue.core.extras import need
from habitue.core.schemas import EVENTS
from habitue.protect.identities import micros

COLUMNS = tuple(column.name for column in EVENTS.columns if column.name != "import_id")
MOMENTS = tuple(COLUMNS.index(name) for name in ("at", "received_at"))


@dataclass
class Group:
    """What is put on the disk together."""

    events: list[Event] = field(default_factory=list)
    refused: list[tuple[str, int, str, str]] = field(default_factory=list)  # source, number in its request, code, raw

    @property
    def empty(self) -> bool:
        """Whether there is nothing to store."""
        return not (self.events or self.refused)


@dataclass(frozen=True)
class Entry:
    """A record as it is read again: events as tuples in the order of `columns`, moments in microseconds."""

    columns: Sequence[str]
    events: list[tuple[Any, ...]]
    refused: list[tuple[str, int, str, str]]


def encoded(group: Group) -> bytes:
    """Write a group as MessagePack. It names its columns, so that a later version reads it. About 1.5 us a line."""
    msgspec = need("msgspec", extra="serve", purpose="collect.entry")
    rows = []
    for event in group.events:
        row = [event[name] for name in COLUMNS]
        for place in MOMENTS:
            row[place] = micros(row[place])
        rows.append(row)
    packed: bytes = msgspec.msgpack.encode({"columns": COLUMNS, "events": rows, "refused": group.refused})
    return packed


def decoded(payload: bytes) -> Entry:
    """Read what `encoded` wrote."""
    msgspec = need("msgspec", extra="serve", purpose="collect.entry")
    said = msgspec.msgpack.decode(payload)
    return Entry(said["columns"], said["events"], said["refused"])
