import json

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from habitue.collect.sources import Limits, trackers
from habitue.collect.sources.blocks import from_records
from habitue.collect.sources.trackers import ROW

BASE = {
    "messageId": "m1",
    "anonymousId": "a1",
    "userId": "u1",
    "timestamp": "2024-05-01T10:00:00.000Z",
    "type": "track",
}


def write(path, *records):
    path.write_text("\n".join(json.dumps(record) for record in records))
    return path


def rows(read, path, **more):
    return [{k: v for k, v in row.items() if v is not None} for row in read(path, ROW, **more).to_dicts()]


def test_a_segment_order_is_one_row_a_product(tmp_path, read):
    products = [
        {
            "product_id": "A",
            "name": "Mug",
            "price": 2.5,
            "quantity": 2,
            "category": "Home",
            "brand": "X",
            "position": 1,
        },
        {"sku": "B", "price": "3"},
    ]
    properties = {"order_id": "o1", "revenue": 8, "currency": "EUR", "products": products}
    path = write(tmp_path / "a", BASE | {"event": "Order Completed", "properties": properties})
    first, second = rows(read, path)
    shared = {"event_id": "m1", "user_id": "u1", "anonymous_id": "a1", "at": BASE["timestamp"], "order_id": "o1"}
    shared |= {"kind": "Order Completed", "currency": "EUR"}
    assert first == shared | {
        "line": "0",
        "item_id": "A",
        "title": "Mug",
        "price": "2.5",
        "quantity": "2",
        "category": "Home",
        "brand": "X",
        "position": "1",
    }
    assert second == shared | {"line": "1", "item_id": "B", "price": "3"}


def test_old_names_pages_reviews_and_searches(tmp_path, read):
    path = write(
        tmp_path / "a",
        BASE | {"event": "Viewed Product", "properties": {"product_id": "A", "name": "Mug", "recommendation_id": "r1"}},
        BASE | {"type": "page", "name": "Home", "context": {"page": {"path": "/home"}, "campaign": {"name": "spring"}}},
        BASE | {"event": "Product Reviewed", "properties": {"product_id": "A", "review_body": "good", "rating": "5"}},
        BASE | {"event": "Products Searched", "properties": {"query": {"q": "mug"}}},
        BASE | {"event": "Something Else", "properties": None},
    )
    viewed, page, review, search, other = rows(read, path)
    assert (viewed["kind"], viewed["item_id"], viewed["recommendation_id"]) == ("Product Viewed", "A", "r1")
    assert (page["kind"], page["surface"], page["campaign_id"]) == ("Page Viewed", "/home", "spring")
    assert (review["rating"], review["text"]) == ("5", "good")
    assert search["query"] == '{"q": "mug"}'
    assert other["kind"] == "Something Else" and "item_id" not in other


def test_who_somebody_is_is_no_event(tmp_path, read):
    broken = {}
    path = write(tmp_path / "a", BASE | {"event": "X"}, BASE | {"type": "identify", "traits": {"email": "a@b.c"}})
    assert len(rows(read, path, broken=broken)) == 1 and broken == {2: "no_event"}


def test_a_message_without_timestamp_is_corrected_for_the_clock(tmp_path, read):
    late = {k: v for k, v in BASE.items() if k != "timestamp"} | {"event": "X"}
    late |= {"originalTimestamp": "2024-05-01T12:00:00Z", "sentAt": "2024-05-01T12:00:10Z"}
    path = write(tmp_path / "a", late | {"receivedAt": "2024-05-01T10:00:10Z"}, late)
    assert [row["at"] for row in rows(read, path)] == ["2024-05-01T10:00:00+00:00", "2024-05-01T12:00:00Z"]


def ga4(**more):
    return {"event_name": "purchase", "event_timestamp": "1714557600000000", "user_pseudo_id": "p1", **more}


