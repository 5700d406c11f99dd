"""The events of each person, where answers find them: as the lake held them at its last reading, and since.

    base     the lake's clean events in one file, a line of JSON each, by person and time, mapped into memory: the
             system's page cache is its bound, and it is written again from the lake at every reading (shop.py)
    fresh    events since then, as the receiver hands them over, packed into some bytes each; let go when a later base
             holds them

A base holds the newest MOST events of a person, counted apart for those the declared features are made of, which
purchases are (so no number of clicks moves a feature or a purchase out of sight). Each event has a mark, a number of
its moment and line, mixed; those of a person are added up, and equal sums are equal events.
"""

from __future__ import annotations

import datetime as dt
import json
import marshal
import mmap
from array import array
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from habitue.encode import search
from habitue.model.past import Ints
from habitue.prepare import replay
from habitue.prepare.declared import LEDGER, Feature

FILE = "live.ndjson"
MOST = 20_000  # newest events of a person that are in sight, and as many of those that features are made of
WORD = 2**64 - 1  # marks are added up within it
Row = dict[str, Any]

_OWN = ("at", "event_id", "line", "kind", "item_id", "quantity", "value")
_US = dt.timedelta(microseconds=1)
_MIX = (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB)  # splitmix64 (Steele, Lea and Flood, 2014)


def columns(declared: Sequence[Feature]) -> list[str]:
    """Return the columns of EVENTS that sets and declared features are made of."""
    named = {c for f in declared for c in (f.column, *f.per, *(w[0] for w in f.where)) if c and f.kind != "calendar"}
    return [*_OWN, *sorted(named - set(_OWN))]


@dataclass(frozen=True)
class Base:
    """Clean events of every person, mapped from a file; those of one person are its bytes start[i]:start[i + 1]."""

    mapped: mmap.mmap | bytes
    keys: Ints  # ascending
    start: Ints
    marks: npt.NDArray[np.uint64]

    def of(self, key: int) -> list[Row]:
        """Return a person's rows in time."""
        if (i := self._place(key)) < 0:
            return []
        lines = self.mapped[self.start[i] : self.start[i + 1] - 1]  # but for the last end of a line
        rows: list[Row] = json.loads(b"[%b]" % lines.replace(b"\n", b","))
        for row in rows:
            row["at"] = replay.EPOCH + row["at"] * _US
        return rows

    def mark(self, key: int) -> int:
        """Return the mark of a person's events, 0 without any."""
        return 0 if (i := self._place(key)) < 0 else int(self.marks[i])

    def _place(self, key: int) -> int:
        i = int(np.searchsorted(self.keys, key))
        return i if i < len(self.keys) and self.keys[i] == key else -1


def lay_out(
    events: pl.DataFrame,
    folder: Path,
    *,
    searches: search.Index | None = None,
    declared: Sequence[Feature] = LEDGER,
    most: int = MOST,
) -> None:
    """Write clean EVENTS, joined people under one key, as a base into an empty folder. O(n log n)."""
    rows = _in_sight(events.sort("user_key", "at", "event_id", "line"), declared, most)
    told = [] if searches is None else ["meant"]
    rows = rows if searches is None else search.beside(rows, searches)
    keys, first, counts = np.unique(rows["user_key"].to_numpy(), return_index=True, return_counts=True)
    rows.select(*columns(declared), *told).with_columns(pl.col("at").dt.epoch("us")).write_ndjson(folder / FILE)
    marks = _marks(rows["at"].dt.epoch("us").to_numpy(), rows["line"].to_numpy())
    content = np.memmap(folder / FILE, dtype=np.uint8, mode="r") if rows.height else np.zeros(0, dtype=np.uint8)
    ends = np.flatnonzero(content == ord("\n")) + 1  # of lines; JSON escapes its own
    start = np.concatenate([[0], ends[np.cumsum(counts) - 1]]).astype(np.int64)
    np.save(folder / "people.npy", keys.astype(np.int64))
    np.save(folder / "people-start.npy", start)
    np.save(folder / "people-marks.npy", np.add.reduceat(marks, first) if rows.height else marks)


