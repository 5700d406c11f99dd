"""What each client can say of the twelve events of the journey, and which fields its wire loses, and why.

`rows(wire)` gives the rows of EVENTS a wire must leave, in order: those of the journey, without what it loses.
"""

import json
from pathlib import Path

JOURNEY = json.loads((Path(__file__).parent / "journey.json").read_text(encoding="utf-8"))
ALL = tuple(said["event"] for said in JOURNEY)
FIELDS = ("kind", "item_id", "title", "order_id", "query", "position", "surface", "price", "quantity", "currency")
FIELDS += ("value", "recommendation_id")
EXTRA = ("category", "brand", "variant", "cart_id", "payment_method", "shipping_method", "revenue", "shipping", "tax")
EXTRA += ("total", "coupon", "promotion_id", "promotion_name", "creative", "promotion_position", "list_id")

SAYS = {  # the events a wire has a word for
    "segment": ALL,
    "rudder": ALL,
    "posthog": ALL,
    "ga4": ALL,
    "personalize": ALL,
    "snowplow": tuple(
        name for name in ALL if name != "Cart Viewed"
    ),  # no e-commerce action for a cart that is looked at
    "gorse": (
        "Product Clicked",
        "Product Viewed",
        "Product Added",
        "Product Removed",
        "Order Completed",
        "Order Refunded",
    ),
}
LOSES = {  # wire -> field -> why; "*" of a kind in LOSES_OF below
    "segment": {},
    "rudder": {},
    "posthog": {},
    "ga4": {
        "cart_id": "GA4 has no cart",
        "total": "GA4 knows one value, and shipping and tax beside it",
        "revenue": "GA4 calls it value, which is the event's",
        "surface": "the list is in extra; GA4's surface is the page",
    },
    "snowplow": {
        "recommendation_id": "no entity has a place for it",
        "cart_id": "an entity of the cart, which no action looks at",
        "total": "the transaction has the revenue only",
        "shipping_method": "the checkout step's own name for it is not sent here",
        "promotion_position": "sent as a number or not at all",
    },
    "gorse": dict.fromkeys(
        (
            *EXTRA,
            "title",
            "order_id",
            "query",
            "position",
            "surface",
            "price",
            "quantity",
            "value",
            "recommendation_id",
        ),
        "feedback is a user, an item, a word and a time",
    ),
    "personalize": {},
}
# what a kind loses in a wire: the step before the order has no order yet in Snowplow
LOSES_OF = {("snowplow", "Checkout Started"): ("order_id",), ("snowplow", "Payment Info Entered"): ("order_id",)}
CORRECTED = ("segment", "rudder", "posthog", "snowplow")  # the others do not say when they sent
OWN_IDS = ("segment", "rudder", "posthog", "snowplow", "personalize")
REFUSES = ("segment", "rudder", "posthog")  # whose first message cannot be accepted


PAGE = "/shop.html"  # where the trackers of a page run: the surface of their events without a list
OF_A_PAGE = {  # what a page's tracker says more than a server's of the same wire, since its functions ask for it
    ("snowplow", "Product Added"): {"total": "25"},
    ("snowplow", "Product Removed"): {"total": "12.5"},
    ("snowplow", "Order Completed"): {"payment_method": "card"},
}


def rows_of_page(wire):
    """The rows a tracker in a page must leave."""
    return [row | {"surface": row["surface"] or PAGE} | OF_A_PAGE.get((wire, row["kind"]), {}) for row in rows(wire)]


def rows(wire):
    """The rows of one user's journey as dicts of FIELDS and EXTRA; None where a wire says nothing."""
    found = []
    for said in JOURNEY:
        name, p = said["event"], said["properties"]
        if name in SAYS[wire]:
            products = p.get("products", [p] if "product_id" in p else [{}])
            found += [_row(wire, name, p, one) for one in products]
    return found


def _row(wire, name, p, one):
    row = dict.fromkeys((*FIELDS, *EXTRA))
    row |= {"kind": name, "item_id": one.get("product_id"), "title": one.get("name"), "query": p.get("query")}
    row |= {field: p.get(field) for field in ("order_id", "recommendation_id")}
    row |= {"surface": p.get("list_id"), "currency": p.get("currency", "EUR")}  # the shop's own where none is said
    row |= {field: one.get(field) for field in ("position", "price", "quantity")}
    row |= {field: _text(p.get(field)) for field in EXTRA if field in p}
    row |= {field: _text(one.get(field)) for field in ("category", "brand", "variant")}
    if "promotion_id" in p:
        row |= {"promotion_name": p["name"], "promotion_position": p["position"]}
    if wire == "snowplow" and name == "Order Refunded":
        row["revenue"] = "12.5"  # its refund says how much
    sign = -1 if name == "Order Refunded" else 1
    if row["quantity"] is not None:
        row["quantity"] = float(sign * row["quantity"])
        row["value"] = row["price"] * row["quantity"]
    lost = {*LOSES[wire], *LOSES_OF.get((wire, name), ())}
    return row | dict.fromkeys(lost)


def _text(value):
    return None if value is None else str(value)
