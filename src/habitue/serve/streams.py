"""Events from a message broker: the same messages as over HTTP, acknowledged once they are on the disk.

    nats://host:4222/events      a JetStream stream of that name and subject; a durable consumer `habitue`
    redis://host:6379/events     a Redis stream; a consumer group `habitue`
    kafka://host:9092/events     a topic; a consumer group `habitue`
    amqp://host:5672/events      a durable queue of RabbitMQ

A message is one of Segment's (track, page, identify, ...) or a batch of them, as JSON. It is delivered again until we
have it on the disk, and stored once: ids tell a repeat. What is no such message is kept in REFUSED and not asked for
again. The broker is the shop's own: who may write to it may write events. All four by FastStream and the same code.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from habitue.collect.receiver import Busy, Receiver
from habitue.collect.wires import segment
from habitue.collect.wires.body import BodyError, Messages, parsed
from habitue.core.errors import HabitueError, UsageError, did_you_mean
from habitue.core.extras import need

GROUP = "habitue"
AT_ONCE = 100  # messages of one broker that are under way; they share a write and an fsync
CLAIM_MS = 30_000  # a message of Redis that nobody has acknowledged for so long is taken over
START_S = 20.0  # for a broker to answer when the server starts
RETRY_S = 1.0  # when nothing can be stored: the broker keeps the message
_log = logging.getLogger("habitue.serve")

Take = Callable[[Any], Awaitable[None]]


@dataclass(frozen=True)
class Address:
    """Where to listen."""

    scheme: str
    server: str  # with the scheme, without the name
    name: str  # of the stream, topic or queue

    @property
    def shown(self) -> str:
        """The address without what may be a password."""
        return f"{self.scheme}://{self.server.rpartition('@')[2].removeprefix(f'{self.scheme}://')}/{self.name}"


def address(text: str) -> Address:
    """Read an address. Raises UsageError for a scheme that is not known and a name that is missing."""
    parts = urlsplit(text)
    name = parts.path.strip("/")
    if parts.scheme not in _BROKERS:
        raise _wrong(f"there is no broker '{parts.scheme}'", did_you_mean(parts.scheme, _BROKERS))
    if not parts.hostname or not name or "/" in name:
        found = f"'{parts.scheme}' without a host and one name behind it"
        raise _wrong(found, f"Write {parts.scheme}://host:port/events")
    return Address(parts.scheme, f"{parts.scheme}://{parts.netloc}", name)


@asynccontextmanager
async def followed(places: Sequence[Address], receiver: Receiver) -> AsyncIterator[None]:
    """Take events from brokers while the block runs. Raises HabitueError when one cannot be reached at the start.

    A broker that goes away later is waited for.
    """
    running: list[Any] = []
    try:
        for place in places:
            broker = _BROKERS[place.scheme](place, _taking(receiver))
            running.append(broker)
            await _started(broker, place)
        yield
    finally:
        for broker in running:
            await broker.stop()


def _taking(receiver: Receiver) -> Take:
    """Return what a broker calls with the body of each message; when it raises, the broker keeps the message."""

    async def take(body: Any) -> None:
        received = dt.datetime.now(dt.UTC)
        bodies = body if isinstance(body, list | tuple) else [body]
        while True:
            try:
                await receiver.take(_messages(bodies, received), segment.SOURCE, received)
                return
            except Busy:
                await asyncio.sleep(Busy.retry_s)
            except HabitueError as error:
                _log.error("%s", error)
                await asyncio.sleep(RETRY_S)
                raise

    return take


def _messages(bodies: Sequence[bytes], received: dt.datetime) -> Messages:
    """Read the bodies of some messages; one that is none is refused alone."""
    number = 0
    for body in bodies:
        try:
            if len(body) > segment.LONGEST_BODY:
                raise BodyError("too_large", "")
            content = parsed(bytes(body))
            if not isinstance(content, dict):
                raise BodyError("invalid_request", "")
            is_batch = isinstance(content.get("batch"), list)
            said = (
                segment.batch(content, received=received)
                if is_batch
                else segment.one(content, kind=str(content.get("type", "track")), received=received)
            )
            first = number
            for place, message in said:
                number = first + place
                yield number, message
        except BodyError:
            number += 1
            yield number, "bad_record"


async def _raw(message: Any) -> Any:
    """Leave a body as it came: the wire reads it."""
    return message.body


async def _started(broker: Any, place: Address) -> None:
    try:
        async with asyncio.timeout(START_S):
            if place.scheme == "redis":
                await _grouped(place)
            await broker.start()
    except Exception as error:  # each client library has errors of its own
        raise HabitueError(
            place.shown,
            found=f"the broker cannot be listened to ({type(error).__name__})",
            consequence="Its events would not come in",
            remedy="Check that it runs, that the address is right and that we may read there",
        ) from error


async def _grouped(place: Address) -> None:
    """Make the consumer group of a Redis stream from its first message on; FastStream would begin with the next."""
    redis = need("redis.asyncio", extra="streams", purpose="serve.streams")
    client = redis.from_url(place.server)
    try:
        await client.xgroup_create(place.name, GROUP, id="0", mkstream=True)
    except redis.ResponseError as error:
        if "BUSYGROUP" not in str(error):
            raise
    finally:
        await client.aclose()


def _nats(place: Address, take: Take) -> Any:
    nats = _faststream("nats")
    broker = nats.NatsBroker(place.server, apply_types=False, logger=None, decoder=_raw)
    stream = nats.JStream(place.name, subjects=[place.name])
    broker.subscriber(
        place.name,
        stream=stream,
        durable=GROUP,
        pull_sub=nats.PullSub(batch_size=AT_ONCE, timeout=1.0),
        max_workers=AT_ONCE,
        ack_policy=_again(),
    )(take)
    return broker


def _redis(place: Address, take: Take) -> Any:
    redis = _faststream("redis")
    broker = redis.RedisBroker(place.server, apply_types=False, logger=None, decoder=_raw)
    for claim in (None, CLAIM_MS):  # what is new, and what a server that died has left
        stream = redis.StreamSub(
            place.name, group=GROUP, consumer=GROUP, max_records=AT_ONCE, polling_interval=500, min_idle_time=claim
        )
        broker.subscriber(stream=stream, max_workers=AT_ONCE, ack_policy=_again())(take)
    return broker


def _kafka(place: Address, take: Take) -> Any:
    kafka = _faststream("kafka")
    broker = kafka.KafkaBroker(place.server.removeprefix("kafka://"), apply_types=False, logger=None, decoder=_raw)
    broker.subscriber(
        place.name,
        group_id=GROUP,
        batch=True,
        max_records=AT_ONCE,
        auto_offset_reset="earliest",
        ack_policy=_again(),
    )(take)
    return broker


def _amqp(place: Address, take: Take) -> Any:
    rabbit = _faststream("rabbit")
    broker = rabbit.RabbitBroker(place.server, apply_types=False, logger=None, decoder=_raw)
    queue = rabbit.RabbitQueue(place.name, durable=True)
    channel = rabbit.Channel(prefetch_count=AT_ONCE)
    broker.subscriber(queue, channel=channel, ack_policy=_again())(take)
    return broker


_BROKERS: dict[str, Callable[[Address, Take], Any]] = {"nats": _nats, "redis": _redis, "kafka": _kafka, "amqp": _amqp}


def _faststream(part: str) -> Any:
    return need(f"faststream.{part}", extra="streams", purpose="serve.streams")


def _again() -> Any:
    """What to do with a message whose handler raised: give it back, to be delivered again."""
    return need("faststream", extra="streams", purpose="serve.streams").AckPolicy.NACK_ON_ERROR


def _wrong(found: str, remedy: str) -> UsageError:
    return UsageError("serve --follow", found=found, consequence="Nobody could be listened to", remedy=remedy)
