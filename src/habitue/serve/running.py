"""The process around the application: its socket, its limits, its signals."""

from __future__ import annotations

import asyncio
import gc
import json
import signal
import socket
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from http import HTTPStatus
from types import FrameType

import uvicorn
import uvloop
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from habitue.collect import receiver as collect
from habitue.core import settings
from habitue.core.errors import HabitueError, UsageError
from habitue.core.workspace import PLAN, Workspace
from habitue.serve import app, hosts
from habitue.serve.child import Child
from habitue.serve.problems import Problem
from habitue.serve.streams import Address
from habitue.serve.traces import Traces

CONNECTIONS = 2_000  # at once; one more is answered with 503
IDLE_S = 75  # a connection that says nothing is closed: longer than the pools of most clients keep theirs
HEAD_BYTES = 128 * 1_024  # of a request's line and headers, at most
HEAD_LIMIT = f"A path, its query and the headers have {HEAD_BYTES // 1_024} kB together"
LINGER_S = 5.0  # a refused client that is still sending is listened to for so long, or a reset would eat its answer
HEADERS_S = 10.0  # for the head of a request to come, from the first byte of the connection or the request on
SWITCH_S = 0.0001  # a thread that waits for the interpreter gets it after so long
STOP_S = 20  # for requests under way when the server is stopped


def run(
    workspace: Workspace,
    child: Child,
    *,
    host: str,
    port: int,
    ready: Callable[[str], None],
    follow: Sequence[Address] = (),
    tracing: Traces | None = None,
) -> None:
    """Serve until SIGINT or SIGTERM; what was received is in the lake then. `ready` hears the address.

    Raises UsageError when the port is taken, LakeError or SettingsError when the workspace cannot be used.
    """
    section = settings.read_toml(workspace.plan).get("collect", {})  # the whole plan would load every model
    config = settings.fill(collect.Config, section, where=f"{PLAN} [collect]")
    listening = _socket(host, port)
    made = app.create(workspace, child=child, config=config, follow=follow, tracing=tracing)
    hosts.guard(made)
    server = _Server(
        uvicorn.Config(
            made,
            log_config=None,
            access_log=False,  # a query may hold ids
            lifespan="off",  # `_serve` does it, so that what goes wrong is said in words
            http=_Impatient,
            limit_concurrency=CONNECTIONS,
            timeout_keep_alive=IDLE_S,
            timeout_graceful_shutdown=STOP_S,
            server_header=False,
        )
    )
    name = f"[{host}]" if ":" in host else host
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            address = f"http://{name}:{listening.getsockname()[1]}"
            runner.run(_serve(server, listening, lambda: ready(f"Listening on {address}")))
    except BaseExceptionGroup as group:
        raise _said(group) or group from None


class _Impatient(HttpToolsProtocol):
    """HTTP that closes a connection whose request does not begin, or whose head does not end, within HEADERS_S.

    A head may be HEAD_BYTES long, or as much more as arrived with its end. uvicorn waits for ever and keeps all of it.
    Bodies have their own limit (`fields.SLOWEST_S`), and idle connections uvicorn's.
    """

    _late: asyncio.TimerHandle | None = None
    _head = 0  # bytes of the head that has not ended
    _refused = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._wait()

    def data_received(self, data: bytes) -> None:
        if self._refused:
            return
        super().data_received(data)
        if self._late is not None:
            self._head += len(data)
            if self._head > HEAD_BYTES:
                self._refuse(Problem(431, "too_large", "The head of the request is too long", HEAD_LIMIT))

    def on_message_begin(self) -> None:
        self._wait()
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        self._stop_waiting()
        super().on_headers_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_waiting()
        super().connection_lost(exc)

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002
        """Refuse what is no HTTP as everything else is refused."""
        self._refuse(
            Problem(400, "no_http", "This is no HTTP/1.1, or its path is too long", "A path and its query have 64 kB")
        )

    def _refuse(self, problem: Problem) -> None:
        self._stop_waiting()
        self._refused = True
        body = json.dumps(problem.body()).encode()
        head = f"HTTP/1.1 {problem.status} {HTTPStatus(problem.status).phrase}\r\ncontent-type: application/json\r\n"
        self.transport.write(f"{head}content-length: {len(body)}\r\nconnection: close\r\n\r\n".encode() + body)
        self.transport.write_eof()
        self.loop.call_later(LINGER_S, self.transport.close)  # sooner when the client ends: uvloop closes both ways

    def _wait(self) -> None:
        self._stop_waiting()
        self._late = self.loop.call_later(HEADERS_S, self.transport.close)

    def _stop_waiting(self) -> None:
        self._head = 0
        if self._late is not None:
            self._late.cancel()
            self._late = None


class _Server(uvicorn.Server):
    """A server whose signals are handled by the loop: uvicorn would raise them again while the inbox is emptied."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        loop = asyncio.get_running_loop()
        for one in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(one, self.handle_exit, one, None)
        yield

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """End the streams first: requests under way are waited for."""
        self.config.app.state.live.close()  # type: ignore[union-attr]
        super().handle_exit(sig, frame)


def _said(group: BaseExceptionGroup[BaseException]) -> HabitueError | None:
    """Return the error in words that a group holds."""
    for error in group.exceptions:
        found = _said(error) if isinstance(error, BaseExceptionGroup) else error
        if isinstance(found, HabitueError):
            return found
    return None


async def _serve(server: _Server, listening: socket.socket, ready: Callable[[], None]) -> None:
    async with server.config.app.lifespan():  # type: ignore[union-attr]
        _quiet()
        listening.listen(2_048)
        ready()
        await server.serve(sockets=[listening])


def _quiet() -> None:
    """Keep the interpreter from holding answers up.

    The catalogue is no garbage: a full collection that walks through it takes a fifth of a second. And the thread that
    writes events waits for its turn after each fsync as long as an answer is being made, 5 ms unless it is told else.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 50, 100)
    sys.setswitchinterval(SWITCH_S)


def _socket(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.socket(family)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((host, port))
    except OSError as error:
        listening.close()
        raise UsageError(
            "serve --port",
            found=f"port {port} of {host} cannot be used ({error.strerror})",
            consequence="Nobody could reach the server",
            remedy="Stop what listens there, or choose another port",
        ) from error
    return listening
