import dataclasses
import datetime as dt

import pytest

from habitue.collect import Mapping, bundled, read_mapping
from habitue.collect.mapping import Kind, Rule, User
from habitue.core.errors import SettingsError

LEDGER = Mapping(
    source="shop",
    time_zone="Europe/London",
    columns={"at": "When", "order_id": "Order", "item_id": "Code"},
    user=User("Customer"),
)


def test_the_bundled_mapping_says_what_the_ledger_means():
    mapping = read_mapping(bundled.ledger().mapping)
    assert (mapping.time_zone, mapping.currency, mapping.what) == ("Europe/London", "GBP", "events")
    assert mapping.user == User("CustomerID", "user_id", "order")
    assert mapping.kind.rules == (Rule("order_id", "C", "Order Refunded"),)
    assert set(mapping.wanted) == {
        *("InvoiceNo", "StockCode", "Description", "Quantity", "InvoiceDate", "UnitPrice", "CustomerID", "Country")
    }


def test_an_unknown_key_stops_with_a_suggestion(tmp_path):
    (tmp_path / "m.toml").write_text('source = "s"\ntimezone = "UTC"\n')
    with pytest.raises(SettingsError, match=r"^m\.toml: there is no setting 'timezone'.*Did you mean 'time_zone'"):
        read_mapping(tmp_path / "m.toml")


@pytest.mark.parametrize(("what", "moment"), [("events", "at"), ("media", "at"), ("items", "valid_from")])
def test_the_time_zone_is_required_where_a_column_is_a_time(tmp_path, what, moment):
    (tmp_path / "m.toml").write_text(f'source = "s"\nwhat = "{what}"\n[columns]\n{moment} = "t"\n')
    said = f"^mapping 's'.time_zone: 'time_zone' is missing, and '{moment}' is a time.*any place.*Europe/London"
    with pytest.raises(SettingsError, match=said):
        read_mapping(tmp_path / "m.toml")


def test_pictures_without_a_time_need_no_time_zone(tmp_path):
    columns = '[columns]\npath = "file"\nowner_id = "sku"\n[fixed]\nowner = "item"\n'
    (tmp_path / "m.toml").write_text(f'source = "s"\nwhat = "media"\n{columns}')
    mapping = read_mapping(tmp_path / "m.toml")
    assert mapping.time_zone is None and mapping.wanted == ("file", "sku")
    (tmp_path / "m.toml").write_text(f'source = "s"\nwhat = "media"\ntime_zone = "Mars"\n{columns}')
    with pytest.raises(SettingsError, match="'Mars' is no time zone"):
        read_mapping(tmp_path / "m.toml")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"time_zone": "Europe/Londn"}, r"time_zone: 'Europe/Londn' is no time zone.*off by hours.*'Europe/London'"),
        ({"time_zone": "london"}, r"time_zone: 'london' is no time zone.*Did you mean 'Europe/London'"),
        ({"time_zone": "nowhere at all"}, r"is no time zone.*Write a name such as Europe/London, or UTC"),
        ({"time_zone": "localtime"}, r"'localtime' is no time zone"),
        ({"what": "event"}, r"what: 'event' is unknown.*go nowhere.*Did you mean 'events'"),
        ({"columns": {"at": "t", "prise": "p"}}, r"no field 'prise' of events.*ignored in silence.*'price'"),
        ({"columns": {"order_id": "o"}}, r"no column is given for 'at'.*means nothing.*Add: at = "),
        ({"columns": {"at": "t"}, "user": None}, r"neither a user's column nor an order_id.*anybody's.*\[user\]"),
        ({"user": User("c", guest="drop")}, r"user.guest: 'drop' is unknown.*undecided.*\"refuse\""),
        (
            {"columns": {"at": "t", "kind": "k"}, "kind": Kind(rules=(Rule("kind", "C", "x"),))},
            r"rules and a column for the kind.*Two answers.*Keep the column or the rules",
        ),
        ({"kind": Kind(rules=(Rule("order", "C", "x"),))}, r"looks at 'order', which no text.*never fit.*'order_id'"),
        ({"kind": Kind(rules=(Rule("at", "C", "x"),))}, r"looks at 'at', which no text.*Known: item_id, order_id\."),
        ({"delimiter": ";;"}, r"delimiter: ';;' is no delimiter.*told apart.*Write one"),
        ({"delimiter": '"'}, r"is no delimiter"),
        ({"currency": "pounds"}, r"currency: 'pounds' is no currency code.*added up.*GBP"),
        ({"what": "items", "columns": {"title": "t"}}, r"no column is given for 'item_id'.*A row of items"),
        ({"what": "items", "columns": {"item_id": "t"}}, r"neither a moment nor a column.*from when.*valid_from = "),
    ],
)
def test_what_cannot_be_meant_is_refused(change, message):
    with pytest.raises(SettingsError, match=r"^mapping 'shop'.*" + message):
        dataclasses.replace(LEDGER, **change)


def test_a_catalogue_with_its_moment():
    mapping = Mapping(
        source="s",
        time_zone="UTC",
        what="items",
        columns={"item_id": "c"},
        valid_from=dt.datetime(2024, 1, 1, tzinfo=dt.UTC),
    )
    assert mapping.wanted == ("c",)


def test_a_column_asked_for_twice_is_read_once():
    assert dataclasses.replace(LEDGER, user_attributes={"code": "Code"}).wanted == ("When", "Order", "Code", "Customer")
