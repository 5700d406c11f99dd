"""Keys of people who arrive one by one: `identities.keys_for` for a server, at constant cost an event.

The links it met last are kept in memory (a bounded number); the others are looked up by index. Another process may
change the identities meanwhile (an import, an erasure): SQLite tells, and what was kept is forgotten.

One connection stays open and writes as `identities.book` does: opening the file at every change, and reading its
layout and its first pages again, is a fifth of what a change costs.
"""

from __future__ import annotations

import datetime as dt
import secrets
import sqlite3
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from habitue.protect.identities import EPOCH, WAIT_S, book, changing, event_secret, for_changes, micros, unusable
from habitue.protect.people import DATA

KEPT = 20_000  # links in memory, 420 bytes each; one that is looked up costs 10 us more
T = TypeVar("T")
Alias = tuple[str, str]  # kind and raw id
Link = tuple[int, dt.datetime]  # user_key, and when the alias was met first


class Arriving:
    """The identities of one workspace, for one thread. Holds no lock between calls."""

    def __init__(self, path: Path, *, kept: int = KEPT) -> None:
        self._path, self._kept = path, kept
        with book(path) as connection:
            self.secret = event_secret(connection)
            connection.execute("CREATE INDEX IF NOT EXISTS joins_of_key ON joins (user_key)")
        self._links: OrderedDict[Alias, Link] = OrderedDict()  # the one met last at the end
        self._claims: OrderedDict[tuple[int, int], int] = OrderedDict()  # (user_key, became): joined_at
        self._file = sqlite3.connect(path, timeout=WAIT_S, isolation_level=None, check_same_thread=False)
        for_changes(self._file)
        self._version = self._data_version()
        self._new_links: dict[Alias, tuple[int, dt.datetime, str]] = {}
        self._new_claims: dict[tuple[int, int], tuple[int, str]] = {}

    def close(self) -> None:
        """Let the file go."""
        self._file.close()

    def group(self, meet: Callable[[], T]) -> T:
        """Return what `meet` returns; whoever it met for the first time is then in the file, on the disk.

        `meet` calls `key` and `claim`; it is called again when another process changed the identities meanwhile.
        Raises LakeError: then nobody was added.
        """
        while True:
            self._new_links, self._new_claims = {}, {}
            if (version := self._data_version()) != self._version:
                self._forget()
                self._version = version
            stored = False
            try:
                met = meet()
                if stored := not self._new_links and not self._new_claims or self._stored():
                    return met
            finally:
                if not stored:
                    self._forget()  # what was drawn is in no file

    def key(self, kind: str, alias: str, at: dt.datetime, source: str) -> int:
        """Return the key of an alias, a new one at first sight; the earliest moment of meeting it counts."""
        name = (kind, alias)
        if (known := self._links.get(name)) is not None and known[1] <= at:
            self._links.move_to_end(name)
            return known[0]
        if (fresh := self._new_links.get(name)) is not None:
            known = fresh[:2]
        elif known is None:
            known = self._looked_up(name)
        if known is None or at < known[1]:
            known = (self._drawn() if known is None else known[0], at)
            self._new_links[name] = (*known, source)
        self._keep(name, known)
        return known[0]

    def claim(self, key: int, became: int, at: dt.datetime, source: str) -> None:
        """Say that one message named both keys (protect.people): the visitor's `key` is claimed for `became`."""
        if key == became:
            return
        pair, moment = (key, became), micros(at)
        joined = self._claims.get(pair)
        if joined is None or moment < joined:
            self._new_claims[pair] = (moment, source)
            self._claims[pair] = moment
            if len(self._claims) > self._kept:
                self._claims.popitem(last=False)

    def _stored(self) -> bool:
        """Write who is new; False, and nothing written, when another process wrote since they were looked up."""
        with changing(self._path, self._file) as connection:  # nobody else can write from here on
            if self._data_version() != self._version:
                return False
            connection.executemany(
                "INSERT INTO links VALUES (?, ?, ?, ?, ?) ON CONFLICT (alias_kind, alias) "
                "DO UPDATE SET linked_at = excluded.linked_at",
                [(*name, key, micros(at), source) for name, (key, at, source) in self._new_links.items()],
            )
            for (key, became), (moment, source) in self._new_claims.items():
                _claim(connection, key, became, moment, source)
        return True

    def _forget(self) -> None:
        self._links.clear()
        self._claims.clear()

    def _looked_up(self, name: Alias) -> Link | None:
        try:
            row = self._file.execute("SELECT user_key, linked_at FROM links WHERE alias_kind = ? AND alias = ?", name)
            found: tuple[int, int] | None = row.fetchone()
        except sqlite3.Error as error:
            raise unusable(self._path, error) from error
        return None if found is None else (found[0], EPOCH + dt.timedelta(microseconds=found[1]))

    def _drawn(self) -> int:
        while True:  # one of 2**63: a second turn is not to be expected
            key = secrets.randbits(63)
            if self._file.execute("SELECT 1 FROM links WHERE user_key = ? LIMIT 1", (key,)).fetchone() is None:
                return key

    def _keep(self, name: Alias, link: Link) -> None:
        self._links[name] = link
        if len(self._links) > self._kept:
            self._links.popitem(last=False)

    def _data_version(self) -> int:
        try:
            return int(self._file.execute("PRAGMA data_version").fetchone()[0])
        except sqlite3.Error as error:
            raise unusable(self._path, error) from error


def _claim(connection: sqlite3.Connection, key: int, became: int, moment: int, source: str) -> None:
    """Record one claim as `people.claim` does: the earliest moment of a pair counts, an undone one stays undone."""
    row = connection.execute(
        "SELECT number, joined_at FROM joins WHERE user_key = ? AND became = ? AND made_by = ?", (key, became, DATA)
    ).fetchone()
    if row is None:
        connection.execute(
            "INSERT INTO joins (user_key, became, made_by, joined_at, source) VALUES (?, ?, ?, ?, ?)",
            (key, became, DATA, moment, source),
        )
    elif moment < row[1]:
        connection.execute("UPDATE joins SET joined_at = ? WHERE number = ?", (moment, row[0]))
