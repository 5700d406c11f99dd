"""Which keys are one person, as of any moment: joins of keys, their undoing, and who claims whose alias.

A join says that `user_key` became `became` at `joined_at`. It is made
* by the *data*: a row names two aliases at once (a login names the visitor's cookie and the customer's number). It is a
  claim: of several on one key the earliest holds, and a later one by somebody else is a conflict, reported and not
  followed - else one shared computer would make a family one customer;
* by an *operator*, who says that two people are one. It always holds.
An undone join holds from `joined_at` until `undone_at`, so what was read in between can be read again. When the claim
that held is undone, the next one holds from then on.

    person(key, t) = the set of keys connected to it by the joins that hold at t,
                     named after the one that became no other; of several the one met first, then the smallest

This depends on the joins' moments alone, never on the order in which files were imported.
"""

from __future__ import annotations

import datetime as dt
import sqlite3
from collections.abc import Iterable
from pathlib import Path

import polars as pl

from habitue.core.errors import UsageError
from habitue.protect import identities
from habitue.protect.identities import book, links, micros, moments, reading, until

DATA, OPERATOR = "data", "operator"
_JOINS = {
    "number": pl.Int64(),
    "user_key": pl.Int64(),
    "became": pl.Int64(),
    "made_by": pl.String(),
    "joined_at": pl.Int64(),
    "source": pl.String(),
    "undone_at": pl.Int64(),
}


def claim(where: sqlite3.Connection, pairs: pl.DataFrame, *, source: str) -> int:
    """Record that rows named two aliases at once; returns how many claims are new.

    `pairs`: user_key (the lesser alias: cookie, e-mail), became (the key the row belongs to), at (UTC). The earliest
    moment of a pair counts, also over calls; a pair that an operator undid stays undone. O(pairs).
    """
    found = pairs.filter(pl.col("user_key") != pl.col("became")).group_by("user_key", "became").agg(pl.col("at").min())
    found = found.with_columns(pl.col("at").dt.epoch("us")).sort("at", "user_key", "became")
    known = _joins(where).filter(pl.col("made_by") == DATA).select("user_key", "became", "number", "joined_at")
    found = found.join(known, on=["user_key", "became"], how="left", maintain_order="left")
    new = found.filter(pl.col("number").is_null())
    rows = new.select("user_key", "became", pl.lit(DATA).alias("made_by"), "at", pl.lit(source).alias("source"))
    where.executemany(
        "INSERT INTO joins (user_key, became, made_by, joined_at, source) VALUES (?, ?, ?, ?, ?)", rows.iter_rows()
    )
    earlier = found.filter(pl.col("at") < pl.col("joined_at")).select("at", "number")
    where.executemany("UPDATE joins SET joined_at = ? WHERE number = ?", earlier.iter_rows())
    return new.height


def merge(path: Path, key: int, *, into: int, at: dt.datetime, source: str) -> int:
    """Say that the person of `key` and that of `into` are one from `at` on; returns the join's number, for `undo`.

    Readings as of before `at` stay as they were. Raises UsageError for a key nobody has, and when they are one person
    already.
    """
    with book(path) as connection:
        _known(connection, key, into)
        became = {row[0]: row[1] for row in _people(connection, at).iter_rows()}
        one, other = became.get(key, key), became.get(into, into)
        if one == other:
            raise UsageError(
                "identity merge",
                found="they are one person already",
                consequence="There is nothing to merge",
                remedy="See how it came about: habitue identity history",
            )
        cursor = connection.execute(
            "INSERT INTO joins (user_key, became, made_by, joined_at, source) VALUES (?, ?, ?, ?, ?)",
            (one, other, OPERATOR, micros(at), source),
        )
        return int(cursor.lastrowid or 0)


def undo(path: Path, number: int, *, at: dt.datetime) -> None:
    """Let a join hold no longer than to `at`; a moment up to its own says that it never held.

    Readings as of before `at` stay as they were. Raises UsageError for a join that is not there or was undone before.
    """
    with book(path) as connection:
        row = connection.execute("SELECT joined_at, undone_at FROM joins WHERE number = ?", (number,)).fetchone()
        if row is None or row[1] is not None:
            raise UsageError(
                "identity undo",
                found=f"there is no join {number}" if row is None else f"join {number} was undone before",
                consequence="Nothing was changed",
                remedy="See the joins and their numbers: habitue identity history",
            )
        connection.execute("UPDATE joins SET undone_at = ? WHERE number = ?", (max(row[0], micros(at)), number))


