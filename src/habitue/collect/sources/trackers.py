"""Exports of trackers, event by event: Segment's JSONL and GA4's daily table (BigQuery export as JSONL).

Both become one row a product of the event (or one row without), with the names of Segment's e-commerce spec. The
columns of `Row` are what a mapping names; `event_id` is the source's own, or empty where it has none.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from typing import Any

from habitue.collect.sources.blocks import Record, text

ROW = (
    *("event_id", "line", "at", "kind", "user_id", "anonymous_id", "item_id", "title", "price", "quantity", "currency"),
    *("value", "order_id", "session_id", "query", "text", "rating", "position", "surface", "channel", "campaign_id"),
    *("recommendation_id", "category", "brand", "country", "dwell_s", "scroll"),
)
# What a row's `extra` keeps beside: words of a shop's things, never of its people. Whatever else a tracker is made to
# send (names, addresses, anything) is left out.
OF_EVENT = frozenset(
    (
        *("affiliation", "subtotal", "total", "revenue", "shipping", "tax", "discount", "coupon", "coupon_id"),
        *("coupon_name", "reason", "checkout_id", "cart_id", "list_id", "filters", "sorts", "promotion_id", "creative"),
        *("step", "shipping_method", "payment_method", "wishlist_id", "wishlist_name", "share_via", "review_id"),
    )
)
OF_ITEM = frozenset(("sku", "category", "brand", "variant", "coupon", "url", "image_url"))

_V1 = {
    "Viewed Product": "Product Viewed",
    "Added Product": "Product Added",
    "Removed Product": "Product Removed",
    "Clicked Product": "Product Clicked",
    "Viewed Product Category": "Product List Viewed",
    "Started Order": "Checkout Started",
    "Completed Order": "Order Completed",
    "Refunded Order": "Order Refunded",
    "Searched Products": "Products Searched",
}
_GA4_BESIDE = {  # parameters an event's `extra` keeps, by our names
    **{name: name for name in ("value", "tax", "shipping", "coupon", "promotion_id", "promotion_name", "affiliation")},
    "payment_type": "payment_method",
    "shipping_tier": "shipping_method",
    "creative_name": "creative",
    "creative_slot": "promotion_position",
    "item_list_id": "list_id",
    "item_list_name": "list_name",
}
_GA4_ITEM = {
    "item_variant": "variant",
    "item_brand": "brand",
    "coupon": "coupon",
    "discount": "discount",
    "affiliation": "affiliation",
    "item_list_id": "list_id",
    "item_list_name": "list_name",
    "location_id": "location_id",
}
_GA4 = {
    "view_item_list": "Product List Viewed",
    "select_item": "Product Clicked",
    "view_item": "Product Viewed",
    "add_to_cart": "Product Added",
    "remove_from_cart": "Product Removed",
    "add_to_wishlist": "Product Added to Wishlist",
    "view_cart": "Cart Viewed",
    "begin_checkout": "Checkout Started",
    "add_shipping_info": "Checkout Step Completed",
    "add_payment_info": "Payment Info Entered",
    "purchase": "Order Completed",
    "refund": "Order Refunded",
    "view_promotion": "Promotion Viewed",
    "select_promotion": "Promotion Clicked",
    "search": "Products Searched",
    "view_search_results": "Products Searched",
    "share": "Product Shared",
    "scroll": "Scrolled",
    "user_engagement": "Dwelled",
    "page_view": "Page Viewed",
    "screen_view": "Screen Viewed",
}


def segment(records: Iterator[tuple[int, Record | str]]) -> Iterator[tuple[int, Record | str]]:
    """Read Segment messages: track, page and screen; identify, group and alias are "no_event" of a shop (`identify`).

    The moment is `timestamp`, which Segment has corrected for the clock's skew: receivedAt - (sentAt -
    originalTimestamp). In a message without it we do the same.
    """
    for number, message in records:
        if isinstance(message, str):
            yield number, message
        else:
            yield from ((number, row) for row in lines(message))


def lines(message: Record) -> list[Record | str]:
    """Read one Segment message: a row a product of it, or one row, or "no_event". About 3 us."""
    kind = message.get("type", "track")
    if kind in ("page", "screen"):
        name: Any = f"{kind.title()} Viewed"
    elif kind == "track":
        name = message.get("event") or message.get("event_text")
        name = _V1.get(name, name) if isinstance(name, str) else None
    else:
        return ["no_event"]
    p = _dict(message.get("properties"))
    beside = {key: value for key, value in p.items() if key in OF_EVENT and value is not None}
    if kind == "track" and "promotion_id" in p:  # a promotion has a name and a place of its own
        beside |= {"promotion_name": p.get("name"), "promotion_position": p.get("position")}
        p = p | {"position": None}
    context = _dict(message.get("context"))
    session, page, campaign, location = map(context.get, ("sessionId", "page", "campaign", "location"))
    query = p.get("query")
    base: Record = {
        "event_id": message.get("messageId"),
        "at": _segment_moment(message),
        "kind": name,
        "user_id": message.get("userId"),
        "anonymous_id": message.get("anonymousId"),
        "currency": p.get("currency"),
        "order_id": p.get("order_id") or p.get("orderId"),
        "session_id": session,
        "query": query if isinstance(query, str) or query is None else json.dumps(query, ensure_ascii=False),
        "text": p.get("review_body"),
        "rating": p.get("rating"),
        "surface": p.get("list_id") or (page.get("path") if isinstance(page, dict) else None),
        "channel": message.get("channel") or context.get("channel"),
        "campaign_id": campaign.get("name") if isinstance(campaign, dict) else None,
        "recommendation_id": p.get("recommendation_id"),
        "country": location.get("country") if isinstance(location, dict) else None,
        "dwell_s": p.get("dwell_s"),
        "scroll": p.get("scroll", _share(p.get("percent_scrolled"))),
    }
    products = p.get("products")
    listed = [q for q in products if isinstance(q, dict)] if isinstance(products, list) else []
    found: list[Record | str] = []
    for line, product in enumerate(listed or (p,)):
        of = product.get
        row = base.copy() if listed else base
        row["line"] = line
        row["item_id"] = of("product_id") or of("productId") or of("sku") or of("id")
        row["title"] = of("name") if listed or of("product_id") or of("sku") else None
        row["price"], row["quantity"] = of("price"), of("quantity")
        row["value"] = None if listed else of("revenue", of("value"))
        row["position"], row["category"], row["brand"] = of("position"), of("category"), of("brand")
        row["extra"] = beside | {k: value for k, value in product.items() if k in OF_ITEM and value is not None}
        found.append(row)
    return found


def identify(records: Iterator[tuple[int, Record | str]]) -> Iterator[tuple[int, Record | str]]:
    """Read who somebody is out of Segment messages: identify, and alias, which joins two ids and tells no traits.

    A row has user_id, anonymous_id, at and the object `traits`; messages of what people did are passed by, `segment`
    reads them. The anonymous_id of an alias is the id that was used before (`previousId`).
    """
    for number, message in records:
        if isinstance(message, str):
            yield number, message
        elif message.get("type") in ("identify", "alias"):
            before = "previousId" if message["type"] == "alias" else "anonymousId"
            yield (
                number,
                {
                    "user_id": message.get("userId"),
                    "anonymous_id": message.get(before),
                    "at": _segment_moment(message),
                    "traits": _dict(message.get("traits")) or _dict(_dict(message.get("context")).get("traits")),
                },
            )


def ga4(records: Iterator[tuple[int, Record | str]]) -> Iterator[tuple[int, Record | str]]:
    """Read rows of GA4's `events_` tables. An event without an id: equal body and equal time are the same event."""
    for number, row in records:
        if isinstance(row, str):
            yield number, row
            continue
        params = _params(row.get("event_params"))
        ecommerce = _dict(row.get("ecommerce"))
        body = json.dumps(row, sort_keys=True, ensure_ascii=False)
        base: Record = {
            "event_id": "ga4:" + hashlib.blake2b(body.encode(), digest_size=16).hexdigest(),
            "at": row.get("event_timestamp"),
            "user_id": row.get("user_id"),
            "anonymous_id": row.get("user_pseudo_id"),
            "channel": _dict(row.get("traffic_source")).get("medium"),
            "campaign_id": _dict(row.get("traffic_source")).get("name"),
            "country": _dict(row.get("geo")).get("country"),
        }
        if ecommerce.get("transaction_id"):
            params["transaction_id"] = ecommerce["transaction_id"]
        yield from ((number, line) for line in ga4_lines(row.get("event_name"), params, row.get("items"), base))


