"""One row at a time, and column by column: the two ways to read a tracker's rows agree."""

import asyncio
import datetime as dt
import json
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from habitue.collect import Mapping, import_file, lines
from habitue.collect.mapping import WHAT, User
from habitue.collect.receiver import Receiver
from habitue.collect.sources.trackers import ROW
from habitue.collect.wires import segment
from habitue.core import workspace
from habitue.core.schemas import EVENTS, REFUSED

NOW = dt.datetime(2026, 5, 1, 12, tzinfo=dt.UTC)
BASE = {"type": "track", "userId": "u1", "timestamp": "2026-05-01T10:00:00Z"}
VALUES = [
    *(
        0,
        1,
        -1,
        2.5,
        -0.0,
        1e14,
        1e15,
        10**40,
        True,
        "",
        "  ",
        "7",
        "-3",
        "+4",
        "1,234.50",
        "1'234",
        "(5)",
        "5-",
        "12 €",
    ),
    *("EUR 3", "0x10", "1e3", "nan", "inf", "１２", "twelve", "1.2.3", None, [1], {"a": 1}, "9" * 400),
]
MOMENTS = [
    *("2026-05-01T10:00:00Z", "2026-05-01T10:00:00.123456+02:00", "2026-05-01 10:00", "2026-05-01", "2026-05-01T10:00"),
    *("2026-05-01T10:00:00.1Z", "2026-05-01T10:00:00 UTC", "2026-13-01T10:00:00Z", "yesterday", "1777629600"),
    *("2026-05-01T10:00:00-0430", " 2026-05-01T10:00:00Z ", "2026-02-29T00:00:00Z", 1777629600, None, ""),
]


def by_file(tmp_path, messages):
    file = tmp_path / "export.jsonl"
    file.write_text("\n".join(json.dumps(message) for message in messages), encoding="utf-8")
    columns = {name: name for name in WHAT["events"].fields if name in ROW}
    who = User("user_id", anonymous="anonymous_id")
    shop = workspace.init(tmp_path / "file")
    import_file(shop, file, Mapping("segment", "UTC", columns, user=who, user_attributes={"country": "country"}))
    return shop.lake


def by_wire(tmp_path, messages):
    shop = workspace.init(tmp_path / "wire")

    async def run():
        receiver = Receiver(shop)
        await receiver.start()
        await receiver.take(segment.batch({"batch": messages}, received=NOW), "segment", NOW)
        await receiver.stop()

    asyncio.run(run())
    return shop.lake


def rows(lake):
    apart = ("user_key", "import_id", "received_at", "extra")
    return lake.read(EVENTS).drop(apart).sort("event_id", "line").to_dicts()


def test_a_wire_and_a_file_export_of_one_tracker_give_the_same_rows_and_refuse_the_same(tmp_path):
    messages = []
    for name in ("price", "quantity", "revenue", "rating", "position", "currency", "dwell_s"):
        for value in VALUES:
            properties = {"product_id": "A", "name": "Mug", name: value}
            messages.append(BASE | {"event": "Product Viewed", "properties": properties})
    for when in MOMENTS:
        messages.append(BASE | {"event": "Product Viewed", "timestamp": when, "originalTimestamp": when})
    listed = [{"product_id": "A", "price": "2", "quantity": 3}, {"sku": 7, "price": 1.5}, 4]
    for kind in ("Order Completed", "Order Refunded"):
        messages.append(BASE | {"event": kind, "properties": {"order_id": 5, "revenue": 8, "products": listed}})
    messages.append(BASE | {"event": "Products Searched", "properties": {"query": "call +49 171 2345678, mug"}})
    messages.append(BASE | {"event": "Product Reviewed", "properties": {"review_body": "write me@x.de", "rating": "5"}})
    messages.append(BASE | {"event": "Viewed Product", "userId": None, "anonymousId": "a1"})
    messages.append(BASE | {"event": "Order Completed", "userId": "", "properties": {"order_id": "guest"}})
    messages.append(BASE | {"event": "Product Viewed", "userId": None})
    messages = [json.loads(json.dumps(m)) | {"messageId": f"m{n:03d}"} for n, m in enumerate(messages)]
    (tmp_path / "copy.json").write_text(json.dumps(messages))
    file = by_file(tmp_path, messages)
    wire = by_wire(tmp_path, json.loads((tmp_path / "copy.json").read_text()))
    told = {m["messageId"] for m in messages if m["timestamp"] in (None, "")}  # a server knows when it received them
    assert [r for r in rows(wire) if r["event_id"] not in told] == rows(file)
    why = refused(file)
    assert why.pop("missing_time") == len(told)
    assert refused(wire) == why
    assert {"bad_price", "bad_time", "bad_currency", "missing_user_and_order"} <= set(why)


def refused(lake):
    return Counter(lake.read(REFUSED)["code"])


@settings(max_examples=300, deadline=None)
@given(st.text(alphabet="0123456789.,+-eE ()'€$", max_size=12))
def test_a_number_in_text_is_read_as_a_column_reads_it(text):
    import polars as pl

    from habitue.collect import values

    found, _ = values.numbers(pl.Series([text]))
    assert lines.measure(text) == found[0]