def joins(path: Path, *, as_of: dt.datetime | None = None) -> pl.DataFrame:
    """Return user_key, became (both i64): whose rows belong to another key's person at `as_of` (default: now).

    Keys that are their own person have no row. O(joins).
    """
    with reading(path) as connection:
        return _people(connection, as_of)


def joined(frame: pl.DataFrame, path: Path, *, as_of: dt.datetime | None = None) -> pl.DataFrame:
    """Return `frame` with each `user_key` replaced by its person's at `as_of`; order and other columns stay."""
    moved = joins(path, as_of=as_of)
    if moved.is_empty():
        return frame
    found = frame.join(moved, on="user_key", how="left", maintain_order="left")
    return found.with_columns(user_key=pl.coalesce("became", "user_key")).drop("became")


def keys_of(path: Path, user_keys: Iterable[int]) -> list[int]:
    """Return every key that is now one person with any of these, ascending: what an erasure must take away."""
    wanted = set(user_keys)
    moved = joins(path)
    people = {row[0]: row[1] for row in moved.iter_rows()}
    named = {people.get(key, key) for key in wanted}
    return sorted(wanted | named | {key for key, person in people.items() if person in named})


def known_keys(path: Path, *, as_of: dt.datetime | None = None) -> pl.DataFrame:
    """Return user_key (i64, ascending), known (bool) of each person; False for one known by guest orders only."""
    current = joined(identities.aliases(path, as_of=as_of), path, as_of=as_of)
    guest = pl.col("alias").str.starts_with(identities.GUEST) & (pl.col("alias_kind") == "anonymous_id")
    return current.group_by("user_key").agg(known=(~guest).any()).sort("user_key")


def conflicts(path: Path, *, as_of: dt.datetime | None = None) -> pl.DataFrame:
    """Return the aliases that two people claim, at `as_of` (default: now), earliest claim first.

    Columns: alias_kind, user_key (of the alias), holder and holds (the person who has it, by which join), claimant and
    number (who claims it as well, by which join), at. No raw id.
    """
    with reading(path) as connection:
        active, people = _active(connection, as_of), _people(connection, as_of)
        kinds = links(connection).group_by("user_key").agg(pl.col("alias_kind").first())
    claims = active.filter(pl.col("made_by") == DATA)
    first = _first_claims(claims).select("user_key", holds="number", holder="became")
    rest = claims.join(first, on="user_key").filter(pl.col("number") != pl.col("holds"))
    for column in ("holder", "became"):
        person = people.select(pl.col("user_key").alias(column), person="became")
        rest = rest.join(person, on=column, how="left").with_columns(pl.coalesce("person", column).alias(column))
        rest = rest.drop("person")
    rest = rest.filter(pl.col("holder") != pl.col("became")).join(kinds, on="user_key", how="left")
    rest = rest.with_columns(moments("joined_at")).sort("joined_at", "number")
    return rest.select("alias_kind", "user_key", "holder", "holds", claimant="became", number="number", at="joined_at")


def history(path: Path, user_keys: Iterable[int] | None = None) -> pl.DataFrame:
    """Return every join ever made, in order: number, user_key, became, made_by, joined_at, source, undone_at (UTC).

    `user_keys`: only those that touch the present persons of these keys.
    """
    with reading(path) as connection:
        every = _joins(connection)
    if user_keys is not None:
        wanted = set(user_keys)
        keys = pl.Series(keys_of(path, wanted), dtype=pl.Int64).implode()
        every = every.filter(pl.col("user_key").is_in(keys) | pl.col("became").is_in(keys))
    return every.with_columns(moments("joined_at", "undone_at")).sort("joined_at", "number")


