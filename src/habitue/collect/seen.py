"""Which event ids were met within the horizon: those in the lake by their files (`met`), the others in memory.

What is in memory is what came since the last turn of the inbox into the lake: 70 bytes an id of the latest RECENT, 8 of
the others, and so never more than the inbox is large. The files are mapped: their pages are the system's.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from habitue.collect import met
from habitue.collect.met import Numbers

RECENT = 2**15  # ids in the set before they go into an array: 2 MB


class Seen:
    """The ids of one workspace; for one thread. An id is its number (`met.numbers`)."""

    def __init__(self, folder: Path, *, days: int = 30) -> None:
        self._folder, self._days = folder, dt.timedelta(days=days)
        self._recent: set[int] = set()
        self._turn = 0
        self._levels: list[tuple[Numbers, int]] = []  # beside each the last turn that is in it
        self._stored: list[Numbers] = []  # mapped

    def __len__(self) -> int:
        """How many ids are in memory."""
        return len(self._recent) + sum(len(ids) for ids, _ in self._levels)

    def known(self, numbers: Sequence[int]) -> list[bool]:
        """Say of each id whether it was met. O(log of those kept) an id."""
        found = [one in self._recent for one in numbers]
        levels = [*(ids for ids, _ in self._levels), *self._stored]
        if levels and not all(found):
            asked = np.array(numbers, dtype=np.int64)
            old = np.zeros(len(asked), dtype=bool)
            for ids in levels:
                old |= ids[np.minimum(np.searchsorted(ids, asked), len(ids) - 1)] == asked
            found = [a or b for a, b in zip(found, old.tolist(), strict=True)]
        return found

    def add(self, numbers: Iterable[int]) -> None:
        """Remember ids. Amortised O(log n) an id."""
        self._recent.update(numbers)
        if len(self._recent) >= RECENT:
            self._freeze()

    def turn(self) -> int:
        """Begin a turn: what was met so far is about to be written; returns its number, for `written`."""
        self._freeze()
        self._turn += 1
        return self._turn

    def written(self, turn: int, *, now: dt.datetime) -> None:
        """Take what was met before a turn from its files from now on, and let go what is older than the horizon.

        Raises LakeError when the files cannot be read; then everything stays in memory.
        """
        self._stored = met.opened(self._folder, since=now - self._days)
        self._levels = [(ids, last) for ids, last in self._levels if last >= turn]

    def _freeze(self) -> None:
        """Put the latest ids into an array, and merge arrays of like size: there are O(log n) of them."""
        if not self._recent:
            return
        ids = np.fromiter(self._recent, dtype=np.int64, count=len(self._recent))
        ids.sort()
        self._recent.clear()
        while self._levels and len(self._levels[-1][0]) < 2 * len(ids):
            ids = np.union1d(self._levels.pop()[0], ids)
        self._levels.append((ids, self._turn))
