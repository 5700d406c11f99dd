"""Databases by their address (DSN): SQLite, PostgreSQL and DuckDB; one query, read row by row, never written to.

sqlite:///shop.db    postgresql://reader@host/shop    duckdb:///shop.duckdb    duckdb: (queries over files)
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from habitue.collect.sources.blocks import ROWS, Record
from habitue.core.errors import InputError, UsageError
from habitue.core.extras import need

SCHEMES = ("sqlite", "postgresql", "postgres", "duckdb")


def is_dsn(address: str) -> bool:
    """Whether this is the address of a database and no path."""
    scheme, colon, _ = address.partition(":")
    return bool(colon) and scheme in SCHEMES


def shown(dsn: str) -> str:
    """The address without user and password: what may stand in a message."""
    scheme, _, rest = dsn.partition(":")
    return f"{scheme}:{re.sub(r'^//[^/@]*@', '//', rest).partition('?')[0]}"


def rows(dsn: str, query: str | None) -> Iterator[tuple[int, Record | str]]:
    """Yield (number, column -> value) of a query. The first pair has number 0 and only tells the columns.

    Raises UsageError without a query, MissingExtraError without the driver, InputError for what the database answers.
    """
    if not query:
        raise UsageError(
            shown(dsn),
            found="the mapping has no query",
            consequence="Which rows of the database are meant is unknown",
            remedy='Write in the mapping, for instance: query = "SELECT * FROM orders"',
        )
    scheme = dsn.partition(":")[0]
    opener = {"sqlite": _sqlite, "duckdb": _duckdb}.get(scheme, _postgresql)
    with opener(dsn, query) as cursor:
        names = _names([column[0] for column in cursor.description or ()], dsn)
        yield 0, dict.fromkeys(names)
        number = 0
        while batch := cursor.fetchmany(ROWS):
            for row in batch:
                number += 1
                yield number, dict(zip(names, row, strict=True))


def _names(names: list[str], dsn: str) -> list[str]:
    if not names:
        raise _refused(dsn, "the query brings no rows: it is no SELECT")
    return names


@contextmanager
def _sqlite(dsn: str, query: str) -> Iterator[Any]:
    path = _path(dsn)
    if path is None or not path.is_file():
        raise _refused(dsn, "there is no such file")
    try:
        connection = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)
        try:
            connection.execute("PRAGMA query_only = ON")
            yield connection.execute(query)
        finally:
            connection.close()
    except (sqlite3.Error, sqlite3.Warning) as error:
        raise _refused(dsn, str(error)) from error
    except UnicodeDecodeError as error:  # its own words, of a damaged file
        raise _refused(dsn, "what it says is no text: the file is damaged") from error


@contextmanager
def _duckdb(dsn: str, query: str) -> Iterator[Any]:
    duckdb = need("duckdb", extra="sql", purpose=shown(dsn))
    path = _path(dsn)
    if path is not None and not path.is_file():
        raise _refused(dsn, "there is no such file")
    try:
        connection = duckdb.connect(str(path) if path else ":memory:", read_only=path is not None)
        try:
            yield connection.execute(query)
        finally:
            connection.close()
    except duckdb.Error as error:
        raise _refused(dsn, str(error)) from error


@contextmanager
def _postgresql(dsn: str, query: str) -> Iterator[Any]:
    psycopg = need("psycopg", extra="sql", purpose=shown(dsn))
    try:
        with psycopg.connect(dsn, connect_timeout=10) as connection:
            connection.read_only = True
            with connection.cursor(name="habitue") as cursor:  # named = the rows stay on the server until asked for
                cursor.itersize = ROWS
                cursor.execute(query)
                yield cursor
    except psycopg.Error as error:
        raise _refused(dsn, str(error)) from error


def _path(dsn: str) -> Path | None:
    """The file of an address: three slashes for a relative path, four for an absolute one; None = in memory."""
    path = unquote(urlsplit(dsn).path)
    if not path or path == "/":
        return None
    return Path(path[1:])


def _refused(dsn: str, said: str) -> InputError:
    lines = [line.strip() for line in said.strip().splitlines() if line.strip()]
    words = re.sub(r"'[^']*'|\"[^\"]*@[^\"]*\"", "'...'", lines[0]) if lines else "it gave no reason"
    return InputError(
        shown(dsn),
        found=f"the database answers: {words}",
        consequence="No row could be read; nothing was stored",
        remedy="Check the address, the rights and the query",
    )
