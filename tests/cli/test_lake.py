"""habitue lake and habitue identity, in this process."""

import datetime as dt
import json

import polars as pl
import pytest
from typer.testing import CliRunner

from habitue.cli import app
from habitue.collect import synthetic
from habitue.core import workspace
from habitue.core.errors import HabitueError, LakeError, UsageError
from habitue.core.schemas import EVENTS
from habitue.protect import identities, people

DAY = dt.datetime(2024, 1, 1, tzinfo=dt.UTC)


@pytest.fixture
def shop(tmp_path):
    made = workspace.init(tmp_path / "shop", buckets=2)
    events = synthetic.shop(users=6, days=80)
    for part in (events[:20], events[20:35], events[35:60]):
        made.lake.append(EVENTS, part)
    return made


def habitue(shop, *arguments: str) -> str:
    done = CliRunner().invoke(app, [*arguments, "-w", str(shop.root)], catch_exceptions=True)
    if isinstance(done.exception, HabitueError):
        raise done.exception
    assert done.exit_code == 0, done.output
    return done.stdout


def test_files_are_those_of_the_version(shop):
    every = habitue(shop, "lake", "files", "events").split()
    assert every == shop.lake.files(EVENTS) and len(every) == 6
    first = json.loads(habitue(shop, "lake", "files", "events", "--version", "0", "--json"))
    assert first["files"] == shop.lake.files(EVENTS, 0)
    assert habitue(shop, "lake", "files", "items") == ""
    assert pl.read_parquet(every).height == 60


def test_files_of_a_moment(shop):
    at = shop.lake.history(EVENTS).filter(version=1)["at"][0].isoformat()
    assert habitue(shop, "lake", "files", "events", "--as-of", at).split() == shop.lake.files(EVENTS, 1)
    with pytest.raises(LakeError, match="no version as old as 2020-01-01"):
        habitue(shop, "lake", "files", "events", "--as-of", "2020-01-01")
    with pytest.raises(UsageError, match="a version and a moment are named.*Give one"):
        habitue(shop, "lake", "files", "events", "--as-of", "2020-01-01", "--version", "0")


def test_history_tells_every_version_latest_first(shop):
    rows = json.loads(habitue(shop, "lake", "history", "events", "--json"))
    assert [(r["version"], r["rows_added"]) for r in rows] == [(2, 25), (1, 15), (0, 20)]
    words = habitue(shop, "lake", "history", "events")
    assert "version 2 is read" in words and words.count("write") == 3
    assert "items was never written" in habitue(shop, "lake", "history", "items")
    with pytest.raises(UsageError, match="no table 'event'.*Did you mean 'events'"):
        habitue(shop, "lake", "history", "event")


def test_a_table_is_read_as_it_was(shop, tmp_path):
    assert habitue(shop, "lake", "read", "events") == "events at version 2: 60 rows.\n"
    out = tmp_path / "then.parquet"
    told = json.loads(habitue(shop, "lake", "read", "events", "--version", "1", "--out", str(out), "--json"))
    assert told == {"table": "events", "version": 1, "rows": 35, "out": str(out)}
    assert pl.read_parquet(out).equals(shop.lake.read(EVENTS, version=1))


def test_compacting_merges_small_files(shop):
    assert habitue(shop, "lake", "compact") == "events: 6 files are 2 now.\n"
    assert habitue(shop, "lake", "compact", "events") == "No small files.\n"
    assert shop.lake.read(EVENTS).height == 60 and shop.lake.read(EVENTS, version=0).height == 20


@pytest.fixture
def three(shop):
    """ann, bob and a cookie both have used."""
    ann, bob = identities.keys_for(shop.identities, "user_id", pl.Series(["ann", "bob"]), linked_at=DAY, source="x")
    (cookie,) = identities.keys_for(shop.identities, "anonymous_id", pl.Series(["COOKIE"]), linked_at=DAY, source="x")
    pairs = pl.DataFrame(
        {"user_key": [cookie] * 2, "became": [ann, bob], "at": [DAY, DAY + dt.timedelta(days=3)]},
    )
    with identities.book(shop.identities) as connection:
        people.claim(connection, pairs, source="web")
    return ann, bob, cookie


def test_a_conflict_is_told_in_words_and_settled(shop, three):
    ann, bob, cookie = three
    told = habitue(shop, "identity", "conflicts")
    assert f"The anonymous_id of key {cookie} belongs to person {ann} (join 1)" in told
    assert f"person {bob} claims it since 2024-01-04 (join 2)" in told and "COOKIE" not in told
    assert json.loads(habitue(shop, "identity", "conflicts", "--json"))[0]["claimant"] == bob
    assert habitue(shop, "identity", "undo", "2", "--never") == "Join 2 is undone.\n"
    assert habitue(shop, "identity", "conflicts") == "No id is claimed by two people.\n"


def test_merge_history_and_undo(shop, three):
    ann, bob, _ = three
    said = habitue(shop, "identity", "merge", "ann", "--into", f"key:{bob}", "--at", "2024-02-01")
    assert "one person from 2024-02-01 00:00 UTC on" in said and "habitue identity undo 3" in said
    assert dict(people.joins(shop.identities).rows())[ann] == bob
    rows = json.loads(habitue(shop, "identity", "history", "bob", "--json"))
    assert [(r["number"], r["made_by"]) for r in rows] == [(1, "data"), (2, "data"), (3, "operator")]
    assert "3 joins" in habitue(shop, "identity", "history")
    habitue(shop, "identity", "undo", "3", "--at", "2024-03-01")
    then = dt.datetime(2024, 2, 15, tzinfo=dt.UTC)
    assert dict(people.joins(shop.identities, as_of=then).rows())[ann] == bob
    assert ann not in dict(people.joins(shop.identities).rows())
    with pytest.raises(UsageError, match="nobody has the id that was named"):
        habitue(shop, "identity", "merge", "NOBODY", "--into", "bob")


def test_a_merge_waits_for_nobody_but_another_writer(shop, three, monkeypatch):
    monkeypatch.setattr("habitue.core.lake.WAIT_S", 0.05)
    import threading

    with shop.lake.exclusive():
        refused: list[Exception] = []

        def other() -> None:
            try:
                habitue(shop, "identity", "merge", "ann", "--into", "bob")
            except LakeError as error:
                refused.append(error)

        thread = threading.Thread(target=other)
        thread.start()
        thread.join()
    assert "another writer" in str(refused[0]) and people.history(shop.identities).height == 2
