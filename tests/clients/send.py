"""Send the journey by one real client: python send.py CLIENT ADDRESS WHO SHIFT_S

The client runs in a process of its own whose clock is SHIFT_S seconds ahead, as a shop's server may be. The events lie
one minute apart, the last one ten minutes ago. The first message besides is one that cannot be accepted.
"""

import datetime
import json
import sys
import time
import uuid
from pathlib import Path

JOURNEY = json.loads((Path(__file__).parent / "journey.json").read_text(encoding="utf-8"))
UTC = datetime.timezone.utc  # noqa: UP017  before the clock is shifted
BAD = {"product_id": "A", "price": "cheap"}


def shift_the_clock(seconds):
    """Let everything that asks for the time be told a wrong one."""
    real_time, real = time.time, datetime.datetime

    class Either(type):
        def __instancecheck__(cls, one):
            return isinstance(one, real)

    class Shifted(real, metaclass=Either):
        @classmethod
        def now(cls, tz=None):
            return real.fromtimestamp(real_time() + seconds, tz)

        @classmethod
        def utcnow(cls):
            return real.fromtimestamp(real_time() + seconds, UTC).replace(tzinfo=None)

    time.time = lambda: real_time() + seconds
    datetime.datetime = Shifted


def moments():
    """When each event happened, by the client's clock: whole seconds."""
    last = int(time.time()) - 600
    return [last - 60 * (len(JOURNEY) - 1 - number) for number in range(len(JOURNEY))]


def utc(seconds):
    return datetime.datetime.fromtimestamp(seconds, UTC)


def segment(address, who):
    from segment.analytics.client import Client

    client = Client("wk", host=address, on_error=failed)
    client.track(who, "Product Viewed", BAD, timestamp=utc(moments()[0]))
    for said, at in zip(JOURNEY, moments(), strict=True):
        client.track(who, said["event"], said["properties"], timestamp=utc(at), anonymous_id=f"{who}-cookie")
    client.flush()


def rudder(address, who):
    from rudderstack.analytics.client import Client

    client = Client("wk", host=address, on_error=failed)
    client.track(who, "Product Viewed", BAD, timestamp=utc(moments()[0]))
    for said, at in zip(JOURNEY, moments(), strict=True):
        client.track(who, said["event"], said["properties"], timestamp=utc(at), anonymous_id=f"{who}-cookie")
    client.flush()


def posthog(address, who):
    from posthog import Posthog

    client = Posthog("wk", host=address, on_error=failed)
    client.capture("Product Viewed", distinct_id=who, properties=BAD, timestamp=utc(moments()[0]))
    for said, at in zip(JOURNEY, moments(), strict=True):
        client.capture(said["event"], distinct_id=who, properties=said["properties"], timestamp=utc(at))
    client.flush()


def snowplow(address, who):
    from snowplow_tracker import EmitterConfiguration, SelfDescribing, SelfDescribingJson, Snowplow, Subject

    vendor = "iglu:com.snowplowanalytics.snowplow"

    def entity(kind, /, **data):
        known = {key: value for key, value in data.items() if value is not None}
        return SelfDescribingJson(f"{vendor}.ecommerce/{kind}/jsonschema/1-0-0", known)

    def product(p, currency):
        names = ("name", "category", "brand", "variant", "price", "quantity", "position")
        return entity("product", id=p["product_id"], currency=currency, **{name: p.get(name) for name in names})

    subject = Subject().set_user_id(who).set_domain_user_id(f"{who}-cookie")
    config = EmitterConfiguration(batch_size=50)
    tracker = Snowplow.create_tracker("shop", address, app_id="shop", subject=subject, emitter_config=config)
    action = f"{vendor}.ecommerce/snowplow_ecommerce_action/jsonschema/1-0-2"
    for said in JOURNEY:  # a moment of the past could only be said as the true one, which is never corrected
        name, p = said["event"], said["properties"]
        if name == "Products Searched":
            search = SelfDescribingJson(f"{vendor}/site_search/jsonschema/1-0-0", {"terms": p["query"].split()})
            tracker.track(SelfDescribing(search))
            continue
        if name not in SNOWPLOW:
            continue
        listed = p.get("products", [p] if "product_id" in p else [])
        entities = [product(one, p.get("currency")) for one in listed]
        if name == "Order Completed":
            more = {"revenue": p["revenue"], "tax": p["tax"], "shipping": p["shipping"], "discount_code": p["coupon"]}
            entities.append(entity("transaction", transaction_id=p["order_id"], currency=p["currency"], **more))
        if name == "Order Refunded":
            money = {"refund_amount": 12.5, "currency": p["currency"]}
            entities.append(entity("refund", transaction_id=p["order_id"], **money))
        if name == "Promotion Viewed":
            entities.append(entity("promotion", id=p["promotion_id"], name=p["name"], creative_id=p["creative"]))
        if name == "Checkout Started":
            entities.append(entity("checkout_step", step=1))
        if name == "Payment Info Entered":
            entities.append(entity("checkout_step", step=2, payment_method=p["payment_method"]))
        data = {"type": SNOWPLOW[name]} | ({"name": p["list_id"]} if "list_id" in p else {})
        tracker.track(SelfDescribing(SelfDescribingJson(action, data), context=entities))
    tracker.flush()


