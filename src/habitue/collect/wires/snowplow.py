"""Snowplow's tracker protocol: POST /com.snowplowanalytics.snowplow/tp2, and the pixel GET /i?e=...

Every value is text. Time: at = received - (stm - dtm), or the ttm, which the shop says is true. A page ping tells how
far the page was scrolled. Of self-describing events, `snowplow_ecommerce_action` and `site_search` are known with their
entities; any other becomes an event of its schema's name (GA4's and Segment's names are known), whose data is read as
Segment reads properties.
"""

from __future__ import annotations

import base64
import datetime as dt
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import urlsplit

from habitue.collect.sources import trackers
from habitue.collect.sources.blocks import Record
from habitue.collect.wires.body import BodyError, Message, Messages, parsed, unnamed
from habitue.collect.wires.skew import corrected, milliseconds

SOURCE = "snowplow"
LONGEST_BODY = 2**20  # bytes; the trackers send at most 40,000 from a browser
MOST = 2_500  # events of a request
ACTIONS = {
    "add_to_cart": "Product Added",
    "remove_from_cart": "Product Removed",
    "product_view": "Product Viewed",
    "list_click": "Product Clicked",
    "list_view": "Product List Viewed",
    "promo_click": "Promotion Clicked",
    "promo_view": "Promotion Viewed",
    "transaction": "Order Completed",
    "refund": "Order Refunded",
    "trns_error": "Transaction Failed",
}
_TRANSACTION = {
    "transaction_id": "order_id",
    "payment_method": "payment_method",
    "shipping": "shipping",
    "tax": "tax",
    "discount_code": "coupon",
    "discount_amount": "discount",
    "refund_reason": "reason",
    "currency": "currency",
}
_PRODUCT = {"id": "product_id", "name": "name", "category": "category", "price": "price", "quantity": "quantity"}
_PRODUCT |= {"variant": "variant", "brand": "brand", "position": "position"}


def batch(content: Record, *, received: dt.datetime) -> Messages:
    """Read a request of the POST route. Raises BodyError when it is none, or holds too many."""
    data = content.get("data")
    if not isinstance(data, list):
        raise BodyError("invalid_request", "The body has no list named data.")
    if len(data) > MOST:
        raise BodyError("too_many", f"The request holds more than {MOST:,} events.")
    for number, event in enumerate(data, 1):
        for said in _event(event, received) if isinstance(event, dict) else ("bad_record",):
            yield number, said


def pixel(query: Mapping[str, str], *, received: dt.datetime) -> Messages:
    """Read the one event of a GET."""
    for said in _event(dict(query), received):
        yield 1, said


def _event(event: Record, received: dt.datetime) -> Iterator[Message]:
    try:
        described, entities = _described(event), _entities(event)
    except BodyError:
        yield "bad_record"
        return
    kind, properties = _said(event, described, entities)
    if kind is None:
        yield "no_event"
        return
    user = entities.get("user", [{}])[0]
    true, told = milliseconds(event.get("ttm")), milliseconds(event.get("dtm"))
    yield from trackers.lines(
        {
            "type": "track",
            "event": kind,
            "messageId": event.get("eid") or unnamed(event, timed=(true or told) is not None),
            "userId": event.get("uid") or user.get("id"),
            "anonymousId": event.get("duid") or event.get("nuid") or event.get("tnuid"),
            "timestamp": true or corrected(told, milliseconds(event.get("stm")), received),
            "properties": properties,
            "channel": event.get("p"),
            "context": {"sessionId": event.get("sid"), "page": {"path": _path(event.get("url"))}},
        }
    )


def _said(event: Record, described: tuple[str, Record] | None, entities: dict[str, list[Record]]) -> Any:
    """Return the kind of the event, or None, and its properties under Segment's names."""
    match event.get("e"):
        case "pv":
            return "Page Viewed", {}
        case "pp":
            return "Scrolled", {"scroll": _scrolled(event)}
        case "se":
            names = {"se_ca": "category", "se_la": "label", "se_pr": "property"}
            beside = {ours: event[theirs] for theirs, ours in names.items() if event.get(theirs)}
            return trackers.name_of(str(event.get("se_ac"))), {"value": event.get("se_va"), **beside}
        case "ue" if described is not None:
            name, data = described
            if name == "snowplow_ecommerce_action":
                return _action(data, entities)
            if name == "site_search":
                terms = data.get("terms")
                words = " ".join(map(str, terms)) if isinstance(terms, list) else terms
                return "Products Searched", {"query": words, "filters": data.get("filters")}
            return trackers.name_of(name), data | _products(entities)
    return None, {}


