"""What is said of people, and by which ids they are known, from files into USERS and IDENTITIES."""

import datetime as dt
import json

import pytest

from habitue.collect import import_file
from habitue.collect.mapping import Mapping, User, read_mapping
from habitue.core import workspace
from habitue.core.errors import SettingsError
from habitue.core.schemas import EVENTS, REFUSED, USERS, check
from habitue.protect import identities, people

BASE = {"messageId": "m", "timestamp": "2024-05-01T10:00:00Z"}
MESSAGES = [
    {"type": "track", "event": "Product Viewed", "anonymousId": "c-1", "properties": {"product_id": "mug"}},
    {
        "type": "identify",
        "anonymousId": "c-1",
        "userId": "ann",
        "timestamp": "2024-05-01T11:00:00Z",
        "traits": {"city": "Lyon", "plan": {"name": "plus"}, "note": "write to ann@shop.example"},
    },
    {
        "type": "identify",
        "userId": "ann",
        "timestamp": "2024-06-01T11:00:00Z",
        "context": {"traits": {"city": "Paris"}},
    },
    {"type": "alias", "previousId": "c-9", "userId": "ann", "timestamp": "2024-06-02T11:00:00Z"},
    {"type": "identify", "userId": "bob", "timestamp": "2024-06-03T11:00:00Z", "traits": None},
    {"type": "identify", "userId": None, "traits": {"city": "Rome"}},
    {"type": "identify", "userId": "cleo", "timestamp": "soon", "traits": {"city": "Bern"}},
    {"type": "track", "event": "Product Viewed", "userId": "ann", "properties": {"product_id": "tray"}},
]
TRAITS = """
source = "web"
time_zone = "UTC"
what = "users"
reader = "identify"
columns = {valid_from = "at"}

[user]
column = "user_id"
anonymous = "anonymous_id"

[user_attributes]
city = "traits.city"
plan = "traits.plan.name"
note = "traits.note"
"""


@pytest.fixture
def shop(tmp_path):
    return workspace.init(tmp_path / "shop", buckets=2)


@pytest.fixture
def messages(tmp_path):
    path = tmp_path / "segment.jsonl"
    lines = [json.dumps(BASE | {"messageId": f"m{n}"} | message) for n, message in enumerate(MESSAGES)]
    path.write_text("\n".join(lines))
    (tmp_path / "traits.toml").write_text(TRAITS)
    return path


def key(shop, alias: str, kind: str = "user_id") -> int:
    found = identities.lookup(shop.identities, kind, alias)
    assert found is not None
    return found


def day(month: int, day: int) -> dt.datetime:
    return dt.datetime(2024, month, day, 11, tzinfo=dt.UTC)


def test_identify_messages_become_traits_as_of_their_moment_and_join_the_visitor(shop, messages, tmp_path):
    done = import_file(shop, messages, tmp_path / "traits.toml")
    assert (done.read, done.new, done.known, done.refused) == (6, 4, 0, 2)  # the two track messages are passed by
    stored = shop.lake.read(USERS)
    check(stored, USERS, at="test")
    ann = stored.filter(user_key=key(shop, "ann")).sort("valid_from")
    assert ann["valid_from"].to_list() == [day(5, 1), day(6, 1), day(6, 2)]
    assert [json.loads(told) for told in ann["attributes"]] == [
        {"city": "Lyon", "plan": "plus", "note": "write to [email]"},
        {"city": "Paris"},
        {},
    ]
    assert stored.filter(user_key=key(shop, "bob"))["attributes"].to_list() == ["{}"]
    assert sorted(shop.lake.read(REFUSED)["code"]) == ["bad_time", "missing_user"]
    assert "Rome" not in str(shop.lake.read(REFUSED)["raw"].to_list())
    again = import_file(shop, messages, tmp_path / "traits.toml")
    assert (again.new, again.known) == (0, 4) and shop.lake.read(USERS).equals(stored)