def test_ga4_takes_the_discount_off_and_joins_the_categories(tmp_path, read):
    item = {"item_id": "A", "item_name": "Mug", "price": 10, "discount": 1.5, "index": 3, "item_brand": "X"}
    item |= {"item_category": "Home", "item_category2": "Kitchen", "item_category3": "(not set)"}
    params = [
        {"key": "currency", "value": {"string_value": "EUR"}},
        {"key": "ga_session_id", "value": {"string_value": None, "int_value": "77"}},
        {"key": None, "value": None},
        "nonsense",
    ]
    path = write(tmp_path / "a", ga4(items=[item], event_params=params, ecommerce={"transaction_id": "T1"}))
    (row,) = rows(read, path)
    assert (row["price"], row["quantity"], row["position"], row["category"]) == ("8.5", "1", "3", "Home > Kitchen")
    assert (row["kind"], row["order_id"], row["currency"], row["session_id"]) == ("Order Completed", "T1", "EUR", "77")
    assert (row["anonymous_id"], row["at"]) == ("p1", "1714557600000000")


def test_ga4_events_of_equal_body_are_one_event(tmp_path, read):
    path = write(tmp_path / "a", ga4(), ga4(), ga4(event_timestamp="1714557600000001"))
    one, same, other = rows(read, path)
    assert one["event_id"] == same["event_id"] != other["event_id"]


@pytest.mark.parametrize(
    "strange",
    [
        {"properties": []},
        {"properties": {"products": "x"}},
        {"properties": {"products": [1, None]}},
        {"context": 7},
        {"event": 5},
    ],
)
def test_strange_shapes_are_rows_and_no_crash(tmp_path, read, strange):
    path = write(tmp_path / "a", BASE | {"event": "X"}, BASE | strange)
    assert len(rows(read, path)) == 2
    path = write(tmp_path / "b", ga4(), ga4(items=[None], event_params={"a": 1}, geo=3, traffic_source=[], ecommerce=1))
    assert len(rows(read, path)) == 2


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=6,
)


def of(*names, **fixed):
    """Objects with some of a tracker's own keys, anything behind each."""
    keys = st.dictionaries(st.sampled_from(names), JSON, max_size=5)
    return st.builds(lambda told, **own: told | {k: v for k, v in own.items() if v != {}}, keys, **fixed)


PRODUCT = of("product_id", "productId", "sku", "id", "name", "price", "quantity", "position", "category", "brand")
SEGMENT = of(
    *("messageId", "userId", "anonymousId", "event", "name", "timestamp", "sentAt", "receivedAt", "originalTimestamp"),
    *("properties", "context", "traits", "channel", "type", "previousId"),
    type=st.sampled_from(["track", "page", "screen", "identify", "alias", "group", None, 7, {}]),
    event=st.sampled_from(["Order Completed", "Viewed Product", "Own", {}]),
    properties=of(
        "products", "revenue", "order_id", "query", products=st.lists(PRODUCT | JSON, max_size=3) | st.just({})
    ),
    context=of("page", "campaign", "location", "sessionId", "traits"),
)
GA4 = of(
    *("event_name", "event_timestamp", "user_id", "user_pseudo_id", "event_params", "ecommerce", "geo", "items"),
    *("traffic_source",),
    event_params=st.lists(of("key", "value", value=of("string_value", "int_value", "double_value")) | JSON, max_size=3),
    items=st.lists(of("item_id", "item_name", "price", "discount", "quantity", "index") | JSON, max_size=3),
)


@settings(deadline=None, max_examples=150)
@given(segments=st.lists(SEGMENT, max_size=4), rows_of_ga4=st.lists(GA4, max_size=4))
def test_any_message_is_rows_or_a_reason(segments, rows_of_ga4):
    for reader, messages in ((trackers.segment, segments), (trackers.ga4, rows_of_ga4), (trackers.identify, segments)):
        pairs = enumerate(messages, start=1)
        blocks = list(from_records(reader(pairs), None, limits=Limits(), where="test"))
        met = {number for block in blocks for number in (*block.numbers, *block.broken)}
        told = [m.get("type") for m in messages]
        wanted = {n for n, kind in enumerate(told, start=1) if reader is not trackers.identify or kind in WHO}
        assert met == wanted
        assert all(dtype == pl.String for block in blocks for dtype in block.frame.dtypes)


WHO = ("identify", "alias")


def test_an_event_of_ga4_with_half_a_letter_is_read(tmp_path, read):
    (tmp_path / "a").write_text('{"event_name": "purchase", "event_timestamp": 1, "items": [{"item_id": "\\ud83d"}]}')
    assert read(tmp_path / "a", ["item_id"])["item_id"].to_list() == ["\ufffd"]
