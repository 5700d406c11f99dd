"""Every wire: what a tracker's body becomes, on the server's way without HTTP, people and disk."""

from __future__ import annotations

import datetime as dt
import json
from collections import Counter
from collections.abc import Callable
from typing import Any

import polars as pl
from changes import MOMENT
from loop import Group, Parser

from habitue.collect import entry, lines, told
from habitue.collect.wires import ga4, gorse, personalize, posthog, segment, sensed, snowplow
from habitue.collect.wires.body import BodyError, Described, Introduction, Messages, Owned, an_object, inflated, parsed
from habitue.core.schemas import EVENTS

NOW = dt.datetime(2026, 5, 1, 12, tzinfo=dt.UTC)
SECRET = bytes(32)
PRODUCT = {"product_id": "A", "name": "Mug", "price": 2.5, "quantity": 2, "position": 1, "category": "Home > Kitchen"}
ORDER = {"order_id": "o1", "currency": "EUR", "products": [PRODUCT, {"product_id": "B", "price": "3"}], "coupon": "X"}
ABOUT = {"page": {"path": "/p"}, "consent": {"categoryPreferences": {"analytics": True}}, "location": {"country": "DE"}}
TRACK = {"type": "track", "event": "Order Completed", "messageId": "m1", "userId": "u1", "anonymousId": "a1"}
TRACK |= {"timestamp": MOMENT, "sentAt": MOMENT, "context": ABOUT, "properties": ORDER}
HELLO = {"type": "identify", "messageId": "i1", "userId": "u1", "traits": {"plan": "gold"}, "timestamp": MOMENT}
SHOP = "iglu:com.snowplowanalytics.snowplow.ecommerce/"
ACTION = {"schema": f"{SHOP}snowplow_ecommerce_action/jsonschema/1-0-2", "data": {"type": "transaction"}}
ENTITY = {"schema": f"{SHOP}product/jsonschema/1-0-0", "data": {"id": "A", "currency": "EUR", "price": 2.5}}
PLOW = {"e": "ue", "eid": "e1", "duid": "a1", "uid": "u1", "dtm": "1777636740000", "stm": "1777636745000"}
PLOW |= {"ue_pr": json.dumps({"data": ACTION}), "co": json.dumps({"data": [ENTITY]}), "url": "https://x/p?q=1"}
PING = {"e": "pp", "eid": "e2", "duid": "a1", "pp_miy": "10", "pp_may": "90", "dh": "100", "vp": "9x9"}
GIVEN = {
    "id": "A",
    "item_id": "A",
    "item_name": "Mug",
    "item_category": "Home",
    "price": 2.5,
    "quantity": 1,
    "index": 1,
}
CAPTURED = {"event": "Order Completed", "distinct_id": "u1", "uuid": "p1", "timestamp": MOMENT, "properties": ORDER}
BOUGHT = {"eventType": "Order Completed", "itemId": "A", "sentAt": 1_777_636_740, "eventId": "x", "impression": ["B"]}
BOUGHT |= {"properties": json.dumps(ORDER | {"product_id": "A"}), "recommendationId": "r1"}
LIKED = {"FeedbackType": "read", "UserId": "u1", "ItemId": "A", "Timestamp": MOMENT, "Value": 1.0}
ITEM = {"ItemId": "A", "Categories": ["Home"], "Labels": {"price": 2}, "Timestamp": MOMENT, "Comment": "Mug"}
PULSE = {"signal": "heart_rate", "at": MOMENT, "value": 72, "unit": "1/min", "id": "1"}


def _one(kind: str) -> Callable[[bytes], Messages]:
    return lambda body: segment.one(segment.content_of(body, several=False), kind=kind, received=NOW)


def _object(read: Callable[..., Messages], **more: Any) -> Callable[[bytes], Messages]:
    return lambda body: read(an_object(parsed(body)), received=NOW, **more)


def _pixel(body: bytes) -> Messages:
    said = an_object(parsed(body))
    return snowplow.pixel({str(k): v for k, v in said.items() if isinstance(v, str)}, received=NOW)