def _in_sight(rows: pl.DataFrame, declared: Sequence[Feature], most: int) -> pl.DataFrame:
    """Leave out all but the newest `most` rows of each person, of what features are made of and of the rest."""
    declares = pl.col("kind").is_in(sorted({kind for feature in declared for kind in feature.kinds}))
    counted = rows.select(left=pl.len().over("user_key", declares) - pl.int_range(pl.len()).over("user_key", declares))
    return rows.filter(counted["left"] <= most)


def mapped(folder: Path) -> Base:
    """Map a base; the files may be removed meanwhile, their bytes stay until it is let go."""
    keys, start, marks = (np.load(folder / f"people{name}.npy", mmap_mode="r") for name in ("", "-start", "-marks"))
    with (folder / FILE).open("rb") as file:
        content = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) if len(keys) else b""
    return Base(content, keys, start, marks)


def _marks(at: Ints, line: npt.NDArray[Any]) -> npt.NDArray[np.uint64]:
    """Return a number for each event; `at` in microseconds since 1970."""
    x = at.astype(np.uint64) + np.uint64(_MIX[0]) * (line.astype(np.uint64) + np.uint64(1))
    x = (x ^ (x >> np.uint64(30))) * np.uint64(_MIX[1])
    x = (x ^ (x >> np.uint64(27))) * np.uint64(_MIX[2])
    mixed: npt.NDArray[np.uint64] = x ^ (x >> np.uint64(31))
    return mixed


def mark(row: Row) -> int:
    """The same of one event, in plain numbers: NumPy would take ten times as long."""
    at: int = (row["at"] - replay.EPOCH) // _US
    x = (at + _MIX[0] * (row["line"] + 1)) & WORD
    x = ((x ^ (x >> 30)) * _MIX[1]) & WORD
    x = ((x ^ (x >> 27)) * _MIX[2]) & WORD
    mixed: int = x ^ (x >> 31)
    return mixed


@dataclass(slots=True)
class Fresh:
    """The events since a reading, packed: as dicts they would take three times the memory.

    And that for minutes only, between shoppers that stay for hours: it would leave the memory full of holes (LOG.md).
    """

    names: Sequence[str]  # of the columns of a row
    numbers: array[int] = field(default_factory=lambda: array("q"))  # [n] ascending, of each event
    hashes: array[int] = field(default_factory=lambda: array("q"))  # [n] of what it says
    packed: list[bytes] = field(default_factory=list)  # [n] its row and the place of the one before of the same key
    said: set[int] = field(default_factory=set)  # the hashes
    newest: dict[int, int] = field(default_factory=dict)  # by the event's own key: place of the newest
    gone: int = 0  # events let go so far; places count on

    def __len__(self) -> int:
        """Return how many there are."""
        return len(self.packed)

    def add(self, number: int, said: int, key: int, row: Row | None) -> None:
        """Keep one event; of one that is not believed, None, only that it was said."""
        self.numbers.append(number)
        self.hashes.append(said)
        self.said.add(said)
        if row is None:
            self.packed.append(b"")
            return
        told = [row[name] for name in self.names]
        told[0] = (told[0] - replay.EPOCH) // _US
        written = marshal.dumps((self.newest.get(key, -1), told))
        self.packed.append(bytes(memoryview(written)))  # copied: what marshal cuts short leaves a hole of a kilobyte
        self.newest[key] = self.gone + len(self.packed) - 1

    def of(self, key: int) -> list[Row]:
        """Return the rows of a key, newest first."""
        rows, place = [], self.newest.get(key, -1)
        while place >= self.gone:
            place, told = marshal.loads(self.packed[place - self.gone])
            told[0] = replay.EPOCH + told[0] * _US
            rows.append(dict(zip(self.names, told, strict=True)))
        return rows

    def let_go(self, before: int) -> None:
        """Let go of the events with lower numbers. O(n)."""
        count = bisect_left(self.numbers, before)
        del self.numbers[:count], self.hashes[:count], self.packed[:count]
        self.gone += count
        self.said = set(self.hashes)
        self.newest = {key: place for key, place in self.newest.items() if place >= self.gone}
