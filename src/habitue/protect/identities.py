"""Who is who: the one place with raw ids of people, a SQLite file outside the lake.

A person is a `user_key`, a random non-negative int64; everything else in the workspace knows only the key. A link
says that an alias (kind and raw id) belongs to a key from a moment on. Links are added, never overwritten, so the
table can be read as of any moment; only an erasure (`forget`) takes them away, and SQLite then overwrites their bytes
(secure_delete). The rollback journal is deleted at every commit: beside the closed file there is no other copy.
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
VERSION = 1
WAIT_S = 5.0  # for another process to end its change

_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
_SCHEMA = """
CREATE TABLE links (
  alias_kind TEXT NOT NULL, alias TEXT NOT NULL, user_key INTEGER NOT NULL CHECK (user_key >= 0),
  linked_at INTEGER NOT NULL,  -- microseconds since 1970 UTC
  source TEXT NOT NULL,
  PRIMARY KEY (alias_kind, alias, linked_at)
) WITHOUT ROWID;
CREATE INDEX links_of_key ON links (user_key);
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
        raise _unusable(path, error) from error
    try:
        connection.execute("PRAGMA secure_delete = ON")
        connection.execute("PRAGMA temp_store = MEMORY")  # no raw id in a temporary file
        connection.execute("PRAGMA journal_mode = DELETE")
        connection.execute("BEGIN IMMEDIATE")
        version = connection.execute("PRAGMA user_version").fetchone()[0]
        if version > VERSION:
            raise sqlite3.DatabaseError(f"it was written by a newer Habitue, layout {version}")
        if version == 0:
            for statement in _SCHEMA.split(";\n"):
                connection.execute(statement)
            connection.execute(f"PRAGMA user_version = {VERSION}")
        yield connection
        connection.execute("COMMIT")
    except sqlite3.Error as error:
        raise _unusable(path, error) from error
    finally:
        connection.close()  # undoes what was not committed


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
    moments = linked_at.dt.epoch("us") if isinstance(linked_at, pl.Series) else pl.lit(_micros(linked_at))
    asked = pl.DataFrame({"alias": aliases.cast(pl.String)}).with_columns(at=moments)
    seen = asked.group_by("alias").agg(pl.col("at").min()).sort("alias")
    every = _links(where)
    links = every.filter(pl.col("alias_kind") == alias_kind)
    seen = seen.join(_latest(links).select("alias", "user_key"), on="alias", how="left", maintain_order="left")
    new = seen.filter(pl.col("user_key").is_null())
    drawn = _draw(alias_kind, new["alias"], taken=set(every["user_key"]), seed=seed)
    fresh = new.with_columns(user_key=pl.Series(drawn, dtype=pl.Int64))
    rows = fresh.select(pl.lit(alias_kind), "alias", "user_key", "at", pl.lit(source).alias("source"))
    where.executemany("INSERT INTO links VALUES (?, ?, ?, ?, ?)", rows.iter_rows())
    first = links.group_by("alias").agg(first=pl.col("linked_at").min())
    earlier = seen.join(first, on="alias", how="inner").filter(pl.col("at") < pl.col("first"))
    rows = earlier.select("at", pl.lit(alias_kind), "alias", "first")
    where.executemany(
        "UPDATE links SET linked_at = ? WHERE alias_kind = ? AND alias = ? AND linked_at = ?", rows.iter_rows()
    )
    keys = pl.concat([seen.drop_nulls("user_key"), fresh]).select("alias", "user_key")
    return asked.join(keys, on="alias", how="left", maintain_order="left")["user_key"]


def lookup(path: Path, alias_kind: str, alias: str) -> int | None:
    """Return the key an alias belongs to now, or None. Raises LakeError."""
    with _reading(path) as connection:
        row = connection.execute(
            "SELECT user_key FROM links WHERE alias_kind = ? AND alias = ? ORDER BY linked_at DESC LIMIT 1",
            (alias_kind, alias),
        ).fetchone()
    return None if row is None else int(row[0])


def link(path: Path, alias_kind: str, alias: str, *, to: int, at: dt.datetime, source: str) -> None:
    """Join a person to another from `at` on: every alias of the key that `alias` has now points to the key `to`.

    Used when an anonymous visitor becomes known. Earlier readings (`as_of` before `at`) stay as they were.
    Raises LakeError when the alias is unknown.
    """
    with book(path) as connection:
        current = _latest(_links(connection))
        mine = current.filter(pl.col("alias_kind") == alias_kind, pl.col("alias") == alias)
        if mine.is_empty():
            raise LakeError(
                "protect.identities",
                found=f"there is no such alias of kind {alias_kind}",
                consequence="Nobody can be joined by it",
                remedy="Give it a key first, with keys_for",
            )
        moved = current.filter(pl.col("user_key") == mine["user_key"][0], pl.col("user_key") != to)
        connection.executemany(
            "INSERT OR REPLACE INTO links VALUES (?, ?, ?, ?, ?)",
            ((kind, name, to, _micros(at), source) for kind, name in moved.select("alias_kind", "alias").iter_rows()),
        )


