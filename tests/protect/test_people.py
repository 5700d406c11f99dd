import datetime as dt
import re

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from habitue.core.errors import UsageError
from habitue.protect import identities, people

DAY = dt.datetime(2024, 1, 1, tzinfo=dt.UTC)
QUICK = settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def days(n: float) -> dt.datetime:
    return DAY + dt.timedelta(days=n)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "identities.sqlite"


def keys(path, *aliases: str, kind: str = "user_id", at: dt.datetime = DAY) -> list[int]:
    series = pl.Series(aliases, dtype=pl.String)
    return identities.keys_for(path, kind, series, linked_at=at, source="test").to_list()


def claim(path, *claims: tuple[int, int, float]) -> int:
    """Claims as (key of the cookie, key of the customer, day)."""
    frame = pl.DataFrame(
        {"user_key": [c[0] for c in claims], "became": [c[1] for c in claims], "at": [days(c[2]) for c in claims]},
        schema_overrides={"user_key": pl.Int64, "became": pl.Int64, "at": pl.Datetime("us", "UTC")},
    )
    with identities.book(path) as connection:
        return people.claim(connection, frame, source="test")


def parts(path, every: list[int], as_of: dt.datetime | None = None) -> set[frozenset[int]]:
    """The people, each as the set of its keys; also holds that each is named after one of its own keys."""
    became = dict(people.joins(path, as_of=as_of).iter_rows())
    found: dict[int, set[int]] = {}
    for key in every:
        found.setdefault(became.get(key, key), set()).add(key)
    assert all(name in members for name, members in found.items())
    return {frozenset(members) for members in found.values()}


# A visitor who logs in


def test_a_login_joins_the_visitor_to_the_customer_from_that_moment(path):
    (customer,), (visitor,) = keys(path, "17850"), keys(path, "cookie", kind="anonymous_id")
    assert claim(path, (visitor, customer, 5)) == 1
    assert people.joins(path).rows() == [(visitor, customer)]
    assert people.joins(path, as_of=days(5)).rows() == [(visitor, customer)]
    assert people.joins(path, as_of=days(5) - dt.timedelta(microseconds=1)).is_empty()


def test_the_keys_of_the_aliases_stay_so_what_is_stored_stays_true(path):
    (customer,), (visitor,) = keys(path, "17850"), keys(path, "cookie", kind="anonymous_id")
    claim(path, (visitor, customer, 5))
    assert keys(path, "cookie", kind="anonymous_id", at=days(6)) == [visitor]
    assert identities.lookup(path, "anonymous_id", "cookie") == visitor


def test_the_same_claim_again_adds_nothing_and_its_earliest_moment_counts(path):
    (customer,), (visitor,) = keys(path, "17850"), keys(path, "cookie", kind="anonymous_id")
    assert claim(path, (visitor, customer, 5), (visitor, customer, 7), (customer, customer, 1)) == 1
    assert claim(path, (visitor, customer, 3)) == 0
    assert claim(path, (visitor, customer, 9)) == 0
    assert people.history(path).select("user_key", "became", "joined_at").rows() == [(visitor, customer, days(3))]


def test_a_chain_of_aliases_is_one_person_named_after_the_last(path):
    (customer,), (mail,) = keys(path, "17850"), keys(path, "a@b.example", kind="email")
    (cookie,) = keys(path, "cookie", kind="anonymous_id")
    claim(path, (cookie, mail, 1), (mail, customer, 2))
    assert people.joins(path, as_of=days(1)).rows() == [(cookie, mail)]
    assert set(people.joins(path).rows()) == {(cookie, customer), (mail, customer)}
    assert people.keys_of(path, [mail]) == sorted([customer, mail, cookie])


def test_rows_are_read_under_the_person_of_the_moment(path):
    (customer,), (visitor,) = keys(path, "17850"), keys(path, "cookie", kind="anonymous_id")
    claim(path, (visitor, customer, 5))
    rows = pl.DataFrame({"user_key": [visitor, customer, visitor], "n": [1, 2, 3]})
    assert people.joined(rows, path, as_of=days(4)).rows() == [(visitor, 1), (customer, 2), (visitor, 3)]
    assert people.joined(rows, path, as_of=days(5)).rows() == [(customer, 1), (customer, 2), (customer, 3)]
    assert people.joined(rows, path).columns == rows.columns


