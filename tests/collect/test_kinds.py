"""Every kind of content from a file into its table."""

import datetime as dt
import json
import os

import polars as pl
import pytest

from habitue import collect
from habitue.collect.mapping import WHAT, Mapping, User
from habitue.core.errors import InputError, SettingsError
from habitue.core.schemas import EVENTS, EXAMPLES, EXPOSURES, ITEMS, MEDIA, OUTSIDE, REFUSED, SIGNALS, check
from habitue.core.workspace import init
from habitue.protect import identities


@pytest.fixture
def shop(tmp_path):
    return init(tmp_path / "shop", currency="EUR")


def refused(shop) -> list[tuple[int, str]]:
    return shop.lake.read(REFUSED).select("row", "code").sort("row").rows()


def twice(shop, file, mapping):
    """Import a file two times: the second adds nothing."""
    first = collect.import_file(shop, file, mapping)
    again = collect.import_file(shop, file, mapping)
    assert (again.new, again.known, again.refused) == (0, first.new + first.known, first.refused)
    table = WHAT[mapping.what].table
    check(shop.lake.read(table), table, at="test")
    assert shop.lake.read(table).height == first.new
    return first


def test_exposures(shop, tmp_path):
    (tmp_path / "a.csv").write_text(
        "shown,who,variant,p,click\n2024-01-01 10:00,u1,B,0.5,1\n2024-01-01 10:00,,A,0.25,0\n"
        "2024-01-01,u1,B,1.5,1\n2024-01-01,u1,,0.5,1\n2024-01-01 10:00,u1,B,0.5,1\n"
    )
    mapping = Mapping(
        source="mail",
        time_zone="UTC",
        what="exposures",
        columns={"at": "shown", "arm": "variant", "propensity": "p", "outcome": "click"},
        fixed={"what": "spring"},
        user=User("who"),
    )
    done = twice(shop, tmp_path / "a.csv", mapping)
    assert (done.read, done.new, done.refused) == (5, 3, 2)
    rows = shop.lake.read(EXPOSURES)
    key = identities.lookup(shop.identities, "user_id", "u1")
    assert rows.select("user_key", "what", "arm", "propensity", "outcome").sort("arm").rows() == [
        (None, "spring", "A", 0.25, 0.0),
        (key, "spring", "B", 0.5, 1.0),
        (key, "spring", "B", 0.5, 1.0),  # an exact repeat is a second exposure
    ]
    assert refused(shop) == [(3, "bad_share"), (4, "missing_arm")]


def test_outside(shop, tmp_path):
    records = [
        {"day": "2024-02-01", "sku": "A", "price": "€ 12,50", "where": "rival"},
        {"day": "2024-02-01", "sku": "A", "price": "12,5 USD", "where": "call 13812345678"},
        {"day": "soon", "sku": "A", "price": "1"},
    ]
    (tmp_path / "a.json").write_text(json.dumps(records))
    mapping = Mapping(
        source="prices",
        time_zone="Europe/Paris",
        what="outside",
        decimal=",",
        columns={"at": "day", "item_id": "sku", "price": "price", "currency": "price"},
        fixed={"kind": "competitor price"},
        extra={"shop": "where"},
    )
    assert twice(shop, tmp_path / "a.json", mapping).new == 2
    rows = shop.lake.read(OUTSIDE).sort("currency")
    assert rows.select("price", "currency", "extra").rows() == [
        (12.5, "EUR", '{"shop": "rival"}'),
        (12.5, "USD", '{"shop": "call [phone]"}'),
    ]
    assert rows["at"].unique().to_list() == [dt.datetime(2024, 1, 31, 23, tzinfo=dt.UTC)]
    assert refused(shop) == [(3, "bad_time")] and not shop.identities.exists()


def test_signals(shop, tmp_path):
    (tmp_path / "a.csv").write_text(
        "t,who,s,v\n1714557600,u1,heart_rate,61\n1714557601,u1,heart_rate,\n1714557600,,s,1\n"
    )
    mapping = Mapping(
        source="watch",
        time_zone="UTC",
        what="signals",
        time_format="seconds",
        columns={"at": "t", "signal": "s", "value": "v"},
        fixed={"unit": "1/min"},
        user=User("who"),
    )
    assert twice(shop, tmp_path / "a.csv", mapping).new == 1
    (row,) = shop.lake.read(SIGNALS).to_dicts()
    assert (row["signal"], row["value"], row["unit"]) == ("heart_rate", 61.0, "1/min")
    assert row["at"] == dt.datetime(2024, 5, 1, 10, tzinfo=dt.UTC)
    assert refused(shop) == [(2, "missing_value"), (3, "missing_user")]


