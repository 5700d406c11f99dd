import datetime as dt
import os
import sqlite3
import stat
import subprocess
import sys
import time

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from habitue.core.errors import LakeError
from habitue.core.schemas import IDENTITIES, check
from habitue.protect import identities, people

DAY = dt.datetime(2024, 1, 1, tzinfo=dt.UTC)


def days(n: int) -> dt.datetime:
    return DAY + dt.timedelta(days=n)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "identities.sqlite"


def keys(path, *aliases: str, kind: str = "user_id", at: dt.datetime = DAY, seed: int | None = None) -> list[int]:
    series = pl.Series(aliases, dtype=pl.String)
    return identities.keys_for(path, kind, series, linked_at=at, source="test", seed=seed).to_list()


def test_an_alias_keeps_its_key(path):
    first = keys(path, "a", "b", "a")
    assert first[0] == first[2] != first[1]
    assert keys(path, "b", "c", "a")[::2] == [first[1], first[0]]
    assert identities.lookup(path, "user_id", "a") == first[0]


def test_the_same_word_of_another_kind_is_another_person(path):
    assert keys(path, "a") != keys(path, "a", kind="email")


def test_keys_are_secret_non_negative_and_all_over_the_range(path, tmp_path):
    mine = keys(path, *map(str, range(300)))
    assert all(0 <= key < 2**63 for key in mine) and len(set(mine)) == 300
    assert max(mine) > 2**62 and min(mine) < 2**61
    assert not set(mine) & set(keys(tmp_path / "other.sqlite", *map(str, range(300))))


@settings(max_examples=25, deadline=None)
@given(st.permutations([str(i) for i in range(20)]), st.integers(0, 20))
def test_a_seed_gives_the_same_keys_in_any_order_and_number_of_calls(tmp_path_factory, order, cut):
    path = tmp_path_factory.mktemp("seeded") / "identities.sqlite"
    drawn = dict(zip(order, keys(path, *order[:cut], seed=3) + keys(path, *order[cut:], seed=3), strict=True))
    other = tmp_path_factory.mktemp("seeded") / "identities.sqlite"
    assert [drawn[str(i)] for i in range(20)] == keys(other, *map(str, range(20)), seed=3)


def test_another_seed_gives_other_keys(path, tmp_path):
    assert keys(path, "a", seed=1) != keys(tmp_path / "other.sqlite", "a", seed=2)


def test_a_key_that_is_taken_is_drawn_again(path, monkeypatch):
    draws = iter([7, 7, 8])
    monkeypatch.setattr(identities.secrets, "randbits", lambda bits: next(draws))
    assert keys(path, "a") == [7]
    assert keys(path, "b") == [8]


def test_the_answer_is_in_the_order_asked(path):
    wanted = ["b", "a", "c", "a"]
    first = dict(zip(wanted, keys(path, *wanted), strict=True))
    assert keys(path, "c", "b", "a") == [first["c"], first["b"], first["a"]]


def test_nobody_asked_for(path):
    assert keys(path) == []


def test_each_alias_is_linked_at_its_earliest_moment(path):
    moments = pl.Series([days(3), days(1), days(2)])
    identities.keys_for(path, "user_id", pl.Series(["a", "a", "b"]), linked_at=moments, source="x")
    linked = {row["alias"]: row["linked_at"] for row in identities.aliases(path).to_dicts()}
    assert linked == {"a": days(1), "b": days(2)}
    key = keys(path, "b", at=days(0))
    keys(path, "b", at=days(9))
    assert identities.aliases(path, as_of=days(0)).select("alias", "user_key").rows() == [("b", key[0])]


def test_aliases_keep_their_contract(path):
    keys(path, "a", "b")
    check(identities.aliases(path), IDENTITIES, at="test")
    check(identities.aliases(path / "absent"), IDENTITIES, at="test")


def test_an_unknown_alias_has_no_key(path):
    assert identities.lookup(path, "user_id", "a") is None
    keys(path, "a")
    assert identities.lookup(path, "user_id", "b") is None


def test_the_file_is_its_owners_and_no_raw_id_lies_beside_it(path):
    keys(path, "SECRET-ALIAS")
    assert os.listdir(path.parent) == [path.name]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_forgotten_key_is_gone_from_the_bytes(path):
    (gone, stays) = keys(path, "SECRET-ALIAS", "OTHER-ALIAS")
    (visitor,) = keys(path, "SECRET-COOKIE", kind="anonymous_id")
    people.merge(path, visitor, into=gone, at=days(1), source="login")
    assert b"SECRET-ALIAS" in path.read_bytes()
    assert identities.forget(path, people.keys_of(path, [gone])) == 2
    assert b"SECRET" not in path.read_bytes()
    assert identities.aliases(path)["user_key"].to_list() == [stays]
    assert people.history(path).is_empty()
    assert os.listdir(path.parent) == [path.name]
    assert identities.lookup(path, "anonymous_id", "SECRET-COOKIE") is None


