"""Who is who: the one place with raw ids of people, a SQLite file outside the lake.

An alias (kind and raw id) has a `user_key`, a random non-negative int64, from its first sight on and for good; rows of
the lake are stored under it. That two keys are one person is a *join* beside it (protect/people.py), with the moment
it was made and the moment it was undone, so any table can be read as of any moment. Only an erasure (`forget`) takes
links and joins away, and SQLite then overwrites their bytes (secure_delete). The rollback journal is deleted at every
commit: beside the closed file there is no other copy.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import os
import secrets
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl

from habitue.core.errors import LakeError
from habitue.core.schemas import IDENTITIES, Identities

GUEST = "order:"  # alias 'order:<order_id>': a person known by one order only
VERSION = 2  # of the file's layout; protect/upgrade.py brings an older one here
WAIT_S = 5.0  # for another process to end its change

EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
SCHEMA = """
CREATE TABLE links (
  alias_kind TEXT NOT NULL, alias TEXT NOT NULL, user_key INTEGER NOT NULL CHECK (user_key >= 0),
  linked_at INTEGER NOT NULL,  -- microseconds since 1970 UTC
  source TEXT NOT NULL,
  PRIMARY KEY (alias_kind, alias)
) WITHOUT ROWID;
CREATE INDEX links_of_key ON links (user_key);
CREATE TABLE joins (
  number INTEGER PRIMARY KEY, user_key INTEGER NOT NULL, became INTEGER NOT NULL,
  made_by TEXT NOT NULL CHECK (made_by IN ('data', 'operator')),
  joined_at INTEGER NOT NULL, source TEXT NOT NULL,
  undone_at INTEGER  -- null: it holds
);
CREATE TABLE secret (event_ids BLOB NOT NULL);
"""


@contextmanager
def book(path: Path) -> Iterator[sqlite3.Connection]:
    """Open the identities for a change: everything inside is kept together, or nothing when it raises.

    Creates the file, readable by its owner only. Raises LakeError when it cannot be opened or another process holds it.
    """
    try:
        if not path.exists():
            os.close(os.open(path, os.O_CREAT | os.O_WRONLY, 0o600))
        connection = sqlite3.connect(path, timeout=WAIT_S, isolation_level=None)
    except (OSError, sqlite3.Error) as error:
        raise unusable(path, error) from error
    try:
        for_changes(connection)
        with changing(path, connection):
            yield connection
    except sqlite3.Error as error:
        raise unusable(path, error) from error
    finally:
        connection.close()  # undoes what was not committed


def for_changes(connection: sqlite3.Connection) -> None:
    """Set a connection up so that no copy of a raw id stays anywhere but in the file."""
    connection.execute("PRAGMA secure_delete = ON")
    connection.execute("PRAGMA temp_store = MEMORY")  # no raw id in a temporary file
    connection.execute("PRAGMA journal_mode = DELETE")


@contextmanager
def changing(path: Path, connection: sqlite3.Connection) -> Iterator[sqlite3.Connection]:
    """Make one change over an open connection, kept whole or, when it raises, undone. Raises LakeError."""
    try:
        connection.execute("BEGIN IMMEDIATE")
        version = connection.execute("PRAGMA user_version").fetchone()[0]
        if version == 0:
            for statement in SCHEMA.split(";\n"):
                connection.execute(statement)
            connection.execute(f"PRAGMA user_version = {VERSION}")
        else:
            _of_this_layout(path, version)
        yield connection
        connection.execute("COMMIT")
    except sqlite3.Error as error:
        raise unusable(path, error) from error
    finally:
        if connection.in_transaction:
            connection.rollback()


def keys_for(
    where: Path | sqlite3.Connection,
    alias_kind: str,
    aliases: pl.Series,
    *,
    linked_at: pl.Series | dt.datetime,
    source: str,
    seed: int | None = None,
) -> pl.Series:
    """Return the key of each alias (i64, in the order given); an alias met for the first time gets a new one.

    `linked_at`: when each alias was met; the earliest counts, also over calls. `seed` None draws keys from the
    system's secret randomness; a seed derives them from the alias (same seed, same keys in any order), for
    demonstrations only: who knows the seed can try out aliases. `where` is the file, or a `book` to be part of.
    Cost: reads every link once. Raises LakeError.
    """
    assert not aliases.null_count(), "a row without a person"
    if isinstance(where, Path):
        with book(where) as connection:
            return keys_for(connection, alias_kind, aliases, linked_at=linked_at, source=source, seed=seed)
    moments = linked_at.dt.epoch("us") if isinstance(linked_at, pl.Series) else pl.lit(micros(linked_at))
    asked = pl.DataFrame({"alias": aliases.cast(pl.String)}).with_columns(at=moments)
    seen = asked.group_by("alias").agg(pl.col("at").min()).sort("alias")
    every = links(where)
    met = every.filter(pl.col("alias_kind") == alias_kind).select("alias", "user_key", first="linked_at")
    seen = seen.join(met, on="alias", how="left", maintain_order="left")
    new = seen.filter(pl.col("user_key").is_null())
    drawn = _draw(alias_kind, new["alias"], taken=set(every["user_key"]), seed=seed)
    fresh = new.with_columns(user_key=pl.Series(drawn, dtype=pl.Int64))
    rows = fresh.select(pl.lit(alias_kind), "alias", "user_key", "at", pl.lit(source).alias("source"))
    where.executemany("INSERT INTO links VALUES (?, ?, ?, ?, ?)", rows.iter_rows())
    earlier = seen.filter(pl.col("at") < pl.col("first")).select("at", pl.lit(alias_kind), "alias")
    where.executemany("UPDATE links SET linked_at = ? WHERE alias_kind = ? AND alias = ?", earlier.iter_rows())
    keys = pl.concat([seen.drop_nulls("user_key"), fresh]).select("alias", "user_key")
    return asked.join(keys, on="alias", how="left", maintain_order="left")["user_key"]


def lookup(path: Path, alias_kind: str, alias: str) -> int | None:
    """Return the key of an alias, or None; `people.joins` says whom it became. Raises LakeError."""
    with reading(path) as connection:
        row = connection.execute(
            "SELECT user_key FROM links WHERE alias_kind = ? AND alias = ?", (alias_kind, alias)
        ).fetchone()
    return None if row is None else int(row[0])


def aliases(path: Path, *, as_of: dt.datetime | None = None) -> Identities:
    """Return every alias met by `as_of` (default: all) with its own key. Raw ids: never write them anywhere."""
    with reading(path) as connection:
        found = until(links(connection), "linked_at", as_of)
    return IDENTITIES.shape(found.with_columns(moments("linked_at"))).sort("alias_kind", "alias")


def forget(where: Path | sqlite3.Connection, user_keys: Iterable[int]) -> int:
    """Erase every alias and every join of these keys, and return how many aliases there were.

    The bytes are overwritten (secure_delete); given the file, it is rebuilt as well (VACUUM). Rows of the lake go by
    `Lake.delete_users`; `people.keys_of` names all keys of a person.
    """
    if isinstance(where, Path):
        with book(where) as connection:
            gone = forget(connection, user_keys)
        rebuild(where)
        return gone
    keys = [(key,) for key in sorted(set(user_keys))]
    before = where.execute("SELECT COUNT(*) FROM links").fetchone()[0]
    where.executemany("DELETE FROM links WHERE user_key = ?", keys)
    where.executemany("DELETE FROM joins WHERE user_key = ?1 OR became = ?1", keys)
    return int(before - where.execute("SELECT COUNT(*) FROM links").fetchone()[0])


def rebuild(path: Path) -> None:
    """Write the file anew, so that no page keeps what was deleted from it."""
    with reading(path) as connection:
        connection.execute("PRAGMA temp_store = MEMORY")
        connection.execute("VACUUM")


def event_secret(where: sqlite3.Connection, *, seed: int | None = None) -> bytes:
    """Return the 32 bytes that key the hashes of imported rows, drawn at the first call and kept.

    Without them a hash over a row would tell its customer to whoever tries out all customer numbers.
    """
    row = where.execute("SELECT event_ids FROM secret").fetchone()
    if row is not None:
        return bytes(row[0])
    fresh = secrets.token_bytes(32) if seed is None else hashlib.blake2b(_seed_key(seed), digest_size=32).digest()
    where.execute("INSERT INTO secret VALUES (?)", (fresh,))
    return fresh


def _draw(alias_kind: str, names: pl.Series, *, taken: set[int], seed: int | None) -> npt.NDArray[np.int64]:
    """Draw one free key a name, in [0, 2**63)."""
    keys = np.zeros(len(names), dtype=np.int64)
    for i, name in enumerate(names):
        attempt = 0
        while True:
            if seed is None:
                key = secrets.randbits(63)
            else:
                words = f"{alias_kind}\x1f{name}\x1f{attempt}".encode()
                key = int.from_bytes(hashlib.blake2b(words, digest_size=8, key=_seed_key(seed)).digest()) >> 1
            if key not in taken:
                break
            attempt += 1
        taken.add(key)
        keys[i] = key
    return keys


def _seed_key(seed: int) -> bytes:
    return f"habitue seed {seed}".encode()


def links(connection: sqlite3.Connection) -> pl.DataFrame:
    """Return every link; linked_at in microseconds."""
    rows = connection.execute("SELECT alias_kind, alias, user_key, linked_at, source FROM links").fetchall()
    schema = {c.name: c.dtype for c in IDENTITIES.columns} | {"linked_at": pl.Int64()}
    return pl.DataFrame(rows, schema=schema, orient="row")


def until(frame: pl.DataFrame, column: str, as_of: dt.datetime | None) -> pl.DataFrame:
    """Return the rows whose `column` (microseconds) is not later than `as_of`; None = all."""
    return frame if as_of is None else frame.filter(pl.col(column) <= micros(as_of))


@contextmanager
def reading(path: Path) -> Iterator[sqlite3.Connection]:
    """Open the identities for reading; before the first import there is nobody. Raises LakeError."""
    connection = sqlite3.connect(path if path.exists() else ":memory:", timeout=WAIT_S, isolation_level=None)
    try:
        version = connection.execute("PRAGMA user_version").fetchone()[0]
        if version == 0:  # its first change never came to its end
            connection.close()
            connection = sqlite3.connect(":memory:", isolation_level=None)
            connection.executescript(SCHEMA)
        else:
            _of_this_layout(path, version)
        connection.execute("PRAGMA secure_delete = ON")
        yield connection
    except sqlite3.Error as error:
        raise unusable(path, error) from error
    finally:
        connection.close()


def moments(*columns: str) -> list[pl.Expr]:
    """Read columns of microseconds as UTC moments."""
    return [pl.from_epoch(name, time_unit="us").dt.replace_time_zone("UTC").alias(name) for name in columns]


def micros(moment: dt.datetime) -> int:
    """Return microseconds since 1970 UTC."""
    since = moment - EPOCH  # its parts are whole numbers; dividing it by a microsecond takes three times as long
    return (since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds


def _of_this_layout(path: Path, version: int) -> None:
    if version < VERSION:
        raise LakeError(
            path.name,
            found=f"the identities have layout {version}, this Habitue writes {VERSION}",
            consequence="Joined people would be read wrongly; nothing was changed",
            remedy="Bring the workspace up to date: habitue migrate",
        )
    if version > VERSION:
        raise LakeError(
            path.name,
            found=f"the identities were written by a newer Habitue, layout {version}; this one knows up to {VERSION}",
            consequence="They could be read wrongly or damaged; nothing was changed",
            remedy="Install the Habitue that wrote them, or a later one",
        )


def unusable(path: Path, error: Exception) -> LakeError:
    """Say that the file cannot be used."""
    return LakeError(
        path.name,
        found=f"the identities cannot be used ({error})",
        consequence="No row can be given to a person without them; nothing was changed",
        remedy="Check that the file is whole, may be written and is not held by another program",
    )