WIRES: dict[str, tuple[Callable[[bytes], Messages], list[Any]]] = {  # how a body is read, good bodies
    "segment, one": (_one("track"), [TRACK, TRACK | {"event": "Products Searched", "properties": {"query": "mug"}}]),
    "segment, page": (_one("p"), [TRACK | {"name": "Home", "properties": {"title": "T", "url": "https://x"}}]),
    "segment, identify": (_one("identify"), [HELLO, HELLO | {"previousId": "a1", "type": "alias"}]),
    "segment, batch": (
        lambda body: segment.batch(segment.content_of(body, several=True), received=NOW),
        [{"batch": [TRACK, HELLO, TRACK | {"event": "Product Viewed", "properties": PRODUCT}], "sentAt": MOMENT}],
    ),
    "snowplow": (_object(snowplow.batch), [{"schema": "payload_data", "data": [PLOW, PING, PLOW | {"e": "pv"}]}]),
    "snowplow, pixel": (_pixel, [PLOW, PING]),
    "ga4": (
        _object(ga4.batch),
        [
            {
                "client_id": "a1",
                "user_id": "u1",
                "timestamp_micros": 1_777_636_740_000_000,
                "events": [
                    {"name": "purchase", "params": {"transaction_id": "o1", "value": 5, "items": [GIVEN, GIVEN]}},
                    {"name": "view_promotion", "params": {"promotion_id": "p", "items": []}},
                ],
            }
        ],
    ),
    "posthog": (
        lambda body: posthog.batch(posthog.content_of(body), received=NOW),
        [{"api_key": "k", "batch": [CAPTURED], "sent_at": MOMENT}, [CAPTURED], CAPTURED | {"event": "$identify"}],
    ),
    "gorse, feedback": (lambda body: gorse.feedback(parsed(body), received=NOW), [[LIKED, LIKED], LIKED]),
    "gorse, items": (lambda body: gorse.items(parsed(body), received=NOW), [[ITEM], ITEM]),
    "gorse, users": (lambda body: gorse.users(parsed(body), received=NOW), [[{"UserId": "u", "Labels": {"a": 1}}]]),
    "personalize": (_object(personalize.events), [{"sessionId": "s", "userId": "u1", "eventList": [BOUGHT]}]),
    "personalize, items": (_object(personalize.items), [{"items": [{"itemId": "A", "properties": '{"price": 1}'}]}]),
    "personalize, users": (_object(personalize.users), [{"users": [{"userId": "u", "properties": '{"a": 1}'}]}]),
    "signals": (_object(sensed.signals, secret=SECRET), [{"user_id": "u1", "sent_at": MOMENT, "signals": [PULSE]}]),
}


def taken(read: Callable[[bytes], Messages], body: bytes) -> entry.Group:
    """Do with a body what the receiver does, without people, log and disk."""
    group = entry.Group()
    for number, said in read(inflated(body, limit=5 * 2**20)):
        if isinstance(said, str):
            if said != "no_event":
                group.refused.append(("fuzz", number, said, lines.refused({}, None)))
        elif isinstance(said, Described):
            row = told.item(said, source="fuzz", received=NOW, currency="EUR")
            group.items += [] if isinstance(row, str) else [row]
        elif isinstance(said, Introduction):
            attributes, at = told.attributes(said.attributes), lines.moment(said.at)
            group.users += [] if attributes is None or at is None else [(1, at, attributes, "fuzz")]
            group.consents += [(1, name, yes, NOW, "fuzz") for name, yes in told.consents(said.consent)]
        elif isinstance(said, Owned):
            group.signals.append({**said.row, "user_key": 1, "source": "fuzz"})
        else:
            _typed(group, number, said)
    return group


def _typed(group: entry.Group, number: int, said: dict[str, Any]) -> None:
    careful = lines._careful(said, "fuzz", NOW, "EUR")
    plain = lines._plain(said, "fuzz", NOW, "EUR")
    assert plain is None or repr(plain) == repr(careful), f"the fast way says {plain!r}, the careful one {careful!r}"
    if isinstance(careful, str):
        group.refused.append(("fuzz", number, careful, lines.refused(said, 1)))
    else:
        event, person = careful
        assert person != (None, None) or event["order_id"] is not None
        group.events.append(event | {"user_key": 1})


def wire(name: str, read: Callable[[bytes], Messages], good: list[Any]) -> Parser:
    """Make a parser of a wire: `read` returns a body's messages."""

    def counted(body: bytes) -> Counter[str]:
        group = taken(read, body)
        entry.encoded(group)
        others = len(group.items) + len(group.users) + len(group.consents) + len(group.signals)
        return Counter({"events": len(group.events), "other rows": others, "refused alone": len(group.refused)})

    def out_of_the_log(body: bytes) -> None:
        group = taken(read, body)
        EVENTS.shape(entry.tables([entry.encoded(group)])["events"].with_columns(import_id=pl.lit("x")))

    return Parser(name, tuple(json.dumps(one).encode() for one in good), counted, out_of_the_log)


GROUP = Group(
    "wires",
    "habitue.collect",
    tuple(wire(name, read, good) for name, (read, good) in WIRES.items()),
    (BodyError,),
    ("events", "other rows", "refused alone"),
)
