"""People one by one get the keys and joins that a file of the same rows gives them."""

import datetime as dt
import sqlite3

import polars as pl
import pytest

from habitue.core.errors import LakeError
from habitue.protect import identities, people
from habitue.protect.arriving import Arriving

T0 = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)


def at(minutes):
    return T0 + dt.timedelta(minutes=minutes)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "identities.sqlite"


def meet(arriving, *aliases):
    return arriving.group(lambda: [arriving.key(kind, alias, when, "wire") for kind, alias, when in aliases])


@pytest.mark.parametrize("kept", [1, 1_000])
def test_an_alias_keeps_its_key_within_a_group_later_and_after_a_restart(path, kept):
    first = Arriving(path, kept=kept)
    names = [("user_id", f"u{n % 3}", at(n)) for n in range(9)]
    keys = meet(first, *names)
    assert keys[:3] * 3 == keys and len(set(keys)) == 3
    assert meet(first, *names) == keys
    first.close()
    assert meet(Arriving(path, kept=kept), *names) == keys
    assert identities.aliases(path)["user_key"].to_list() == keys[:3]


def test_a_kind_is_part_of_an_alias(path):
    one, other = meet(Arriving(path), ("user_id", "7", T0), ("anonymous_id", "7", T0))
    assert one != other


def test_the_earliest_meeting_counts_in_whatever_order(path):
    arriving = Arriving(path)
    for minutes in (5, 9, 2, 7):
        meet(arriving, ("user_id", "u", at(minutes)), ("user_id", "v", at(-minutes)))
    assert identities.aliases(path)["linked_at"].to_list() == [at(2), at(-9)]


def test_claims_are_those_that_people_records(path):
    arriving = Arriving(path)

    def login(minutes):
        user = arriving.key("user_id", "u", at(minutes), "wire")
        visitor = arriving.key("anonymous_id", "a", at(minutes), "wire")
        arriving.claim(visitor, user, at(minutes), "wire")
        arriving.claim(user, user, at(minutes), "wire")
        return visitor, user

    visitor, user = arriving.group(lambda: login(5))
    arriving.group(lambda: login(9))
    arriving.group(lambda: login(3))
    history = people.history(path)
    assert history.select("user_key", "became", "joined_at", "source").rows() == [(visitor, user, at(3), "wire")]
    with identities.book(path) as connection:  # the same rows out of a file change nothing
        pairs = pl.DataFrame({"user_key": [visitor], "became": [user], "at": [at(5)]})
        assert people.claim(connection, pairs, source="file") == 0


def test_a_claim_that_an_operator_undid_stays_undone(path):
    arriving = Arriving(path)

    def login():
        keys = [arriving.key(kind, "x", T0, "wire") for kind in ("anonymous_id", "user_id")]
        arriving.claim(*keys, T0, "wire")

    arriving.group(login)
    people.undo(path, 1, at=at(60))
    arriving.group(login)
    assert people.joins(path).is_empty() and people.history(path).height == 1


def test_nobody_is_added_when_the_group_fails(path):
    arriving = Arriving(path)

    def broken():
        arriving.key("user_id", "u", T0, "wire")
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        arriving.group(broken)
    assert identities.aliases(path).is_empty()
    (key,) = meet(arriving, ("user_id", "u", T0))
    assert identities.lookup(path, "user_id", "u") == key


def test_a_key_given_by_another_process_meanwhile_is_used(path):
    arriving = Arriving(path)
    turns = []

    def slow():
        turns.append(arriving.key("user_id", "u", T0, "wire"))
        if len(turns) == 1:  # an import meets the same person between our look and our write
            theirs = identities.keys_for(path, "user_id", pl.Series(["u"]), linked_at=T0, source="file")
            turns.append(theirs[0])
        return turns[-1]

    key = arriving.group(slow)
    drawn, theirs, again = turns
    assert key == again == theirs != drawn
    assert identities.aliases(path)["user_key"].to_list() == [theirs]


def test_somebody_erased_and_met_again_is_somebody_new(path):
    arriving = Arriving(path)
    (before,) = meet(arriving, ("user_id", "u", T0))
    identities.forget(path, [before])
    (after,) = meet(arriving, ("user_id", "u", T0))
    assert after != before and identities.lookup(path, "user_id", "u") == after


def test_a_file_that_is_held_is_said_in_words_and_nobody_half_added(path, monkeypatch):
    arriving = Arriving(path)
    monkeypatch.setattr(identities, "WAIT_S", 0.05)
    with identities.book(path), pytest.raises(LakeError, match="the identities cannot be used"):
        meet(arriving, ("user_id", "u", T0))
    (key,) = meet(arriving, ("user_id", "u", T0))
    assert identities.lookup(path, "user_id", "u") == key


def test_looking_up_and_claiming_use_an_index(path):
    Arriving(path).close()
    with sqlite3.connect(path) as connection:
        for query in (
            "SELECT user_key FROM links WHERE alias_kind = 'a' AND alias = 'b'",
            "SELECT number FROM joins WHERE user_key = 1 AND became = 2",
        ):
            plan = connection.execute(f"EXPLAIN QUERY PLAN {query}").fetchone()[3]
            assert plan.startswith("SEARCH"), plan
    connection.close()


def test_a_change_that_cannot_be_written_leaves_nothing_open_and_the_next_one_is_kept(path):
    arriving = Arriving(path)
    with sqlite3.connect(path) as breaking:
        breaking.execute("CREATE TRIGGER no BEFORE INSERT ON links BEGIN SELECT RAISE(ABORT, 'no room'); END")
    breaking.close()
    with pytest.raises(LakeError, match="no room"):
        meet(arriving, ("user_id", "u", T0))
    identities.keys_for(path, "user_id", pl.Series([], dtype=pl.String), linked_at=T0, source="file")  # nobody holds it
    with sqlite3.connect(path) as mended:
        mended.execute("DROP TRIGGER no")
    mended.close()
    (key,) = meet(arriving, ("user_id", "u", T0))
    assert identities.lookup(path, "user_id", "u") == key
    assert not path.with_name(f"{path.name}-journal").exists()  # no copy of a raw id beside the file
