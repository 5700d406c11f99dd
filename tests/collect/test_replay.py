"""Events that a wire refused, read again after a fix."""

import asyncio
import datetime as dt

import polars as pl
import pytest
from typer.testing import CliRunner

from habitue.cli import app
from habitue.collect.receiver import Receiver
from habitue.collect.replay import Replayed, replay
from habitue.collect.wires import segment
from habitue.core import workspace
from habitue.core.errors import UsageError
from habitue.core.schemas import EVENTS, ITEMS, REFUSED
from habitue.protect import identities

NOW = dt.datetime.now(dt.UTC).replace(second=5, microsecond=184_105)  # its text looks like a telephone number


def track(number, properties, **more):
    message = {"type": "track", "event": "Product Viewed", "messageId": f"m{number}", "anonymousId": "a1"}
    return (
        message | {"timestamp": NOW.isoformat(), "properties": {"product_id": "A", "name": "Mug"} | properties} | more
    )


SENT = [
    track(1, {"price": 2.5}),
    track("13812345678", {"price": "ask", "position": 3, "coupon": "MAY"}, userId="u2"),
    track(3, {"price": 2.5, "currency": "XYZ"}),
    track(4, {"price": "ask", "name": "x" * 300}),
    track(5, {"product_id": "y" * 300}),
    track(6, {"order_id": "o6", "price": "ask"}, event="Order Completed", anonymousId=None),
    7,
]


@pytest.fixture
def shop(tmp_path):
    """A workspace whose server refused six of seven messages."""
    shop = workspace.init(tmp_path / "shop")

    async def send():
        receiver = Receiver(shop)
        await receiver.start()
        await receiver.take(segment.batch({"batch": SENT}, received=NOW), "segment", NOW)
        await receiver.stop()

    asyncio.run(send())
    assert shop.lake.read(EVENTS)["event_id"].to_list() == ["m1"] and shop.lake.read(REFUSED).height == 6
    return shop


def test_without_a_fix_everything_stays_refused_with_its_reason(shop):
    before = shop.lake.read(REFUSED).sort("row")
    assert replay(shop) == Replayed(read=6, new=0, known=0, refused=3, cut=3)
    assert shop.lake.read(REFUSED).sort("row").equals(before)


def test_a_field_left_out_lets_an_event_in_once_with_its_person_and_all_else(shop):
    assert replay(shop, code="bad_price", changes={"price": None}) == Replayed(3, 2, 0, 0, 1)
    stored = {row["event_id"]: row for row in shop.lake.read(EVENTS).to_dicts()}
    assert stored.keys() == {"m1", "m13812345678", "m6"}
    row = stored["m13812345678"]
    assert (row["price"], row["position"], row["extra"], row["at"]) == (None, 3, '{"coupon":"MAY"}', NOW)
    assert row["user_key"] == identities.lookup(shop.identities, "user_id", "u2") and row["line"] == 0
    assert abs(row["received_at"] - dt.datetime.now(dt.UTC)) < dt.timedelta(minutes=5)
    assert stored["m6"]["user_key"] == identities.lookup(shop.identities, "anonymous_id", "order:o6")
    assert sorted(shop.lake.read(REFUSED)["code"]) == ["bad_currency", "bad_price", "bad_record", "too_long"]
    assert replay(shop, code="bad_price", changes={"price": None}) == Replayed(1, 0, 0, 0, 1)
    assert shop.lake.read(EVENTS).height == 3


def test_a_field_is_set_and_only_the_chosen_ones_are_read(shop):
    assert replay(shop, source="snowplow", changes={"currency": "EUR"}) == Replayed(0, 0, 0, 0, 0)
    assert replay(shop, source="segment", code="bad_currency", changes={"currency": "USD"}) == Replayed(1, 1, 0, 0, 0)
    assert shop.lake.read(EVENTS).filter(event_id="m3").select("currency", "price").rows() == [("USD", 2.5)]
    assert shop.lake.read(ITEMS)["title"].to_list() == ["Mug"]


def test_an_event_that_came_again_in_a_good_form_is_known(shop):
    shop.lake.append(EVENTS, shop.lake.read(EVENTS).with_columns(event_id=pl.lit("m3")))
    assert replay(shop, code="bad_currency", changes={"currency": "EUR"}) == Replayed(1, 0, 1, 0, 0)
    assert shop.lake.read(EVENTS).filter(event_id="m3").height == 1
    assert "bad_currency" not in shop.lake.read(REFUSED)["code"].to_list()


def test_rows_of_somebody_erased_are_taken_out_and_not_stored(shop):
    identities.forget(shop.identities, [identities.lookup(shop.identities, "user_id", "u2")])
    assert replay(shop, code="bad_price", changes={"price": None}).new == 1
    assert "m13812345678" not in shop.lake.read(EVENTS)["event_id"].to_list()


def test_a_field_that_there_is_not_or_that_names_somebody_is_refused(shop):
    with pytest.raises(UsageError, match="has no field 'prize' that can be changed.*price"):
        replay(shop, changes={"prize": None})
    with pytest.raises(UsageError, match="no field 'user_id'"):
        replay(shop, changes={"user_id": "somebody"})


def test_the_command_says_what_became_of_them(shop):
    run = CliRunner().invoke(app, ["replay", "--code", "bad_price", "--without", "price", "-w", str(shop.root)])
    assert run.exit_code == 0
    assert "3 refused events read again: 2 new, 0 known before, 0 still refused." in run.stdout
    assert "1 cannot be read again: they were too long" in run.stdout
    run = CliRunner().invoke(app, ["replay", "--code", "bad_rating", "-w", str(shop.root)])
    assert "What a running server refuses is here within a minute." in run.stdout
    run = CliRunner().invoke(app, ["replay", "--set", "currency", "-w", str(shop.root)])
    assert run.exit_code != 0 and "'currency' has no =" in str(run.exception)