def test_known_is_who_has_more_than_guest_orders(path):
    customer, guest, visitor = keys(path, "17850") + keys(path, "order:1", "cookie", kind="anonymous_id")
    assert dict(people.known_keys(path).rows()) == {customer: True, guest: False, visitor: True}
    assert people.known_keys(path)["user_key"].is_sorted()
    claim(path, (guest, customer, 5))
    assert dict(people.known_keys(path).rows()) == {customer: True, visitor: True}
    assert dict(people.known_keys(path, as_of=days(4)).rows())[guest] is False


def test_a_customer_number_that_reads_like_a_guest_order_is_known(path):
    (customer,) = keys(path, "order:1")
    assert people.known_keys(path).rows() == [(customer, True)]


# Two people claim one alias


def test_of_two_who_claim_a_cookie_the_first_keeps_it_and_the_conflict_is_told(path):
    ann, bob = keys(path, "ann", "bob")
    (cookie,) = keys(path, "shared", kind="anonymous_id")
    claim(path, (cookie, bob, 9))
    claim(path, (cookie, ann, 4))  # imported later, and earlier
    assert people.joins(path).rows() == [(cookie, ann)]
    (told,) = people.conflicts(path).to_dicts()
    assert (told["alias_kind"], told["user_key"], told["at"]) == ("anonymous_id", cookie, days(9))
    assert (told["holder"], told["claimant"]) == (ann, bob)
    assert people.conflicts(path, as_of=days(8)).is_empty()
    assert parts(path, [ann, bob, cookie]) == {frozenset({ann, cookie}), frozenset({bob})}


def test_undoing_the_claim_that_holds_gives_the_alias_to_the_other(path):
    ann, bob = keys(path, "ann", "bob")
    (cookie,) = keys(path, "shared", kind="anonymous_id")
    claim(path, (cookie, ann, 4), (cookie, bob, 9))
    people.undo(path, people.conflicts(path)["holds"][0], at=days(20))
    assert people.conflicts(path).is_empty()
    assert people.joins(path).rows() == [(cookie, bob)]
    assert people.joins(path, as_of=days(19)).rows() == [(cookie, ann)]


def test_undoing_the_claim_that_does_not_hold_settles_the_conflict(path):
    ann, bob = keys(path, "ann", "bob")
    (cookie,) = keys(path, "shared", kind="anonymous_id")
    claim(path, (cookie, ann, 4), (cookie, bob, 9))
    people.undo(path, people.conflicts(path)["number"][0], at=days(20))
    assert people.conflicts(path).is_empty() and people.joins(path).rows() == [(cookie, ann)]
    assert claim(path, (cookie, bob, 9)) == 0, "the same file again does not claim what an operator undid"
    assert people.conflicts(path).is_empty()


def test_claims_of_two_accounts_of_one_person_are_no_conflict(path):
    old, new = keys(path, "old", "new")
    (cookie,) = keys(path, "cookie", kind="anonymous_id")
    claim(path, (cookie, old, 1), (cookie, new, 2))
    assert people.conflicts(path).height == 1
    people.merge(path, old, into=new, at=days(3), source="operator")
    assert people.conflicts(path).is_empty()
    assert people.conflicts(path, as_of=days(2)).height == 1
    assert dict(people.joins(path).rows()) == {old: new, cookie: new}


# Two accounts merged, and taken apart again


def test_a_merge_holds_from_its_moment_and_its_undoing_from_its_own(path):
    old, new = keys(path, "old", "new")
    number = people.merge(path, old, into=new, at=days(3), source="operator")
    people.undo(path, number, at=days(8))
    assert [people.joins(path, as_of=days(n)).rows() for n in (2, 3, 7, 8)] == [[], [(old, new)], [(old, new)], []]
    assert people.joins(path).is_empty()


def test_a_merge_undone_from_its_own_moment_never_held(path):
    old, new = keys(path, "old", "new")
    people.undo(path, people.merge(path, old, into=new, at=days(3), source="operator"), at=days(1))
    assert all(people.joins(path, as_of=days(n)).is_empty() for n in range(6))


