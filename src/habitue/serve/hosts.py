"""Without keys, only what asks for this machine by its name is answered.

A page may give its own domain the address 127.0.0.1 (DNS rebinding): to a browser here the server is then of that
page's origin, and everything it answers can be read. Such a request names the page's domain in its Host header. With
keys it may name anything: a page does not know them.
"""

from __future__ import annotations

import functools
from urllib.parse import urlsplit

from litestar import Litestar
from litestar.enums import ScopeType
from litestar.types import Receive, Scope, Send

from habitue.core.errors import LakeError
from habitue.serve import collecting, front
from habitue.serve.fields import this_machine
from habitue.serve.keys import Door
from habitue.serve.operating import Watch
from habitue.serve.problems import Problem

LONGEST = 300  # characters of a Host header that are looked at: a name has 253
ELSEWHERE = Problem(
    421,
    "other_host",
    "Without keys the server answers to the names of this machine only",
    "Ask for http://127.0.0.1 or http://localhost; behind a proxy or under a name of its own it takes keys: "
    "habitue keys create secret",
)


def guard(app: Litestar) -> None:
    """Refuse requests for another host than this machine for as long as there is no key."""
    door: Door = app.state.door
    watch, answered = Watch(), app.asgi_handler

    async def refused(_scope: Scope, _receive: Receive, send: Send) -> None:
        body, headers = front.encoded(collecting.answer(ELSEWHERE))
        await send({"type": "http.response.start", "status": ELSEWHERE.status, "headers": headers})
        await send({"type": "http.response.body", "body": body, "more_body": False})

    async def guarded(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == ScopeType.HTTP and not _here(scope) and _open(door):
            await watch.handle(scope, receive, send, refused)
        else:
            await answered(scope, receive, send)

    app.asgi_handler = guarded


def _open(door: Door) -> bool:
    """Whether everybody would be answered."""
    try:
        return door.empty()
    except LakeError:  # keys that cannot be read: whoever asks for something that takes one is told so
        return False


def _here(scope: Scope) -> bool:
    told = (value for name, value in scope["headers"] if name == b"host")  # none: no browser asks so
    return all(len(value) <= LONGEST and _loopback(value) for value in told)


@functools.lru_cache(maxsize=256)
def _loopback(host: bytes) -> bool:
    """Whether a Host header names this machine."""
    try:
        return this_machine(urlsplit(f"//{host.decode('ascii')}").hostname or "")
    except ValueError:  # no host
        return False