@settings(max_examples=300, deadline=None)
@given(st.one_of(st.text(alphabet="0123456789T:-+.Z ", max_size=32), st.datetimes(timezones=st.timezones()).map(str)))
def test_a_moment_in_text_is_read_as_a_column_reads_it(text):
    import polars as pl

    from habitue.collect import values

    assert lines.moment(text) == values.moments(pl.Series([text]), zone="UTC", time_format=None)[0]


@pytest.mark.parametrize(
    ("more", "code"),
    [
        ({"event_id": None}, "missing_event_id"),
        ({"event_id": "x" * 101}, "too_long"),
        ({"event_id": "x" * 1_000_000}, "too_long"),
        ({"user_id": "x" * 257}, "too_long"),
        ({"item_id": "x" * 257}, "too_long"),
        ({"title": "x" * 8_193}, "too_long"),
        ({"item_id": 10**5_000}, "too_long"),
        ({"extra": {str(n): "x" * 200 for n in range(100)}}, "too_long"),
        ({"at": None}, "missing_time"),
        ({"at": "soon"}, "bad_time"),
        ({"at": "0001-01-01T00:00:00Z"}, "far_time"),
        ({"at": "9999-12-31T23:59:59Z"}, "far_time"),
        ({"at": "9999-12-31T23:59:59-10:00"}, "bad_time"),
        ({"at": "2026-05-02T12:00:01Z"}, "far_time"),
        ({"kind": None}, "missing_kind"),
        ({"kind": "  "}, "missing_kind"),
        ({"user_id": None}, "missing_user_and_order"),
        ({"price": 1e14}, "bad_price"),
        ({"price": 1e13, "quantity": 1e3}, "bad_value"),
        ({"position": 1.5}, "bad_position"),
        ({"position": 2**31}, "bad_position"),
        ({"currency": "XYZ"}, "bad_currency"),
    ],
)
def test_why_a_row_is_refused(more, code):
    from habitue.collect import refusals

    row = {"event_id": "e", "at": "2026-05-01T10:00:00Z", "kind": "Product Viewed", "user_id": "u"}
    assert not isinstance(lines.read(dict(row), source="s", received=NOW, currency="EUR"), str)
    assert lines.read(row | more, source="s", received=NOW, currency="EUR") == code
    assert refusals.said(code).endswith(".")


def test_a_day_ahead_is_a_wrong_clock_and_is_taken():
    row = {"event_id": "e", "at": "2026-05-02T12:00:00Z", "kind": "Product Viewed", "user_id": "u"}
    assert not isinstance(lines.read(row, source="s", received=NOW, currency="EUR"), str)


def test_what_lies_beyond_the_contract_is_kept_as_words_and_masked():
    kept = lines.beyond({"coupon": "CALL 0171 2345678", "tax": 1.0, "none": None, "blank": " "})
    assert json.loads(kept) == {"coupon": "CALL [phone]", "tax": "1"}
    assert lines.beyond({}) is None


PLAIN = st.one_of(
    st.none(),
    st.text(max_size=12),
    st.sampled_from(
        ["A", "Mug, glazed", " ", "12.50", "-3", "0171 2345678", "x" * 257, "x" * 8_193, "EUR", "xyz", "５"]
    ),
    st.integers(),
    st.floats(),
    st.booleans(),
    st.sampled_from([1e14, -1e14, 2**31, 2**63, 1e13, [1], {"a": 1}]),
)
MOMENT = st.one_of(st.sampled_from([NOW, NOW + dt.timedelta(days=1, seconds=1), *MOMENTS]), PLAIN)
ANY_ROW = st.fixed_dictionaries(
    {"event_id": st.one_of(st.just("e1"), PLAIN), "at": st.one_of(st.just("2026-05-01T10:00:00Z"), MOMENT)},
    optional={
        **dict.fromkeys((name for name in ROW if name not in ("event_id", "at", "line")), PLAIN),
        "extra": st.dictionaries(st.sampled_from(["coupon", "tax", "url", "sku9"]), PLAIN),
    },
)


@settings(max_examples=300, deadline=None)
@given(ANY_ROW)
def test_the_quick_pass_and_the_careful_one_read_every_row_alike(row):
    quick = lines._plain(dict(row), "s", NOW, "EUR")
    careful = lines._careful(dict(row), "s", NOW, "EUR")
    if quick is not None:
        assert repr(quick) == repr(careful)
    assert repr(lines.read(row, source="s", received=NOW, currency="EUR")) == repr(careful)


def test_a_row_as_trackers_send_it_takes_the_quick_pass():
    row = {"event_id": "e", "at": NOW, "kind": "Product Viewed", "user_id": "u", "anonymous_id": "a", "item_id": 7}
    row |= {"title": "Mug", "price": 2, "quantity": "3", "currency": "eur", "query": "mug", "position": 4, "line": 1}
    event, person = lines._plain(row | {"extra": {"tax": 0.5, "url": "/p/7"}}, "s", NOW, "EUR")
    assert (event["item_id"], event["price"], event["value"], event["line"]) == ("7", 2.0, 6.0, 1)
    assert event["extra"] == '{"tax":"0.5","url":"/p/7"}' and person == ("u", "a")


@settings(max_examples=100, deadline=None)
@given(st.from_regex(lines._HARMLESS, fullmatch=True))
def test_a_short_number_is_never_masked(text):
    from habitue.protect.mask import mask

    assert mask(text) == text == lines.masked(text)
