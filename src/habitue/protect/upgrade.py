"""The identities of an older layout brought to the present one, in one transaction of SQLite: all of it or nothing.

Layout 1 kept a join by pointing an alias to another key from a moment on. Layout 2 leaves every alias with its first
key and keeps the join beside it, so that it can be undone.
"""

from __future__ import annotations

import sqlite3
from itertools import pairwise
from pathlib import Path

from habitue.core.errors import LakeError
from habitue.protect import identities
from habitue.protect.people import OPERATOR


def upgrade(path: Path) -> bool:
    """Bring the file to `identities.VERSION`; returns whether anything was to be done. Twice does no harm.

    Raises LakeError when it cannot be read, is held by another process, or was written by a newer Habitue.
    """
    if not path.exists():
        return False
    connection = sqlite3.connect(path, timeout=identities.WAIT_S, isolation_level=None)
    try:
        connection.execute("PRAGMA secure_delete = ON")
        connection.execute("PRAGMA temp_store = MEMORY")
        connection.execute("BEGIN IMMEDIATE")
        version = connection.execute("PRAGMA user_version").fetchone()[0]
        if version != 1:
            return False  # new, up to date, or newer: whoever opens it next says so
        links, joins = _from_layout_1(connection)
        connection.execute("ALTER TABLE secret RENAME TO kept")
        connection.execute("DROP TABLE links")
        for statement in identities.SCHEMA.split(";\n"):
            connection.execute(statement)
        connection.execute("INSERT INTO secret SELECT event_ids FROM kept")
        connection.execute("DROP TABLE kept")
        connection.executemany("INSERT INTO links VALUES (?, ?, ?, ?, ?)", links)
        connection.executemany(
            "INSERT INTO joins (user_key, became, joined_at, source, made_by) VALUES (?, ?, ?, ?, ?)",
            [(*join, OPERATOR) for join in joins],
        )
        connection.execute(f"PRAGMA user_version = {identities.VERSION}")
        connection.execute("COMMIT")
        return True
    except sqlite3.Error as error:
        raise LakeError(
            path.name,
            found=f"the identities cannot be brought up to date ({error})",
            consequence="They are as they were",
            remedy="Check that the file is whole, may be written and is not held by another program; then again",
        ) from error
    finally:
        connection.close()  # undoes what was not committed


def _from_layout_1(connection: sqlite3.Connection) -> tuple[list[tuple[object, ...]], list[tuple[object, ...]]]:
    """Return the first link of every alias, and each later one as a join of the keys on either side of it."""
    rows = connection.execute(
        "SELECT alias_kind, alias, user_key, linked_at, source FROM links ORDER BY alias_kind, alias, linked_at"
    ).fetchall()
    of_alias: dict[tuple[str, str], list[tuple[int, int, str]]] = {}
    for kind, alias, key, at, source in rows:
        of_alias.setdefault((kind, alias), []).append((key, at, source))
    links = [(*alias, *chain[0]) for alias, chain in of_alias.items()]
    moves = {
        (one, other, at, source)
        for chain in of_alias.values()
        for (one, _, _), (other, at, source) in pairwise(chain)
        if one != other
    }
    return links, sorted(moves, key=lambda move: (move[2], move))  # type: ignore[return-value]