def test_merging_joins_whole_people(path):
    a, b, c, d = keys(path, "a", "b", "c", "d")
    people.merge(path, a, into=b, at=days(1), source="x")
    people.merge(path, c, into=d, at=days(1), source="x")
    middle = people.merge(path, a, into=c, at=days(2), source="x")
    assert parts(path, [a, b, c, d]) == {frozenset({a, b, c, d})}
    assert dict(people.joins(path).rows()) == {a: d, b: d, c: d}
    people.undo(path, middle, at=days(3))
    assert parts(path, [a, b, c, d]) == {frozenset({a, b}), frozenset({c, d})}


def test_what_cannot_be_merged_or_undone(path):
    old, new = keys(path, "old", "new")
    number = people.merge(path, old, into=new, at=days(1), source="x")
    with pytest.raises(UsageError, match=r"one person already.*nothing to merge.*identity history"):
        people.merge(path, new, into=old, at=days(2), source="x")
    with pytest.raises(UsageError, match="nobody has the key that was named.*Nothing was changed"):
        people.merge(path, old, into=(old + new) // 2, at=days(2), source="x")
    with pytest.raises(UsageError, match="there is no join 99.*habitue identity history"):
        people.undo(path, 99, at=days(2))
    people.undo(path, number, at=days(2))
    with pytest.raises(UsageError, match=f"join {number} was undone before"):
        people.undo(path, number, at=days(3))


def test_the_history_tells_every_join_or_those_of_a_person(path):
    a, b, c, d = keys(path, "a", "b", "c", "d")
    first = people.merge(path, a, into=b, at=days(1), source="desk")
    people.merge(path, c, into=d, at=days(2), source="desk")
    people.undo(path, first, at=days(3))
    told = people.history(path).to_dicts()
    assert [(t["user_key"], t["became"], t["made_by"], t["source"]) for t in told] == [
        (a, b, "operator", "desk"),
        (c, d, "operator", "desk"),
    ]
    assert [(t["joined_at"], t["undone_at"]) for t in told] == [(days(1), days(3)), (days(2), None)]
    assert people.history(path, [d])["user_key"].to_list() == [c]
    assert people.history(path, [a])["user_key"].to_list() == [a], "an undone join is still part of the history"


# Named by an operator


def test_somebody_is_found_by_key_by_alias_and_by_kind(path):
    (ann,), (mail,) = keys(path, "ann"), keys(path, "ann@b.example", kind="email")
    (guest,) = keys(path, "order:7", kind="anonymous_id")
    assert people.find(path, "ann") == people.find(path, "user_id:ann") == people.find(path, f"key:{ann}") == ann
    assert people.find(path, "ann@b.example") == people.find(path, "email:ann@b.example") == mail
    assert people.find(path, "order:7") == guest


def test_nobody_of_that_name_is_said_without_the_name(path):
    keys(path, "ann")
    for named in ("SECRET", "user_id:SECRET", "email:SECRET", "key:1"):
        with pytest.raises(UsageError, match="nobody has the (id|key) that was named") as error:
            people.find(path, named)
        assert "SECRET" not in str(error.value)


def test_an_id_that_two_people_have_under_different_kinds(path):
    (phone,), (mail,) = keys(path, "7", kind="phone"), keys(path, "7", kind="email")
    with pytest.raises(UsageError, match=r"several people have the id.*KIND:ID with one of email, phone"):
        people.find(path, "7")
    assert people.find(path, "phone:7") == phone
    claim(path, (phone, mail, 1))
    assert people.find(path, "7") in (phone, mail)


# Whatever is done, in whatever order

KEYS = 6
STEP = st.tuples(
    st.sampled_from(["claim", "merge", "undo"]), st.integers(0, KEYS - 1), st.integers(0, KEYS - 1), st.integers(0, 12)
)


def played(path, steps) -> list[int]:
    every = keys(path, *map(str, range(KEYS)))
    numbers = []
    for what, one, other, day in steps:
        try:
            if what == "claim":
                claim(path, (every[one], every[other], day))
            elif what == "merge":
                numbers.append(people.merge(path, every[one], into=every[other], at=days(day), source="x"))
            elif numbers:
                people.undo(path, numbers[one % len(numbers)], at=days(day))
        except UsageError as error:
            assert re.search("one person already|was undone before", str(error))
    return every


def connected(path, every: list[int], moment: dt.datetime) -> set[frozenset[int]]:
    """The people at a moment, worked out another way: flood over the joins as the history tells them."""
    rows = [
        r
        for r in people.history(path).to_dicts()
        if r["joined_at"] <= moment and (r["undone_at"] is None or r["undone_at"] > moment)
    ]
    first: dict[int, tuple] = {}
    for r in rows:
        if r["made_by"] == "data":
            first[r["user_key"]] = min(
                first.get(r["user_key"], (dt.datetime.max.replace(tzinfo=dt.UTC), 0)), (r["joined_at"], r["became"])
            )
    edges = [(r["user_key"], r["became"]) for r in rows if r["made_by"] == "operator"]
    edges += [(key, became) for key, (_, became) in first.items()]
    found = []
    for key in every:
        met = {key}
        while more := {b for a, b in edges if a in met} | {a for a, b in edges if b in met}:
            if more <= met:
                break
            met |= more
        found.append(frozenset(met))
    return set(found)


@QUICK
@given(st.lists(STEP, max_size=14))
def test_people_are_what_the_joins_of_the_moment_connect(tmp_path_factory, steps):
    path = tmp_path_factory.mktemp("p") / "identities.sqlite"
    every = played(path, steps)
    for day in (-1, 0, 1, 3, 6, 9, 12):
        assert parts(path, every, days(day)) == connected(path, every, days(day))


@QUICK
@given(st.lists(STEP, max_size=10), st.integers(0, KEYS - 1), st.integers(0, KEYS - 1))
def test_a_merge_and_its_undoing_leave_everybody_as_they_were(tmp_path_factory, steps, one, other):
    path = tmp_path_factory.mktemp("p") / "identities.sqlite"
    every = played(path, steps)
    moments = [None, *(days(n) for n in (-1, 0, 4, 4.9, 5, 5.1, 8, 13))]
    before = [people.joins(path, as_of=m).rows() for m in moments]
    try:
        number = people.merge(path, every[one], into=every[other], at=days(5), source="x")
    except UsageError:
        return
    assert people.joins(path, as_of=days(5)).rows() != before[moments.index(days(5))]
    people.undo(path, number, at=days(5))
    assert [people.joins(path, as_of=m).rows() for m in moments] == before


@QUICK
@given(st.lists(STEP, max_size=10), st.lists(STEP, max_size=6))
def test_what_is_read_as_of_a_moment_does_not_change_with_what_is_done_after_it(tmp_path_factory, steps, later):
    path = tmp_path_factory.mktemp("p") / "identities.sqlite"
    every = played(path, steps)
    seen = {n: parts(path, every, days(n)) for n in (0, 4, 8, 12)}
    played(path, [(what, one, other, day + 20) for what, one, other, day in later])
    assert {n: parts(path, every, days(n)) for n in seen} == seen


@QUICK
@given(
    st.lists(st.tuples(st.integers(0, 3), st.integers(4, 7), st.integers(0, 5)), min_size=1, max_size=10), st.randoms()
)
def test_claims_give_the_same_people_in_whatever_order_files_come(tmp_path_factory, claims, random):
    files = [claims[: len(claims) // 2], claims[len(claims) // 2 :]]
    mixed = random.sample(claims, len(claims))
    told = []
    for imports in (files, files[::-1], [mixed]):
        path = tmp_path_factory.mktemp("p") / "identities.sqlite"
        series = pl.Series([str(i) for i in range(8)])
        every = identities.keys_for(path, "user_id", series, linked_at=DAY, source="x", seed=1).to_list()
        for rows in imports:
            claim(path, *((every[a], every[b], day) for a, b, day in rows))
        people_then = [people.joins(path, as_of=days(n)).rows() for n in range(0, 6, 2)]
        told.append((people_then, sorted(people.conflicts(path).select("user_key", "holder", "claimant", "at").rows())))
    assert told[0] == told[1] == told[2]