def joins(path: Path, *, as_of: dt.datetime | None = None) -> pl.DataFrame:
    """Return user_key, became (both i64): the keys that had become another one by `as_of` (default: now).

    A row of a table under `user_key` belongs to the person `became`; keys that stayed have no row.
    """
    with _reading(path) as connection:
        links = _as_of(_links(connection), as_of)
    now = _latest(links).select("alias_kind", "alias", became="user_key")
    moved = links.join(now, on=["alias_kind", "alias"]).filter(pl.col("user_key") != pl.col("became"))
    return moved.select("user_key", "became").unique().sort("user_key", "became")


def aliases(path: Path, *, as_of: dt.datetime | None = None) -> Identities:
    """Return the link of every alias that held at `as_of` (default: the latest). Raw ids: never write them anywhere."""
    with _reading(path) as connection:
        current = _latest(_as_of(_links(connection), as_of))
    moment = pl.from_epoch("linked_at", time_unit="us").dt.replace_time_zone("UTC")
    return IDENTITIES.shape(current.with_columns(linked_at=moment)).sort("alias_kind", "alias")


def known_keys(path: Path, *, as_of: dt.datetime | None = None) -> pl.DataFrame:
    """Return user_key (i64, ascending), known (bool): False for somebody known by guest orders only."""
    current = aliases(path, as_of=as_of)
    guest = pl.col("alias").str.starts_with(GUEST) & (pl.col("alias_kind") == "anonymous_id")
    return current.group_by("user_key").agg(known=(~guest).any()).sort("user_key")


def forget(path: Path, user_keys: Iterable[int]) -> int:
    """Erase every alias that ever belonged to one of these keys, and return how many there were.

    The bytes are overwritten (secure_delete) and the file is rebuilt (VACUUM). Rows of the lake go by
    `Lake.delete_users`; `joins` names the earlier keys of the same person.
    """
    with book(path) as connection:
        ours = _links(connection).filter(pl.col("user_key").is_in(sorted(set(user_keys))))
        names = ours.select("alias_kind", "alias").unique()
        connection.executemany("DELETE FROM links WHERE alias_kind = ? AND alias = ?", names.iter_rows())
    with _reading(path) as connection:
        connection.execute("PRAGMA temp_store = MEMORY")
        connection.execute("VACUUM")
    return names.height


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


def _links(connection: sqlite3.Connection) -> pl.DataFrame:
    """Every link ever made; linked_at in microseconds."""
    rows = connection.execute("SELECT alias_kind, alias, user_key, linked_at, source FROM links").fetchall()
    schema = {c.name: c.dtype for c in IDENTITIES.columns} | {"linked_at": pl.Int64()}
    return pl.DataFrame(rows, schema=schema, orient="row")


def _as_of(links: pl.DataFrame, as_of: dt.datetime | None) -> pl.DataFrame:
    return links if as_of is None else links.filter(pl.col("linked_at") <= _micros(as_of))


def _latest(links: pl.DataFrame) -> pl.DataFrame:
    """The last link of each alias."""
    return links.sort("linked_at").unique(["alias_kind", "alias"], keep="last", maintain_order=True)


@contextmanager
def _reading(path: Path) -> Iterator[sqlite3.Connection]:
    """Open the identities for reading; before the first import there is nobody."""
    connection = sqlite3.connect(path if path.exists() else ":memory:", timeout=WAIT_S, isolation_level=None)
    try:
        if connection.execute("PRAGMA user_version").fetchone()[0] == 0:  # its first change never came to its end
            connection.close()
            connection = sqlite3.connect(":memory:", isolation_level=None)
            connection.executescript(_SCHEMA)
        connection.execute("PRAGMA secure_delete = ON")
        yield connection
    except sqlite3.Error as error:
        raise _unusable(path, error) from error
    finally:
        connection.close()


def _micros(moment: dt.datetime) -> int:
    return (moment - _EPOCH) // dt.timedelta(microseconds=1)


def _unusable(path: Path, error: Exception) -> LakeError:
    return LakeError(
        path.name,
        found=f"the identities cannot be used ({error})",
        consequence="No row can be given to a person without them; nothing was changed",
        remedy="Check that the file is whole, may be written and is not held by another program",
    )
