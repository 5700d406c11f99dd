"""Consent rows and logins on their way in: from a file through its mapping to what is read as of a moment."""

import datetime as dt
import json

import pytest

from habitue.collect import import_file
from habitue.collect.mapping import Kind, Mapping, User
from habitue.collect.staging import PREFIX
from habitue.core import workspace
from habitue.core.errors import SettingsError
from habitue.core.schemas import CONSENT, EVENTS, REFUSED, check
from habitue.protect import consent, erase, identities, people
from habitue.protect.consent import Config

CONSENTS = """\
when,who,what,answer
2024-01-01,ann,marketing,yes
2024-02-01,ann,marketing,Withdrawn
2024-01-01,bob,marketing,1
2024-01-01,bob,personalisation,NO
2024-03-01,,marketing,yes
2024-03-01,cleo,,yes
2024-03-01,cleo,marketing,perhaps
2024-03-01,cleo,marketing,
"""
VISITS = """\
when,cookie,customer,page
2024-01-01 10:00:00,c-1,,mug
2024-01-05 10:00:00,c-1,ann,mug
2024-01-06 10:00:00,,ann,mug
2024-01-09 10:00:00,c-2,,tray
2024-01-11 10:00:00,c-1,bob,tray
"""


@pytest.fixture
def shop(tmp_path):
    return workspace.init(tmp_path / "shop", buckets=2)


def consents() -> Mapping:
    columns = {"at": "when", "purpose": "what", "granted": "answer"}
    return Mapping("forms", "UTC", columns=columns, what="consent", user=User("who"))


def visits() -> Mapping:
    return Mapping(
        "web",
        "UTC",
        columns={"at": "when", "item_id": "page"},
        user=User("customer", anonymous="cookie", guest="refuse"),
        kind=Kind(default="Product Viewed"),
    )


def brought(shop, text: str, mapping: Mapping, name: str = "file.csv"):
    path = shop.root.parent / name
    path.write_text(text)
    return import_file(shop, path, mapping)


def key(shop, alias: str, kind: str = "user_id") -> int:
    found = identities.lookup(shop.identities, kind, alias)
    assert found is not None
    return found


def test_consent_rows_come_in_and_what_cannot_be_meant_is_refused_with_the_reason(shop):
    done = brought(shop, CONSENTS, consents())
    assert (done.read, done.new, done.known, done.refused) == (8, 4, 0, 4)
    stored = shop.lake.read(CONSENT)
    check(stored, CONSENT, at="test")
    said = {(key(shop, "ann"), "marketing", True), (key(shop, "ann"), "marketing", False)}
    said |= {(key(shop, "bob"), "marketing", True), (key(shop, "bob"), "personalisation", False)}
    assert set(stored.select("user_key", "purpose", "granted").rows()) == said
    codes = shop.lake.read(REFUSED)
    assert sorted(codes["code"]) == ["bad_granted", "bad_granted", "missing_purpose", "missing_user"]
    assert "does not say yes or no" in " ".join(codes["sentence"]) and "cleo" not in " ".join(codes["raw"])


def test_the_last_word_counts_as_of_its_moment(shop):
    brought(shop, CONSENTS, consents())
    stored, keys = shop.lake.read(CONSENT), shop.lake.read(CONSENT)["user_key"]
    held = consent.withheld(keys, stored, purpose="marketing", silence=Config())
    assert held.to_list() == [key(shop, "ann")]
    assert consent.withheld(keys, stored, purpose="personalisation", silence=Config()).to_list() == [key(shop, "bob")]


def test_the_same_file_again_adds_nothing_and_a_withdrawal_of_the_same_moment_is_new(shop):
    brought(shop, CONSENTS, consents())
    again = brought(shop, CONSENTS, consents())
    assert (again.new, again.known) == (0, 4)
    same_moment = brought(shop, "when,who,what,answer\n2024-01-01,bob,marketing,no\n", consents(), "more.csv")
    assert same_moment.new == 1
    keys = shop.lake.read(CONSENT)["user_key"]
    held = consent.withheld(keys, shop.lake.read(CONSENT), purpose="marketing", silence=Config())
    assert key(shop, "bob") in held


def test_a_list_of_one_purpose_names_it_in_the_mapping(shop):
    text = "when,who,answer\n2024-01-01,ann,yes\n"
    mapping = Mapping(
        "list",
        "UTC",
        columns={"at": "when", "granted": "answer"},
        fixed={"purpose": "marketing"},
        what="consent",
        user=User("who"),
    )
    brought(shop, text, mapping)
    assert shop.lake.read(CONSENT).select("purpose", "granted").rows() == [("marketing", True)]


def test_a_consent_without_a_person_means_nothing():
    with pytest.raises(SettingsError, match="no user's column is given"):
        Mapping("x", "UTC", columns={"at": "a", "purpose": "p", "granted": "g"}, what="consent")
    with pytest.raises(SettingsError, match="no column is given for 'granted'"):
        Mapping("x", "UTC", columns={"at": "a", "purpose": "p"}, what="consent", user=consents().user)


def test_a_row_that_names_visitor_and_customer_joins_them_from_then_on(shop):
    brought(shop, VISITS, visits())
    ann, bob, c1 = key(shop, "ann"), key(shop, "bob"), key(shop, "c-1", "anonymous_id")
    stored = shop.lake.read(EVENTS)
    assert stored["user_key"].to_list() == [c1, ann, ann, key(shop, "c-2", "anonymous_id"), bob]
    login = dt.datetime(2024, 1, 5, 10, tzinfo=dt.UTC)
    assert people.joins(shop.identities, as_of=login).rows() == [(c1, ann)]
    assert people.joins(shop.identities, as_of=login - dt.timedelta(seconds=1)).is_empty()
    assert people.joined(stored, shop.identities)["user_key"].to_list()[:3] == [ann] * 3
    (told,) = people.conflicts(shop.identities).to_dicts()
    assert (told["user_key"], told["holder"], told["claimant"]) == (c1, ann, bob)


def test_an_earlier_login_in_a_later_file_counts(shop):
    brought(shop, VISITS, visits())
    brought(shop, "when,cookie,customer,page\n2023-12-24 10:00:00,c-2,cleo,mug\n", visits(), "older.csv")
    brought(shop, VISITS, visits(), "again.csv")
    c2, cleo = key(shop, "c-2", "anonymous_id"), key(shop, "cleo")
    assert (c2, cleo) in people.joins(shop.identities, as_of=dt.datetime(2023, 12, 31, tzinfo=dt.UTC)).rows()
    assert people.history(shop.identities).height == 3, "the same rows again claim nothing new"


def test_what_an_interrupted_import_left_goes_with_an_erasure(shop):
    brought(shop, VISITS, visits())
    left = shop.root / "state" / f"{PREFIX}abc"
    left.mkdir()
    (left / "rows-00000001.parquet").write_bytes(b"ann")
    (left / "tally.json").write_text(json.dumps({}))
    assert erase.IMPORTS == f"{PREFIX}*"
    receipt = erase.erase(shop, [key(shop, "ann")])
    assert not left.exists() and receipt["complete"]
    assert identities.lookup(shop.identities, "anonymous_id", "c-1") is None, "her cookie goes with her"