def test_deleted_bytes_are_overwritten_even_without_a_rebuild(path):
    keys(path, *(f"SECRET-{i}" for i in range(50)))
    with identities.book(path) as connection:
        connection.execute("DELETE FROM links")
    assert b"SECRET" not in path.read_bytes()


def test_secure_delete_is_on_whatever_sqlite_was_built_with(path):
    with identities.book(path) as connection:
        assert connection.execute("PRAGMA secure_delete").fetchone() == (1,)
        connection.execute("PRAGMA secure_delete = OFF")
    with identities.book(path) as connection:
        assert connection.execute("PRAGMA secure_delete").fetchone() == (1,)


def test_a_file_somebody_switched_to_a_write_ahead_log_is_switched_back(path):
    keys(path, "a")
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
    connection.close()
    with identities.book(path) as people:
        identities.keys_for(people, "user_id", pl.Series(["SECRET"]), linked_at=DAY, source="x")
        assert people.execute("PRAGMA journal_mode").fetchone() == ("delete",)
    assert os.listdir(path.parent) == [path.name]


def test_what_raises_inside_a_book_is_undone(path):
    keys(path, "a")
    with pytest.raises(KeyboardInterrupt), identities.book(path) as people:
        identities.keys_for(people, "user_id", pl.Series(["b"]), linked_at=DAY, source="x")
        raise KeyboardInterrupt
    assert identities.aliases(path)["alias"].to_list() == ["a"]
    assert os.listdir(path.parent) == [path.name]


KILLED = """
import datetime as dt, os, signal, sys
from pathlib import Path
import polars as pl
from habitue.protect import identities, people
with identities.book(Path(sys.argv[1])) as people:
    names = pl.Series([f"SECRET-{i}" for i in range(50_000)])
    identities.keys_for(people, "user_id", names, linked_at=dt.datetime(2024, 1, 1, tzinfo=dt.UTC), source="x")
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_killed_writer_leaves_the_identities_as_they_were(path):
    keys(path, "a")
    subprocess.run([sys.executable, "-c", KILLED, path])
    assert identities.aliases(path)["alias"].to_list() == ["a"]
    keys(path, "b")
    assert os.listdir(path.parent) == [path.name]


def test_another_writer_is_refused_in_words(path, monkeypatch):
    keys(path, "a")
    monkeypatch.setattr(identities, "WAIT_S", 0.05)
    with identities.book(path):
        with pytest.raises(
            LakeError, match=r"identities\.sqlite: the identities cannot be used \(database is locked\)"
        ):
            keys(path, "b")


@pytest.mark.parametrize("use", [keys, lambda path, _: identities.aliases(path)])
def test_a_file_that_is_no_database(path, use):
    path.write_bytes(b"junk" * 1000)
    with pytest.raises(LakeError, match="the identities cannot be used.*nothing was changed.*file is whole"):
        use(path, "a")


@pytest.mark.parametrize("use", [keys, lambda path, _: identities.aliases(path)])
def test_identities_of_another_layout(path, use):
    keys(path, "a")
    for version, words in ((3, "newer Habitue, layout 3; this one knows up to 2"), (1, "layout 1.*habitue migrate")):
        with sqlite3.connect(path) as connection:
            connection.execute(f"PRAGMA user_version = {version}")
        connection.close()
        with pytest.raises(LakeError, match=words):
            use(path, "b")


def test_a_folder_that_is_not_there(tmp_path):
    with pytest.raises(LakeError, match="the identities cannot be used.*No such file"):
        keys(tmp_path / "absent" / "identities.sqlite", "a")


def test_the_secret_of_event_ids_is_drawn_once(path, tmp_path):
    with identities.book(path) as people:
        first = identities.event_secret(people)
    with identities.book(path) as people:
        assert identities.event_secret(people, seed=5) == first
    assert len(first) == 32


def test_the_secret_of_event_ids_can_come_from_a_seed(tmp_path):
    drawn = []
    for i, seed in enumerate((5, 5, 6, None, None)):
        with identities.book(tmp_path / f"{i}.sqlite") as people:
            drawn.append(identities.event_secret(people, seed=seed))
    assert drawn[0] == drawn[1] and len(set(drawn)) == 4


def test_a_real_shops_customers_take_less_than_a_cpu_second(path):
    rows = [str(12_000 + i % 4_372) for i in range(400_000)]
    start = time.process_time()
    keys(path, *rows)
    keys(path, *(f"order:{i}" for i in range(3_710)), kind="anonymous_id")
    assert time.process_time() - start < 1.0
    assert people.known_keys(path).height == 4_372 + 3_710