def test_what_a_visitor_did_before_is_the_customers_from_that_moment_on(shop, messages, tmp_path):
    (tmp_path / "events.toml").write_text(
        'source = "web"\ntime_zone = "UTC"\n[user]\ncolumn = "user_id"\nanonymous = "anonymous_id"\n'
        '[columns]\nevent_id = "event_id"\nat = "at"\nkind = "kind"\nitem_id = "item_id"\n'
    )
    done = import_file(shop, messages, tmp_path / "events.toml")
    assert (done.new, done.refused) == (2, 6)  # the six who tell who somebody is
    assert 'reader = "identify"' in " ".join(shop.lake.read(REFUSED)["sentence"])
    import_file(shop, messages, tmp_path / "traits.toml")
    ann, visitor = key(shop, "ann"), key(shop, "c-1", "anonymous_id")
    assert ann != visitor
    events = shop.lake.read(EVENTS)
    before = people.joined(events, shop.identities, as_of=dt.datetime(2024, 5, 1, 10, 30, tzinfo=dt.UTC))
    assert set(before["user_key"]) == {ann, visitor}
    assert set(people.joined(events, shop.identities)["user_key"]) == {ann}


def test_a_list_of_customers_with_one_moment_for_all(shop, tmp_path):
    (tmp_path / "people.csv").write_text("who,town,since\nann,Lyon,2019\nbob,,\nann,Nice,2020\n,Rome,2021\n")
    mapping = Mapping(
        "crm",
        "UTC",
        what="users",
        valid_from=day(1, 1),
        user=User("who"),
        user_attributes={"city": "town", "since": "since"},
    )
    done = import_file(shop, tmp_path / "people.csv", mapping)
    assert (done.read, done.new, done.known, done.refused) == (4, 2, 1, 1)  # of one moment the first row counts
    told = {row["user_key"]: json.loads(row["attributes"]) for row in shop.lake.read(USERS).to_dicts()}
    assert told == {key(shop, "ann"): {"city": "Lyon", "since": "2019"}, key(shop, "bob"): {}}
    assert (done.first, done.last) == (day(1, 1), day(1, 1))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"user_attributes": {}}, r"user_attributes: no column is given.*said of anybody.*user_attributes"),
        ({"valid_from": None}, r"valid_from: neither a moment.*from when on the users.*Add: valid_from"),
        ({"user": None}, r"user: no user's column.*is about a person"),
        ({"extra": {"a": "b"}}, r"extra: users have no place.*lost in silence"),
        ({"what": "signals"}, r"signals"),
    ],
)
def test_a_mapping_of_people_that_cannot_be_meant(change, message):
    settings = {"user": User("who"), "user_attributes": {"city": "town"}, "valid_from": day(1, 1), "what": "users"}
    with pytest.raises(SettingsError, match=message):
        Mapping("crm", "UTC", **settings | change)


def test_what_is_said_of_a_person_has_a_place_in_events_and_users_only():
    columns = {"at": "t", "signal": "s", "value": "v"}
    with pytest.raises(SettingsError, match=r"signals have no place for what is said.*in silence.*what = \"users\""):
        Mapping("s", "UTC", what="signals", columns=columns, user=User("w"), user_attributes={"city": "c"})


def test_an_address_among_the_attributes_of_a_ledger_is_masked(shop, tmp_path):
    (tmp_path / "a.csv").write_text("t,o,w,mail,city\n2024-01-01,1,ann,ann@shop.example,Lyon\n")
    mapping = Mapping(
        "s",
        "UTC",
        columns={"at": "t", "order_id": "o"},
        user=User("w"),
        user_attributes={"mail": "mail", "city": "city"},
    )
    import_file(shop, tmp_path / "a.csv", mapping)
    assert json.loads(shop.lake.read(USERS)["attributes"][0]) == {"mail": "[email]", "city": "Lyon"}


def test_the_mapping_reads_as_toml(messages, tmp_path):
    mapping = read_mapping(tmp_path / "traits.toml")
    assert (mapping.what, mapping.form.reader) == ("users", "identify")
    assert set(mapping.wanted) == {
        *("at", "user_id", "anonymous_id", "traits.city", "traits.plan.name", "traits.note"),
    }
