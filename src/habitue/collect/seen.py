"""Which event ids were met within the horizon, in bounded memory: 10 bytes an id beyond the latest, 70 of those.

An id counts by 64 bits of Python's own keyed hash, another key in every process: nobody can make two ids agree. Of 20
million ids kept, a new one agrees with one of them once in a million million.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt

RECENT = 2**17  # ids in the set before they go into an array

_Ids = npt.NDArray[np.int64]
_Days = npt.NDArray[np.int32]


class Seen:
    """Ids by the day they were met; ids older than `days` are forgotten, and the oldest where `most` are exceeded."""

    def __init__(self, *, days: int = 30, most: int = 20_000_000) -> None:
        self._days, self._most = days, most
        self._recent: set[int] = set()
        self._today = 0
        self._levels: list[tuple[_Ids, _Days]] = []  # each sorted by id, each at least twice the next

    def __len__(self) -> int:
        """How many ids are kept."""
        return len(self._recent) + sum(len(ids) for ids, _ in self._levels)

    def known(self, event_ids: Sequence[str]) -> list[bool]:
        """Say of each id whether it was met. O(log of those kept) an id."""
        hashes = [hash(one) for one in event_ids]
        found = [one in self._recent for one in hashes]
        if self._levels and not all(found):
            asked = np.array(hashes, dtype=np.int64)
            old = np.zeros(len(asked), dtype=bool)
            for ids, _ in self._levels:
                places = np.minimum(np.searchsorted(ids, asked), len(ids) - 1)
                old |= ids[places] == asked
            found = [a or b for a, b in zip(found, old.tolist(), strict=True)]
        return found

    def add(self, event_ids: Iterable[str], *, day: int) -> None:
        """Remember ids met on `day` (days since 1970 UTC). Amortised O(log n) an id."""
        if day != self._today:
            self._freeze()
            self._today = max(day, self._today)  # a clock that was set back does not bring old days back
        self._recent.update(hash(one) for one in event_ids)
        if len(self._recent) >= RECENT:
            self._freeze()

    def _freeze(self) -> None:
        """Put the latest ids into an array, and merge arrays of like size: there are O(log n) of them."""
        if not self._recent:
            return
        ids = np.fromiter(self._recent, dtype=np.int64, count=len(self._recent))
        ids.sort()
        self._recent.clear()
        level = (ids, np.full(len(ids), self._today, dtype=np.int32))
        while self._levels and len(self._levels[-1][0]) < 2 * len(level[0]):
            level = self._merged(self._levels.pop(), level)
        if len(level[0]):
            self._levels.append(level)
        if len(self) > self._most:
            self._forget_oldest()

    def _merged(self, one: tuple[_Ids, _Days], other: tuple[_Ids, _Days]) -> tuple[_Ids, _Days]:
        ids, days = np.concatenate([one[0], other[0]]), np.concatenate([one[1], other[1]])
        kept = days > self._today - self._days
        ids, days = ids[kept], days[kept]
        order = np.argsort(ids, kind="stable")
        return ids[order], days[order]

    def _forget_oldest(self) -> None:
        """Merge everything and keep the `most` latest ids."""
        whole = self._levels[0]
        for level in self._levels[1:]:
            whole = self._merged(whole, level)
        ids, days = whole
        if len(ids) > self._most:
            latest = np.sort(np.argsort(days, kind="stable")[len(ids) - self._most * 9 // 10 :])
            ids, days = ids[latest], days[latest]
        self._levels = [(ids, days)]