def test_a_folder_of_pictures(shop, tmp_path):
    folder = tmp_path / "pictures"
    folder.mkdir()
    (folder / "SKU1-1.jpg").write_bytes(b"\xff\xd8\xff one")
    (folder / "SKU1-2.jpg").write_bytes(b"\xff\xd8\xff two")
    (folder / "tool.exe").write_bytes(b"MZ\x00")
    os.symlink("/etc/hostname", folder / "out.txt")
    mapping = Mapping(
        source="photos",
        time_zone="UTC",
        what="media",
        columns={"path": "path", "owner_id": "owner"},
        fixed={"owner": "item"},
    )
    done = twice(shop, folder, mapping)
    assert (done.new, done.refused) == (2, 2)
    rows = shop.lake.read(MEDIA)
    assert set(rows.select("owner", "owner_id", "modality").rows()) == {("item", "SKU1", "image")}
    assert sorted(rows["path"]) == [str(folder / "SKU1-1.jpg"), str(folder / "SKU1-2.jpg")]
    assert {code for _, code in refused(shop)} == {"no_medium", "path_outside"}
    (folder / "SKU1-2.jpg").write_bytes(b"\xff\xd8\xff three")  # another picture under the old name
    assert collect.import_file(shop, folder, mapping).new == 1


def test_a_manifest_of_recordings(shop, tmp_path):
    (tmp_path / "calls").mkdir()
    (tmp_path / "calls" / "1.wav").write_bytes(b"RIFF\x00\x00\x00\x00WAVEfmt ")
    (tmp_path / "a.csv").write_text(
        "file,of,who,from\ncalls/1.wav,user,u1,0\ncalls/1.wav,user,u1,30.5\n../secret,user,u1,\ncalls/1.wav,user,,\n"
        "calls/2.wav,user,u1,\ncalls/1.wav,cat,u1,\n"
    )
    mapping = Mapping(
        source="calls",
        time_zone="UTC",
        what="media",
        columns={"path": "file", "owner": "of", "start_s": "from"},
        user=User("who"),
    )
    assert twice(shop, tmp_path / "a.csv", mapping).new == 2
    rows = shop.lake.read(MEDIA).sort("start_s")
    assert rows.select("owner", "modality", "start_s").rows() == [("user", "audio", 0.0), ("user", "audio", 30.5)]
    assert rows["user_key"].unique().to_list() == [identities.lookup(shop.identities, "user_id", "u1")]
    assert refused(shop) == [(3, "path_outside"), (4, "missing_owner"), (5, "no_such_file"), (6, "bad_owner")]


def test_examples_and_labels(shop, tmp_path):
    (tmp_path / "a.csv").write_text(
        "words,intent,ticket\nwhere is it? me@x.example,delivery,T1\n,,T2\n,,\nwhere?,delivery,T3\n"
    )
    mapping = Mapping(
        source="intents",
        time_zone="UTC",
        what="examples",
        columns={"text": "words", "label": "intent"},
        extra={"ticket": "ticket"},
    )
    assert twice(shop, tmp_path / "a.csv", mapping).new == 3
    rows = shop.lake.read(EXAMPLES).sort("columns")
    assert rows.select("text", "label", "columns").rows()[0] == ("where is it? [email]", "delivery", '{"ticket": "T1"}')
    assert not shop.identities.exists()


def test_ratings_without_a_header(shop, tmp_path):
    (tmp_path / "u.data").write_text("1\t242\t3\t881250949\n2\t302\t5\t891717742\n")
    mapping = Mapping(
        source="films",
        time_zone="UTC",
        time_format="seconds",
        header=False,
        columns={"at": "4", "item_id": "2", "rating": "3"},
        user=User("1"),
        kind=collect.mapping.Kind(default="Product Reviewed"),
    )
    assert twice(shop, tmp_path / "u.data", mapping).new == 2
    assert shop.lake.read(EVENTS).select("item_id", "rating").sort("rating").rows() == [("242", 3.0), ("302", 5.0)]
    (tmp_path / "r.dat").write_text("1::242::3::881250949\n")
    assert collect.import_file(shop, tmp_path / "r.dat", mapping).known == 1


def test_ordered_lists(shop, tmp_path):
    (tmp_path / "a.txt").write_text("u1 i5 i9 i5\nu2 i1 i2\n")
    (tmp_path / "a.toml").write_text(collect.guess(tmp_path / "a.txt"))
    assert collect.import_file(shop, tmp_path / "a.txt").new == 5
    key = identities.lookup(shop.identities, "user_id", "u1")
    events = shop.lake.read(EVENTS).filter(pl.col("user_key") == key).sort("at")
    assert events.select("item_id", "position").rows() == [("i5", 1), ("i9", 2), ("i5", 3)]


def test_visitors_keep_their_own_kind_of_id(shop, tmp_path):
    lines = [
        {
            "messageId": "m1",
            "type": "track",
            "event": "Product Viewed",
            "anonymousId": "x",
            "timestamp": "2024-01-01T00:00:00Z",
        },
        {
            "messageId": "m2",
            "type": "track",
            "event": "Product Viewed",
            "userId": "x",
            "timestamp": "2024-01-01T00:00:00Z",
        },
        {
            "messageId": "m1",
            "type": "track",
            "event": "Product Viewed",
            "anonymousId": "x",
            "timestamp": "2024-01-01T00:00:00Z",
        },
    ]
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, lines)))
    (tmp_path / "a.toml").write_text(collect.guess(tmp_path / "a.jsonl"))
    done = collect.import_file(shop, tmp_path / "a.jsonl")
    assert (done.new, done.known) == (2, 1)  # one message that came twice is one event
    aliases = identities.aliases(shop.identities).select("alias_kind", "alias").rows()
    assert aliases == [("anonymous_id", "x"), ("user_id", "x")]
    assert shop.lake.read(EVENTS)["user_key"].n_unique() == 2