SNOWPLOW = {
    "Product List Viewed": "list_view",
    "Product Clicked": "list_click",
    "Product Viewed": "product_view",
    "Product Added": "add_to_cart",
    "Product Removed": "remove_from_cart",
    "Checkout Started": "checkout_step",
    "Payment Info Entered": "checkout_step",
    "Order Completed": "transaction",
    "Promotion Viewed": "promo_view",
    "Order Refunded": "refund",
}


def gorse(address, who):
    from gorse import Gorse

    client = Gorse(address, "wk")
    words = {"Product Clicked": "click", "Product Viewed": "read", "Product Added": "cart", "Order Completed": "buy"}
    words |= {"Product Removed": "remove", "Order Refunded": "refund"}
    for said, at in zip(JOURNEY, moments(), strict=True):
        p, word = said["properties"], words.get(said["event"])
        if word is not None:
            when = utc(at).isoformat()
            listed = [
                {"FeedbackType": word, "UserId": who, "ItemId": one["product_id"], "Timestamp": when, "Value": 1.0}
                for one in p.get("products", [p])
            ]
            assert client.insert_feedbacks(listed) == {"RowAffected": len(listed)}
            assert client.insert_feedbacks(listed) == {"RowAffected": len(listed)}  # a repeat, as after a lost answer


def personalize(address, who):
    import boto3
    from botocore.config import Config

    keys = {"aws_access_key_id": "wk", "aws_secret_access_key": "-", "region_name": "eu-west-1"}
    retrying = Config(retries={"max_attempts": 4, "mode": "standard"})
    client = boto3.client("personalize-events", endpoint_url=address, config=retrying, **keys)
    for said, at in zip(JOURNEY, moments(), strict=True):
        p = said["properties"]
        beside = {k: v for k, v in p.items() if k not in ("products", "product_id", "recommendation_id")}
        events = []
        for one in p.get("products", [p]):
            given = {k: v for k, v in one.items() if k != "recommendation_id"}
            event = {"eventType": said["event"], "sentAt": utc(at), "eventId": str(uuid.uuid4())}
            event |= {"properties": json.dumps(beside | given)}
            event |= {"itemId": one["product_id"]} if "product_id" in one else {}
            event |= {"recommendationId": p["recommendation_id"]} if "recommendation_id" in p else {}
            events.append(event)
        client.put_events(trackingId="t", userId=who, sessionId=f"{who}-session", eventList=events)


def ga4(address, who):
    import urllib.request

    names = {"product_id": "item_id", "name": "item_name", "brand": "item_brand", "variant": "item_variant"}
    names |= {"price": "price", "quantity": "quantity", "position": "index", "category": "item_category"}
    for said, at in zip(JOURNEY, moments(), strict=True):
        p = said["properties"]
        listed = p.get("products", [p] if "product_id" in p else [])
        params = {"items": [{theirs: one[ours] for ours, theirs in names.items() if ours in one} for one in listed]}
        beside = {"currency": "currency", "order_id": "transaction_id", "query": "search_term", "tax": "tax"}
        beside |= {"shipping": "shipping", "coupon": "coupon", "payment_method": "payment_type", "revenue": "value"}
        beside |= {"shipping_method": "shipping_tier", "promotion_id": "promotion_id", "creative": "creative_name"}
        beside |= {"recommendation_id": "recommendation_id", "list_id": "item_list_id"}
        params |= {theirs: p[ours] for ours, theirs in beside.items() if ours in p}
        if "promotion_id" in p:
            params |= {"promotion_name": p["name"], "creative_slot": p["position"]}
        events = [{"name": GA4[said["event"]], "params": params}]
        body = {"client_id": f"{who}-cookie", "user_id": who, "timestamp_micros": at * 1_000_000, "events": events}
        for _ in range(2):  # a repeat, as after a lost answer
            url = f"{address}/mp/collect?measurement_id=G-1&api_secret=wk"
            with urllib.request.urlopen(url, json.dumps(body).encode(), timeout=60) as answer:
                assert answer.status == 204


GA4 = {
    "Products Searched": "search",
    "Product List Viewed": "view_item_list",
    "Product Clicked": "select_item",
    "Product Viewed": "view_item",
    "Product Added": "add_to_cart",
    "Product Removed": "remove_from_cart",
    "Cart Viewed": "view_cart",
    "Checkout Started": "begin_checkout",
    "Payment Info Entered": "add_payment_info",
    "Order Completed": "purchase",
    "Promotion Viewed": "view_promotion",
    "Order Refunded": "refund",
}


def failed(error, _batch):
    print(f"the client gave up: {error!r}", flush=True)


if __name__ == "__main__":
    name, server, person, shift = sys.argv[1:]
    shift_the_clock(float(shift))
    {one.__name__: one for one in (segment, rudder, posthog, snowplow, gorse, personalize, ga4)}[name](server, person)