def ga4_lines(name: Any, params: Record, items: Any, base: Record) -> Iterator[Record]:
    """Read one event of GA4 by its name, parameters and items: a row an item, or one row.

    `base`: event_id, at, who, and where from.
    """
    kind = _GA4.get(name, name) if isinstance(name, str) else None
    beside = {ours: params[theirs] for theirs, ours in _GA4_BESIDE.items() if params.get(theirs) is not None}
    milliseconds: Any = params.get("engagement_time_msec")
    base = base | {
        "kind": kind,
        "currency": params.get("currency"),
        "order_id": params.get("transaction_id"),
        "session_id": params.get("ga_session_id", params.get("session_id")),
        "query": params.get("search_term"),
        "surface": params.get("page_location"),
        "recommendation_id": params.get("recommendation_id"),
        "dwell_s": milliseconds / 1_000 if type(milliseconds) in (int, float) else milliseconds,
        "scroll": _share(params.get("percent_scrolled")),
    }
    listed = [i for i in items if isinstance(i, dict)] if isinstance(items, list) else []
    for line, item in enumerate(listed or [{}]):
        category = ga4_category(item)
        extra = beside | {ours: item[theirs] for theirs, ours in _GA4_ITEM.items() if item.get(theirs) is not None}
        yield base | {
            "line": line,
            "item_id": item.get("item_id") or item.get("item_name"),
            "title": item.get("item_name"),
            "price": _discounted(item),
            "quantity": item.get("quantity", 1 if item and kind == "Order Completed" else None),
            "value": None if listed else params.get("value"),
            "position": item.get("index", item.get("item_list_index")),
            "category": category,
            "brand": item.get("item_brand"),
            "extra": extra if category is None else extra | {"category": category},
        }