def test_names_of_kinds_are_mapped(shop, tmp_path):
    (tmp_path / "a.csv").write_text(
        "t,u,e,q\n2024-01-01,u1,buy,1\n2024-01-01,u1,refund,2\n2024-01-01,u1,odd,1\n2024-01-01,u1,,1\n"
    )
    mapping = Mapping(
        source="s",
        time_zone="UTC",
        columns={"at": "t", "kind": "e", "quantity": "q"},
        user=User("u"),
        kind=collect.mapping.Kind(names={"buy": "Order Completed", "refund": "Order Refunded"}),
    )
    collect.import_file(shop, tmp_path / "a.csv", mapping)
    kinds = shop.lake.read(EVENTS).select("kind", "quantity").sort("kind").rows()
    assert kinds == [("Order Completed", 1.0), ("Order Completed", 1.0), ("Order Refunded", -2.0), ("odd", 1.0)]


def test_a_strange_currency_is_refused_alone(shop, tmp_path):
    (tmp_path / "a.csv").write_text("t,o,p,c\n2024-01-01,1,5,usd\n2024-01-01,2,5,XQZ\n2024-01-01,3,5,\n")
    mapping = Mapping(
        source="s", time_zone="UTC", columns={"at": "t", "order_id": "o", "price": "p", "currency": "c"}, currency="GBP"
    )
    collect.import_file(shop, tmp_path / "a.csv", mapping)
    assert sorted(shop.lake.read(EVENTS)["currency"]) == ["GBP", "USD"]
    assert refused(shop) == [(2, "bad_currency")]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"what": "signals"}, "no user's column is given"),
        ({"what": "item"}, "'item' is unknown.*Did you mean 'items'"),
        ({"what": "outside", "columns": {"at": "t"}}, "no column is given for 'kind'"),
        ({"what": "outside", "fixed": {"kind": "x"}, "user": User("u")}, "outside are about no person"),
        ({"what": "exposures", "columns": {"at": "t", "arm": "a"}, "fixed": {"arm": "b", "what": "c"}}, "Two answers"),
        ({"what": "signals", "fixed": {"value": "3"}}, "only words can be fixed"),
        ({"what": "examples", "columns": {"label": "l"}}, "neither a text nor extra columns"),
        ({"what": "media", "columns": {"path": "p"}, "fixed": {"owner": "cat"}}, "'cat' is unknown.*item"),
        ({"what": "media", "columns": {"path": "p"}, "fixed": {"owner": "item"}}, "neither an owner_id nor a user's"),
        ({"extra": {"a": "b"}, "what": "exposures", "fixed": {"what": "w", "arm": "a"}}, "no place for extra columns"),
        ({"decimal": ";"}, "';' is no decimal mark"),
        ({"encoding": "klingon"}, "'klingon' is no encoding"),
        ({"encoding": "base64"}, "'base64' is no encoding"),
        ({"kind": collect.mapping.Kind(names={"a": "b"})}, "no column is given for the kind"),
    ],
)
def test_what_a_mapping_cannot_mean(changes, words):
    standard = {"source": "s", "time_zone": "UTC", "columns": {"at": "t"}, "user": None}
    if "what" not in changes:
        standard["columns"] = {"at": "t", "order_id": "o"}
    if changes.get("what") == "signals":
        standard["columns"] = {"at": "t", "signal": "s"}
        changes = {"fixed": {"value": "3"} if "fixed" in changes else {"unit": "x"}, **changes}
        standard["columns"] |= {} if "value" in changes["fixed"] else {"value": "v"}
    with pytest.raises(SettingsError, match=words):
        Mapping(**(standard | changes))


def test_a_catalogue_keeps_what_else_is_known(shop, tmp_path):
    (tmp_path / "a.csv").write_text("id,name,colour\nA,Mug,red\n")
    mapping = Mapping(
        source="c",
        time_zone="UTC",
        what="items",
        columns={"item_id": "id", "title": "name"},
        extra={"colour": "colour"},
        valid_from=dt.datetime(2024, 1, 1, tzinfo=dt.UTC),
    )
    assert twice(shop, tmp_path / "a.csv", mapping).new == 1
    assert shop.lake.read(ITEMS)["attributes"].to_list() == ['{"colour": "red"}']


def test_a_mapping_with_no_row_that_fits_is_one_sentence(shop, tmp_path):
    (tmp_path / "a.jsonl").write_text('{"x": 1}\n{"x": 2}\n')
    mapping = Mapping(source="s", time_zone="UTC", columns={"at": "t", "order_id": "o"})
    with pytest.raises(InputError, match="a.jsonl: there is a header and no row|every one of its 2 rows"):
        collect.import_file(shop, tmp_path / "a.jsonl", mapping)