def find(path: Path, named: str) -> int:
    """Return the key that an operator named: `key:123`, `KIND:ALIAS`, or an alias alone (user_id first, then any).

    Raises UsageError, without the raw id, when nobody has it, and when an alias alone is of several kinds of people.
    """
    kind, colon, rest = named.partition(":")
    with reading(path) as connection:
        if kind == "key" and rest.isdigit():
            _known(connection, int(rest))
            return int(rest)
        kinds = [row[0] for row in connection.execute("SELECT DISTINCT alias_kind FROM links ORDER BY 1")]
        asked = [(kind, rest)] if colon and kind in kinds else [(k, named) for k in ("user_id", *kinds)]
        found = [identities.lookup(path, k, alias) for k, alias in asked]
    keys = [key for key in dict.fromkeys(found) if key is not None]
    if not keys:
        raise UsageError(
            "identities",
            found="nobody has the id that was named",
            consequence="Nothing was changed",
            remedy=f"Write it as in your own files, or KIND:ID with one of the kinds: {', '.join(kinds) or 'none yet'}",
        )
    if found[0] is None and len({*keys_of(path, keys)} - {*keys_of(path, keys[:1])}) > 0:
        raise UsageError(
            "identities",
            found="several people have the id that was named, under different kinds",
            consequence="Nothing was changed",
            remedy=f"Say which kind: KIND:ID with one of {', '.join(kinds)}",
        )
    return keys[0]


def pseudonym(user_key: int) -> str:
    """Return the name a customer has on a page: never the shop's own id."""
    return f"customer {user_key & 0xFFFFF:05x}"


def _people(connection: sqlite3.Connection, as_of: dt.datetime | None) -> pl.DataFrame:
    """Return user_key, became for every key that is part of another's person; ascending."""
    active = _active(connection, as_of)
    holding = pl.concat([active.filter(pl.col("made_by") == OPERATOR), _first_claims(active)])
    parent: dict[int, int] = {}

    def root(key: int) -> int:
        while (above := parent.setdefault(key, key)) != key:
            parent[key] = parent[above]  # path halving
            key = above
        return key

    for one, other in holding.select("user_key", "became").iter_rows():
        parent[root(one)] = root(other)
    if not parent:
        return pl.DataFrame(schema={"user_key": pl.Int64, "became": pl.Int64})
    members = pl.DataFrame({"user_key": list(parent), "part": [root(key) for key in parent]})
    met = until(links(connection), "linked_at", as_of).group_by("user_key").agg(pl.col("linked_at").min())
    gone = holding["user_key"].unique()
    ranked = members.join(met, on="user_key", how="left").with_columns(left=pl.col("user_key").is_in(gone.implode()))
    ranked = ranked.sort("part", "left", pl.col("linked_at"), "user_key", nulls_last=True)
    named = ranked.group_by("part").agg(became=pl.col("user_key").first())
    found = members.join(named, on="part").filter(pl.col("user_key") != pl.col("became"))
    return found.select("user_key", "became").sort("user_key")


def _active(connection: sqlite3.Connection, as_of: dt.datetime | None) -> pl.DataFrame:
    """Return the joins that were made by `as_of` and not undone by then."""
    found = until(_joins(connection), "joined_at", as_of)
    ended = pl.col("undone_at").is_not_null()
    return found.filter(~ended if as_of is None else ~ended | (pl.col("undone_at") > micros(as_of)))


def _first_claims(active: pl.DataFrame) -> pl.DataFrame:
    """Return, of the claims on each key, the one that holds."""
    claims = active.filter(pl.col("made_by") == DATA).sort("joined_at", "became")
    return claims.unique("user_key", keep="first", maintain_order=True)


def _joins(connection: sqlite3.Connection) -> pl.DataFrame:
    rows = connection.execute(f"SELECT {', '.join(_JOINS)} FROM joins").fetchall()
    return pl.DataFrame(rows, schema=_JOINS, orient="row")


def _known(connection: sqlite3.Connection, *keys: int) -> None:
    for key in keys:
        if connection.execute("SELECT 1 FROM links WHERE user_key = ? LIMIT 1", (key,)).fetchone() is None:
            raise UsageError(
                "identities",
                found="nobody has the key that was named",
                consequence="Nothing was changed",
                remedy="Name somebody by an id of your own files",
            )