def _action(data: Record, entities: dict[str, list[Record]]) -> tuple[str | None, Record]:
    """Read an e-commerce action with its entities."""
    kind = data.get("type")
    properties: Record = {"list_id": data.get("name")} | _products(entities)
    for entity in ("transaction", "refund", "checkout_step"):
        for said in entities.get(entity, [])[:1]:
            properties |= {ours: said[theirs] for theirs, ours in _TRANSACTION.items() if said.get(theirs) is not None}
            properties["revenue"] = said.get("revenue", said.get("refund_amount"))
            properties["step"] = said.get("step")
    for said in entities.get("cart", [])[:1]:
        properties |= {"cart_id": said.get("cart_id"), "total": said.get("total_value")}
        properties.setdefault("currency", said.get("currency"))
    for said in entities.get("promotion", [])[:1]:
        names = {"id": "promotion_id", "name": "name", "creative_id": "creative", "position": "position"}
        properties |= {ours: said[theirs] for theirs, ours in names.items() if said.get(theirs) is not None}
    if kind == "checkout_step":
        paid = properties.get("payment_method")
        first = str(properties.get("step")) == "1"
        return "Payment Info Entered" if paid else "Checkout Started" if first else "Checkout Step Viewed", properties
    return ACTIONS.get(kind) if isinstance(kind, str) else None, properties


def _products(entities: dict[str, list[Record]]) -> Record:
    """Return the product entities as Segment's list, with the currency of the first."""
    found = entities.get("product", [])
    if not found:
        return {}
    listed = [{ours: one[theirs] for theirs, ours in _PRODUCT.items() if one.get(theirs) is not None} for one in found]
    return {"products": listed, "currency": found[0].get("currency")}


def _described(event: Record) -> tuple[str, Record] | None:
    """Return name and data of a self-describing event."""
    outer = _json(event, "ue_pr", "ue_px")
    inner = outer.get("data") if isinstance(outer, dict) else None
    if not isinstance(inner, dict) or not isinstance(inner.get("data"), dict):
        return None
    return _name(inner.get("schema")), inner["data"]


def _entities(event: Record) -> dict[str, list[Record]]:
    """Return the data of each entity beside the event, by its schema's name."""
    outer = _json(event, "co", "cx")
    listed = outer.get("data") if isinstance(outer, dict) else None
    found: dict[str, list[Record]] = {}
    for entity in listed if isinstance(listed, list) else []:
        if isinstance(entity, dict) and isinstance(entity.get("data"), dict):
            found.setdefault(_name(entity.get("schema")), []).append(entity["data"])
    return found


def _json(event: Record, plain: str, packed: str) -> Any:
    """Read JSON that stands in a field as text, or as base64 for the web."""
    if isinstance(text := event.get(plain), str):
        return parsed(text.encode())
    if isinstance(text := event.get(packed), str):
        try:
            return parsed(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))
        except ValueError as error:  # also of letters beyond ASCII
            raise BodyError("invalid_json", "A field is no base64.") from error
    return None


def _name(schema: Any) -> str:
    """Return the name in "iglu:vendor/name/jsonschema/1-0-0"."""
    parts = str(schema).split("/")
    return parts[1] if len(parts) > 1 else parts[0]


def _path(url: Any) -> str | None:
    try:
        return urlsplit(url).path or None if isinstance(url, str) else None
    except ValueError:
        return None


def _scrolled(event: Record) -> float | None:
    """Return the share of the page seen: (lowest offset + height of the window) / height of the page, at most 1."""
    try:
        window = float(str(event["vp"]).partition("x")[2])
        page = float(str(event["ds"]).partition("x")[2])
        return min((float(event["pp_may"]) + window) / page, 1.0)
    except (KeyError, ValueError, ZeroDivisionError, TypeError):
        return None