def ga4_category(item: Record) -> str | None:
    """Join the category's parts into one path."""
    parts = (item.get("item_category"), *(item.get(f"item_category{i}") for i in range(2, 6)))
    return " > ".join(str(c) for c in parts if c and c != "(not set)") or None


def name_of(event: str) -> str:
    """Return the stored kind of an event by a name of Segment (old ones too) or GA4; any other stands as it is."""
    return _V1.get(event, _GA4.get(event, event))


def is_segment(record: Record) -> bool:
    """Whether a JSON object looks like a Segment message."""
    return "messageId" in record and ("anonymousId" in record or "userId" in record)


def is_ga4(record: Record) -> bool:
    """Whether a JSON object looks like a row of GA4's export."""
    return "event_name" in record and "event_timestamp" in record


def _segment_moment(message: Record) -> Any:
    if message.get("timestamp"):
        return message["timestamp"]
    import datetime as dt

    try:
        received, sent, original = (
            dt.datetime.fromisoformat(str(message[key])) for key in ("receivedAt", "sentAt", "originalTimestamp")
        )
        return received - (sent - original)
    except (KeyError, ValueError, TypeError):
        return message.get("originalTimestamp") or message.get("receivedAt")


def _share(percent: Any) -> Any:
    """A hundredth of a number; anything else stands as it is."""
    return percent / 100 if isinstance(percent, int | float) and not isinstance(percent, bool) else percent


def _params(params: Any) -> Record:
    """key -> the one of string_value, int_value, float_value, double_value that is there."""
    found: Record = {}
    for param in params if isinstance(params, list) else []:
        value = _dict(_dict(param).get("value"))
        there = [v for v in value.values() if v is not None]
        if isinstance(_dict(param).get("key"), str) and there:
            found[param["key"]] = there[0]
    return found


def _discounted(item: Record) -> Any:
    """A unit's price less its discount, as the tracker counts it."""
    price, discount = text(item.get("price")), text(item.get("discount"))
    try:
        return float(price) - float(discount) if price and discount else price
    except ValueError:
        return price


def _dict(value: Any) -> Record:
    return value if isinstance(value, dict) else {}
