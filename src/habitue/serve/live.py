"""Live answers: a stream of server-sent events that says anew what a person gets, whenever they did something.

    GET /v1/live?anonymous_id=v1&what=recommendations    event: recommendations, data: as /v1/recommendations answers
    GET /v1/live?user_id=u1&what=predictions             event: predictions, data: as /v1/predictions answers

The first one comes at once, the next with the person's next event, two no closer than GAP_S; what comes in between is
answered together. MOST streams at once, one more is a 503. A write key is public: the last KEPT of them are for secret
keys, and one address has EACH at most with a write key, one more is a 429. A stream ends with `event: end` when the
server stops, so that a client comes back to the next one; a line without a meaning every BEAT_S keeps proxies from
closing it.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from litestar import get
from litestar.response import Stream

from habitue.serve.answers import RECOMMENDATIONS, admitted, body, named, question, unknown_user
from habitue.serve.desk import Desk
from habitue.serve.events import Row
from habitue.serve.fields import Asked, Field, of_query
from habitue.serve.keys import PREDICT, RECOMMEND
from habitue.serve.problems import Problem
from habitue.serve.scorer import bad

MOST = 100
KEPT = 20  # of them, that no write key takes
EACH = 10  # of one address with a write key
GAP_S = 0.5
BEAT_S = 15.0
ASKED = (*RECOMMENDATIONS, Field("what", "text", "recommendations (default) or predictions, which take a secret key"))
Find = Callable[[], int | None]


@dataclass(eq=False)
class _Stream:
    """Somebody who listens."""

    find: Find  # who it is about, who may be unknown yet
    address: str | None  # it was asked from, with a write key; None = with a secret one
    wake: asyncio.Event = field(default_factory=asyncio.Event)


class Streams:
    """Everybody who listens; for one event loop."""

    def __init__(self, desk: Desk, *, most: int = MOST) -> None:
        self._desk, self._most, self.closed = desk, most, False
        self._open: set[_Stream] = set()
        desk.listeners.append(self.hear)

    def __len__(self) -> int:
        """Return how many streams are open."""
        return len(self._open)

    def hear(self, events: list[Row]) -> None:
        """Wake those whom one of the events is about."""
        if not self._open or not events:
            return
        persons = self._desk.shoppers.persons
        met = {persons.person(event["user_key"]) for event in events}
        for stream in self._open:
            key = stream.find()
            if key is not None and persons.person(key) in met:
                stream.wake.set()

    def close(self) -> None:
        """End every stream; the server stops."""
        self.closed = True
        for stream in self._open:
            stream.wake.set()

    def admit(self, find: Find, *, address: str | None = None) -> _Stream:
        """Open a stream; `address`: where it is asked from with a write key, None = with a secret one.

        Raises Problem 503 when there are too many, 429 when there are of this address.
        """
        if address is not None and sum(stream.address == address for stream in self._open) >= EACH:
            raise Problem(
                429,
                "too_many_streams",
                f"{EACH:,} streams are open from this address, which a write key may have",
                "Close one, or ask with a secret key from your own server",
                retry_after_s=5,
            )
        if self.closed or len(self._open) >= self._most - (KEPT if address is not None else 0):
            raise Problem(
                503,
                "too_many_streams",
                f"{len(self._open):,} people listen already",
                "Come back later, or ask /v1/recommendations now and then",
                retry_after_s=5,
            )
        stream = _Stream(find, address)
        self._open.add(stream)
        return stream

    async def follow(self, stream: _Stream, tell: Callable[[], Awaitable[tuple[str, Any]]]) -> AsyncIterator[bytes]:
        """Yield what is told, at once and after each event; ends when the server stops or nobody listens."""
        try:
            while not self.closed:
                stream.wake.clear()
                began = time.monotonic()
                yield _said(*await tell())
                while not stream.wake.is_set():
                    try:
                        await asyncio.wait_for(stream.wake.wait(), BEAT_S)
                    except TimeoutError:
                        yield b": still here\n\n"
                await asyncio.sleep(0 if self.closed else max(0.0, GAP_S - (time.monotonic() - began)))
            yield _said("end", {})
        finally:
            self._open.discard(stream)


@get("/v1/live", opt={"query": ASKED, "type": "text/event-stream"})
async def live(request: Asked) -> Stream:
    """Stream a person's lists or predictions as their events arrive (server-sent events)."""
    asked = of_query(request, ASKED)
    what = asked.pop("what", "recommendations")
    if what not in ("recommendations", "predictions"):
        raise bad("what", "what is recommendations or predictions")
    door, key = admitted(request, PREDICT if what == "predictions" else RECOMMEND)
    desk: Desk = request.app.state.desk
    streams: Streams = request.app.state.live

    def find() -> int | None:
        return named(request, door, key, asked)[0]

    if find() is None and what == "predictions":
        raise unknown_user()
    wanted = question(asked)

    async def tell() -> tuple[str, Any]:
        try:
            who, alone = named(request, door, key, asked)
            if what == "predictions":
                if who is None:
                    raise unknown_user()
                return what, desk.predict(who)
            began = time.perf_counter()
            return what, body(await desk.serve(who, wanted, alone=alone), began)
        except Problem as problem:
            return "problem", problem.body()

    if what == "predictions":
        await asyncio.to_thread(door.note, key, "live", what)
    address = None if key.kind == "secret" else request.client.host if request.client else ""
    stream = streams.admit(find, address=address)
    return Stream(streams.follow(stream, tell), media_type="text/event-stream", headers={"Cache-Control": "no-store"})


def _said(name: str, data: Any) -> bytes:
    return f"event: {name}\ndata: {json.dumps(data, ensure_ascii=False)}\n\n".encode()
