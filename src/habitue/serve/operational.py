"""The operational store: keys, rules, experiments, jobs and the audit log; SQLite by default, PostgreSQL when asked.

    [serve]
    store = "postgresql://habitue@db/shop"    # default: state/keys.sqlite, readable by its owner alone

Tables are the same in both. A change is one transaction, and changes follow each other: nobody decides on what another
is changing. What is no key and no line of the audit log is a document: JSON under (kind, id), in the order it was made.

A running server looks whether something changed (`Followed`): a file by its stat, at once; a database by a thread
that asks once a second, so that a database that is away never keeps an answer waiting.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import sqlite3
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from habitue.core import settings
from habitue.core.errors import LakeError, SettingsError
from habitue.core.extras import need
from habitue.core.lock import exclusive
from habitue.core.workspace import PLAN

FILE = "keys.sqlite"
LOCK = ".keys.lock"  # held while the file is made
COMMAND, BACKGROUND = "command", "background"  # in the audit log, in the place of a key
LAYOUT = 4
AUDIT_DAYS = 400  # that a line of the audit log is kept
LOOK_S = 1.0  # between two looks at a database
WAIT_S = 5.0  # for another's change of the file
CONNECT_S = 3  # for a database to answer
_CHANGE = 4_871_653  # any number that is ours: changes of one database wait for each other under it
_TABLES = (
    "CREATE TABLE IF NOT EXISTS keys (id TEXT PRIMARY KEY, kind TEXT NOT NULL, hash TEXT NOT NULL,"
    " scopes TEXT NOT NULL, rate DOUBLE PRECISION NOT NULL, made_at DOUBLE PRECISION NOT NULL,"
    " ends_at DOUBLE PRECISION, note TEXT NOT NULL)",
    "CREATE TABLE IF NOT EXISTS signing (secret BYTEA NOT NULL)",
    "CREATE TABLE IF NOT EXISTS audit (at DOUBLE PRECISION NOT NULL, key TEXT NOT NULL, action TEXT NOT NULL,"
    " result TEXT NOT NULL)",
    "CREATE INDEX IF NOT EXISTS audit_at ON audit (at)",
    "CREATE TABLE IF NOT EXISTS documents (kind TEXT NOT NULL, id TEXT NOT NULL, place BIGINT NOT NULL,"
    " said TEXT NOT NULL, PRIMARY KEY (kind, id))",
    "CREATE TABLE IF NOT EXISTS jobs (number TEXT PRIMARY KEY, place BIGINT NOT NULL, kind TEXT NOT NULL,"
    " arguments TEXT NOT NULL, state TEXT NOT NULL, words TEXT NOT NULL, done BIGINT NOT NULL, steps BIGINT NOT NULL,"
    " tries BIGINT NOT NULL, result TEXT NOT NULL, submitted_at DOUBLE PRECISION NOT NULL,"
    " started_at DOUBLE PRECISION, ended_at DOUBLE PRECISION)",
    "CREATE TABLE IF NOT EXISTS changes (count BIGINT NOT NULL)",
)


@dataclass(frozen=True)
class Config:
    """The section `[serve]` of habitue.toml."""

    store: str = ""  # "" = a file of the workspace; else postgresql://..., of which libpq's own ways give the password
    hold_out: float = 0.0  # share of all people that no experiment touches (experiments.py)
    hold_out_lists: str = "usual"  # what they get: usual, or popular = what everyone buys
    exact_products: int = 200_000  # with more, lists are made from a shortlist (shortlist.py), where faiss is installed


class Book:
    """The store during one change."""

    def __init__(self, connection: Any, *, marks: str) -> None:
        self._connection, self._marks = connection, marks

    def execute(self, query: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """Run one statement, with `?` for values; returns its rows."""
        ran = self._connection.execute(query.replace("?", self._marks), tuple(values))
        return [tuple(row) for row in ran.fetchall()] if ran.description else []

    def changed(self) -> None:
        """Say that running servers must read again."""
        self.execute("UPDATE changes SET count = count + 1")

    def note(self, key: str, action: str, result: str) -> None:
        """Write a line of the audit log: with which key, or COMMAND, what was done; it never names a person."""
        self.execute("INSERT INTO audit VALUES (?, ?, ?, ?)", (time.time(), key, action, result))

    def documents(self, kind: str) -> list[dict[str, Any]]:
        """Return the documents of a kind in the order they were made."""
        return [_document(kind, said) for (said,) in self._said(kind)]

    def document(self, kind: str, name: str) -> dict[str, Any] | None:
        """Return one document, or None."""
        rows = self.execute("SELECT said FROM documents WHERE kind = ? AND id = ?", (kind, name))
        return _document(kind, rows[0][0]) if rows else None

    def put(self, kind: str, name: str, said: dict[str, Any]) -> None:
        """Write a document; one that is there keeps its place."""
        text = json.dumps(said, ensure_ascii=False)
        if self.execute("SELECT 1 FROM documents WHERE kind = ? AND id = ?", (kind, name)):
            self.execute("UPDATE documents SET said = ? WHERE kind = ? AND id = ?", (text, kind, name))
        else:
            place = self.execute("SELECT COALESCE(MAX(place), 0) + 1 FROM documents WHERE kind = ?", (kind,))[0][0]
            self.execute("INSERT INTO documents VALUES (?, ?, ?, ?)", (kind, name, place, text))

    def drop(self, kind: str, name: str) -> None:
        """Take a document away."""
        self.execute("DELETE FROM documents WHERE kind = ? AND id = ?", (kind, name))

    def _said(self, kind: str) -> list[tuple[Any, ...]]:
        return self.execute("SELECT said FROM documents WHERE kind = ? ORDER BY place", (kind,))


def config(state: Path) -> Config:
    """Return the section `[serve]` of the plan beside `state`. Raises SettingsError."""
    plan = state.parent / PLAN
    section = settings.read_toml(plan).get("serve", {}) if plan.is_file() else {}
    return settings.fill(Config, section, where=f"{PLAN} [serve]")


def address(state: Path) -> str:
    """Return where the store of a workspace is, from the plan beside `state`; "" = the file in it.

    Raises SettingsError for a section that cannot be read and for another kind of database.
    """
    store = config(state).store
    if store and not store.startswith(("postgresql://", "postgres://")):
        raise SettingsError(
            f"{PLAN} [serve].store",
            found="this is no address of a PostgreSQL database",
            consequence="There would be no place for keys and rules",
            remedy='Write store = "postgresql://user@host/database", or leave it out for a file',
        )
    return store


@contextmanager
def change(state: Path) -> Iterator[Book]:
    """Open the store for a change: all of it is kept, or nothing. Raises LakeError."""
    where = address(state)
    with _database(where) if where else _file(state) as book:
        yield book


def trim(state: Path) -> None:
    """Take lines of the audit log away that are older than AUDIT_DAYS, where there is one. Raises LakeError."""
    if address(state) or (state / FILE).exists():
        with change(state) as book:
            book.execute("DELETE FROM audit WHERE at < ?", (time.time() - AUDIT_DAYS * 86_400,))


@dataclass
class Followed:
    """Whether the store changed since it was read last; for one thread."""

    state: Path
    _address: str | None = None
    _count: int = -1
    _stat: tuple[int, int, int] | None = None
    _thread: threading.Thread | None = None
    _stopped: threading.Event = field(default_factory=threading.Event)
    _file: str = field(init=False)

    def __post_init__(self) -> None:
        """Name the file once: it is looked at twice an answer."""
        self._file = str(self.state / FILE)

    def now(self) -> object:
        """Return something that differs when the store has changed; None = there is none yet. Raises LakeError."""
        if self._address is None:
            self._address = address(self.state)
        if not self._address:
            return self._of_file()
        if self._thread is None:
            self._count = self._asked()
            self._thread = threading.Thread(target=self._look, name="habitue-store", daemon=True)
            self._thread.start()
        return self._count

    def _of_file(self) -> int | None:
        """Return the count of changes; lines of the audit log change the file, and are none."""
        try:
            stat = os.stat(self._file)
        except FileNotFoundError as error:
            if self._stat is None:
                return None
            raise _unusable("the file is gone") from error  # keys that are gone are not keys that were never made
        seen = (stat.st_mtime_ns, stat.st_size, stat.st_ino)
        if seen != self._stat:
            self._count = self._asked()
            self._stat = seen
        return self._count

    @property
    def remote(self) -> bool:
        """Whether it is a database, whose absence must not end what is known already."""
        return bool(self._address)

    def stop(self) -> None:
        """Look no longer."""
        self._stopped.set()

    def _look(self) -> None:
        while not self._stopped.wait(LOOK_S):
            try:
                self._count = self._asked()
            except LakeError:
                continue  # what is known holds until the database is back

    def _asked(self) -> int:
        with change(self.state) as book:
            return int(book.execute("SELECT count FROM changes")[0][0])


@contextmanager
def _file(state: Path) -> Iterator[Book]:
    path = state / FILE
    try:
        state.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            _make(path)
        if not path.stat().st_size:  # `_make` leaves none: its keys are gone, and are not keys that were never made
            raise _unusable("the file is empty")
        connection = sqlite3.connect(path, timeout=WAIT_S, isolation_level=None)
    except (OSError, sqlite3.Error) as error:
        raise _unusable(error) from error
    try:
        connection.execute("BEGIN IMMEDIATE")
        book = Book(connection, marks="?")
        if connection.execute("PRAGMA user_version").fetchone()[0] < LAYOUT:
            _lay_out(book)
            connection.execute(f"PRAGMA user_version = {LAYOUT}")
        yield book
        connection.execute("COMMIT")
    except sqlite3.Error as error:
        raise _unusable(error) from error
    finally:
        connection.close()  # undoes what was not committed


def _make(path: Path) -> None:
    """Make the file whole before it has its name, so that an empty one is a torn one."""
    with exclusive(path.with_name(LOCK), wait_s=WAIT_S):
        if path.exists():  # another has made it meanwhile
            return
        draft = path.with_name(f".{FILE}.new")
        draft.unlink(missing_ok=True)
        os.close(os.open(draft, os.O_CREAT | os.O_WRONLY, 0o600))
        with contextlib.closing(sqlite3.connect(draft, isolation_level=None)) as connection:
            connection.execute("BEGIN")
            _lay_out(Book(connection, marks="?"))
            connection.execute(f"PRAGMA user_version = {LAYOUT}")
            connection.execute("COMMIT")
        draft.replace(path)


@contextmanager
def _database(where: str) -> Iterator[Book]:
    psycopg = need("psycopg", extra="sql", purpose="[serve].store")
    try:
        with psycopg.connect(where, connect_timeout=CONNECT_S, options="-c statement_timeout=10000") as connection:
            connection.execute("SELECT pg_advisory_xact_lock(%s)", (_CHANGE,))
            book = Book(connection, marks="%s")
            if not book.execute("SELECT to_regclass('jobs')")[0][0]:
                _lay_out(book)
            yield book
    except psycopg.Error as error:
        raise _unusable(type(error).__name__, where=f"{PLAN} [serve].store") from error  # no words: an address


def _document(kind: str, said: str) -> dict[str, Any]:
    try:
        found = json.loads(said)
        if isinstance(found, dict):
            return found
    except ValueError:
        pass  # said below, as for what is no object
    raise LakeError(
        FILE,
        found=f"one of the {kind} in the store is no JSON object",
        consequence=f"What the {kind} say is unknown",
        remedy="Restore the store from a copy, or take the row out of its table 'documents' and make it again",
    )


def _lay_out(book: Book) -> None:
    for statement in _TABLES:
        book.execute(statement)
    if not book.execute("SELECT 1 FROM signing"):
        book.execute("INSERT INTO signing VALUES (?)", (secrets.token_bytes(32),))
    if not book.execute("SELECT 1 FROM changes"):
        book.execute("INSERT INTO changes VALUES (?)", (int(time.time()),))


def _unusable(error: object, *, where: str = FILE) -> LakeError:
    return LakeError(
        where,
        found=f"the keys, rules and jobs of the server cannot be used ({error})",
        consequence="Nobody could be told apart, so nobody is answered, and no job is done",
        remedy="Check that the folder state/ may be written and the file is whole, or that the database is there",
    )
