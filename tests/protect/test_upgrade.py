import datetime as dt
import sqlite3

import pytest

from habitue.core.errors import LakeError
from habitue.protect import identities, people
from habitue.protect.upgrade import upgrade

DAY = dt.datetime(2024, 1, 1, tzinfo=dt.UTC)
LAYOUT_1 = """
CREATE TABLE links (
  alias_kind TEXT NOT NULL, alias TEXT NOT NULL, user_key INTEGER NOT NULL CHECK (user_key >= 0),
  linked_at INTEGER NOT NULL, source TEXT NOT NULL, PRIMARY KEY (alias_kind, alias, linked_at)
) WITHOUT ROWID;
CREATE INDEX links_of_key ON links (user_key);
CREATE TABLE secret (event_ids BLOB NOT NULL);
PRAGMA user_version = 1;
"""


def day(n: int) -> dt.datetime:
    return DAY + dt.timedelta(days=n)


@pytest.fixture
def old(tmp_path):
    """A visitor (1) who became known (2) on day 5, and then part of another account (3) on day 9; 4 stands alone."""
    path = tmp_path / "identities.sqlite"
    with sqlite3.connect(path) as connection:
        connection.executescript(LAYOUT_1)
        rows = [
            ("anonymous_id", "cookie", 1, 0),
            ("anonymous_id", "cookie", 2, 5),
            ("anonymous_id", "cookie", 3, 9),
            ("user_id", "ann", 2, 1),
            ("user_id", "ann", 3, 9),
            ("user_id", "anna", 3, 2),
            ("user_id", "bob", 4, 3),
        ]
        moved = [(kind, alias, key, identities.micros(day(n)), "web") for kind, alias, key, n in rows]
        connection.executemany("INSERT INTO links VALUES (?, ?, ?, ?, ?)", moved)
        connection.execute("INSERT INTO secret VALUES (?)", (b"s" * 32,))
    connection.close()
    return path


def test_who_was_who_at_any_moment_stays(old):
    assert upgrade(old)
    assert [people.joins(old, as_of=day(n)).rows() for n in (4, 5, 8)] == [[], [(1, 2)], [(1, 2)]]
    assert people.joins(old).rows() == people.joins(old, as_of=day(9)).rows() == [(1, 3), (2, 3)]
    assert identities.aliases(old).select("alias", "user_key").rows() == [
        ("cookie", 1),
        ("ann", 2),
        ("anna", 3),
        ("bob", 4),
    ]
    with identities.book(old) as connection:
        assert identities.event_secret(connection) == b"s" * 32


def test_a_join_of_the_older_layout_can_be_undone(old):
    upgrade(old)
    number = people.history(old).filter(user_key=2, became=3)["number"][0]
    people.undo(old, number, at=day(20))
    assert people.joins(old).rows() == [(1, 2)]


def test_twice_does_no_harm(old):
    assert [upgrade(old), upgrade(old)] == [True, False]
    assert people.joins(old).rows() == [(1, 3), (2, 3)]


def test_nothing_to_do(tmp_path):
    assert not upgrade(tmp_path / "absent.sqlite") and not (tmp_path / "absent.sqlite").exists()


def test_what_goes_wrong_leaves_the_older_layout(old, monkeypatch):
    before = old.read_bytes()
    monkeypatch.setattr(identities, "SCHEMA", identities.SCHEMA + "CREATE TABLE links (x);\n")
    with pytest.raises(LakeError, match=r"cannot be brought up to date \(.*already exists.*as they were"):
        upgrade(old)
    assert old.read_bytes() == before
    old.write_bytes(b"junk" * 999)
    with pytest.raises(LakeError, match="cannot be brought up to date.*file is whole"):
        upgrade(old)
