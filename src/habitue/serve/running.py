"""The process around the application: its socket, its limits, its signals."""

from __future__ import annotations

import asyncio
import signal
import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import uvicorn
import uvloop
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from habitue.collect import receiver as collect
from habitue.core import settings
from habitue.core.errors import HabitueError, UsageError
from habitue.core.workspace import PLAN, Workspace
from habitue.serve import app
from habitue.serve.desk import Load
from habitue.serve.streams import Address

CONNECTIONS = 2_000  # at once; one more is answered with 503
IDLE_S = 75  # a connection that says nothing is closed: longer than the pools of most clients keep theirs
HEADERS_S = 10.0  # for the head of a request to come, from the first byte of the connection or the request on
STOP_S = 20  # for requests under way when the server is stopped


def run(
    workspace: Workspace,
    load: Load,
    *,
    host: str,
    port: int,
    ready: Callable[[str], None],
    follow: Sequence[Address] = (),
) -> None:
    """Serve until SIGINT or SIGTERM; what was received is in the lake then. `ready` hears the address.

    Raises UsageError when the port is taken, LakeError or SettingsError when the workspace cannot be used.
    """
    section = settings.read_toml(workspace.plan).get("collect", {})  # the whole plan would load every model
    config = settings.fill(collect.Config, section, where=f"{PLAN} [collect]")
    listening = _socket(host, port)
    server = _Server(
        uvicorn.Config(
            app.create(workspace, load=load, config=config, follow=follow),
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

    uvicorn waits for ever. Bodies have their own limit (`collecting.SLOWEST_S`), and idle connections uvicorn's.
    """

    _late: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._wait()

    def on_message_begin(self) -> None:
        self._wait()
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        self._stop_waiting()
        super().on_headers_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_waiting()
        super().connection_lost(exc)

    def _wait(self) -> None:
        self._stop_waiting()
        self._late = self.loop.call_later(HEADERS_S, self.transport.close)

    def _stop_waiting(self) -> None:
        if self._late is not None:
            self._late.cancel()


class _Server(uvicorn.Server):
    """A server whose signals are handled by the loop: uvicorn would raise them again while the inbox is emptied."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        loop = asyncio.get_running_loop()
        for one in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(one, self.handle_exit, one, None)
        yield


def _said(group: BaseExceptionGroup[BaseException]) -> HabitueError | None:
    """Return the error in words that a group holds."""
    for error in group.exceptions:
        found = _said(error) if isinstance(error, BaseExceptionGroup) else error
        if isinstance(found, HabitueError):
            return found
    return None


async def _serve(server: _Server, listening: socket.socket, ready: Callable[[], None]) -> None:
    async with server.config.app.lifespan():  # type: ignore[union-attr]
        listening.listen(2_048)
        ready()
        await server.serve(sockets=[listening])


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
