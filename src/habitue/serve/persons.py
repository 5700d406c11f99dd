"""Whose key is whose at this moment: aliases and joins, followed while they are written by others.

A server meets a new join when somebody logs in. Reading all joins again at every login would cost more the longer the
shop is open, so a plain new claim (a visitor's key, claimed once, becomes the customer's) is followed alone; anything
else, an operator's merge or undoing, an erasure, is met by reading all of them again (`protect.people.joins`).
"""

from __future__ import annotations

import sqlite3
import time
from pathlib import Path

from habitue.core.errors import LakeError
from habitue.protect import people

FULL_S = 30.0  # what was changed in place (an undoing, an erasure) is met within so many seconds


class Persons:
    """The people of one workspace, for one thread; reads identities.sqlite and never writes it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: sqlite3.Connection | None = None
        self._version = self._last = -1
        self._signature: tuple[object, ...] = ()
        self._checked = -FULL_S
        self._became: dict[int, int] = {}
        self._members: dict[int, set[int]] = {}

    def close(self) -> None:
        """Let the file go."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def key(self, kind: str, alias: str) -> int | None:
        """Return the key of an alias, or None; an erased one is gone at once. Raises LakeError."""
        file = self._open()
        if file is None:
            return None
        try:
            row = file.execute(
                "SELECT user_key FROM links WHERE alias_kind = ? AND alias = ?", (kind, alias)
            ).fetchone()
        except sqlite3.Error as error:
            raise _unusable(self._path, error) from error
        return None if row is None else int(row[0])

    def person(self, key: int) -> int:
        """Return the key of the person that a key belongs to."""
        return self._became.get(key, key)

    def members(self, person: int) -> set[int]:
        """Return all keys of a person, its own among them; of ~key, which is no person, that key alone."""
        return {~person} if person < 0 else self._members.get(person, set()) | {person}

    def aliases(self, person: int, kind: str) -> list[str]:
        """Return a person's raw ids of one kind, for an answer to the shop itself. Never write them anywhere."""
        file = self._open()
        if file is None:
            return []
        marks = self.members(person)
        query = f"SELECT alias FROM links WHERE alias_kind = ? AND user_key IN ({', '.join('?' * len(marks))})"
        return sorted(str(row[0]) for row in file.execute(query, (kind, *marks)))

    def named(self, kind: str, start: str, most: int) -> list[tuple[str, int]]:
        """Return raw ids of one kind with their keys, ascending from `start` on: as `aliases`, never write them."""
        file = self._open()
        if file is None:
            return []
        query = "SELECT alias, user_key FROM links WHERE alias_kind = ? AND alias >= ? ORDER BY alias LIMIT ?"
        return [(str(alias), int(key)) for alias, key in file.execute(query, (kind, start, most))]

    def look(self) -> set[int]:
        """Follow what was written since the last look; returns the keys whose person changed. Raises LakeError."""
        file = self._open()
        if file is None:
            return set()
        try:
            version = int(file.execute("PRAGMA data_version").fetchone()[0])
            if version == self._version:
                return set()
            due = time.monotonic() - self._checked >= FULL_S
            self._version = version
            return self._read_anew(file) if due and self._changed_in_place(file) else self._follow(file)
        except sqlite3.Error as error:
            raise _unusable(self._path, error) from error

    def _follow(self, file: sqlite3.Connection) -> set[int]:
        rows = file.execute(
            "SELECT number, user_key, became, made_by FROM joins WHERE number > ? ORDER BY number", (self._last,)
        ).fetchall()
        changed: set[int] = set()
        for number, key, became, made_by in rows:
            person = self.person(became)
            if made_by != people.DATA or key in self._became or key in self._members or person == key:
                return changed | self._read_anew(file)
            self._became[key] = person
            self._members.setdefault(person, set()).add(key)
            self._last = number
            changed |= {key, person}
        return changed

    def _read_anew(self, file: sqlite3.Connection) -> set[int]:
        before = self._became
        self._last = file.execute("SELECT COALESCE(MAX(number), -1) FROM joins").fetchone()[0]
        self._became = dict(people.joins(self._path).iter_rows())
        self._members = {}
        for key, person in self._became.items():
            self._members.setdefault(person, set()).add(key)
        moved = {key for key in before.keys() | self._became.keys() if before.get(key) != self._became.get(key)}
        return moved | {before.get(key, key) for key in moved} | {self.person(key) for key in moved}

    def _changed_in_place(self, file: sqlite3.Connection) -> bool:
        self._checked = time.monotonic()
        found = file.execute("SELECT COUNT(*), COUNT(undone_at), SUM(joined_at % 1000000007) FROM joins").fetchone()
        changed, self._signature = found != self._signature, found
        return bool(changed)

    def _open(self) -> sqlite3.Connection | None:
        if self._file is None and self._path.exists():
            try:
                file = sqlite3.connect(f"file:{self._path}?mode=ro", uri=True, isolation_level=None)
                if not file.execute("SELECT COUNT(*) FROM sqlite_master WHERE name = 'joins'").fetchone()[0]:
                    file.close()  # its first change has not come to its end
                    return None
                self._file = file
            except sqlite3.Error as error:
                raise _unusable(self._path, error) from error
        return self._file


def _unusable(path: Path, error: Exception) -> LakeError:
    return LakeError(
        path.name,
        found=f"the identities cannot be read ({error})",
        consequence="Nobody can be told apart, so nobody is answered",
        remedy="Check that the file is whole and may be read",
    )
