"""The routes that are asked most, without the framework around them: the same handlers, the same answers, less to do.

Litestar finds a route, reads its signature, keeps a stack of what is to be cleaned up and looks for hooks at every
request. A handler that takes the request and returns a Response needs none of it:

    shorten(app, [answers.recommendations, ...])      once, when the application is made

Whatever is not exactly one of their methods and paths goes through the framework as before: OPTIONS, HEAD, a slash
more, another method, a host that is none. Errors become answers by the same table (`collecting.ERRORS`), requests are
counted, timed and logged by the same `operating.Watch`, and /openapi.json reads the same declarations
(tests/serve/test_front.py sends every kind of request both ways).
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from litestar import Litestar, Request, Response
from litestar.enums import ScopeType
from litestar.handlers import HTTPRouteHandler
from litestar.serialization import encode_json
from litestar.types import ASGIApp, Receive, Scope, Send

from habitue.serve.collecting import ERRORS
from habitue.serve.fields import Asked
from habitue.serve.operating import Watch

_PLAIN_HOST = re.compile(rb"[A-Za-z0-9.:\-\[\]]+")
_JSON = "application/json"


def shorten(app: Litestar, handlers: Sequence[HTTPRouteHandler]) -> None:
    """Let an application answer these handlers' methods and paths itself; each takes the request alone."""
    watch, framework = Watch(), app.asgi_handler
    short: dict[tuple[str, str], ASGIApp] = {}
    for handler in handlers:
        for path in handler.paths:
            for method in handler.http_methods:
                short[method, path] = _answering(handler, path)

    async def front(scope: Scope, receive: Receive, send: Send) -> None:
        route = short.get((scope["method"], scope["path"])) if scope["type"] == ScopeType.HTTP else None
        if route is None or scope.get("root_path") or not _plain_host(scope):
            await framework(scope, receive, send)
        else:
            await watch.handle(scope, receive, send, route)

    app.asgi_handler = front


def _plain_host(scope: Scope) -> bool:
    host = next((value for name, value in scope["headers"] if name == b"host"), b"-")
    return _PLAIN_HOST.fullmatch(host) is not None


def _answering(handler: HTTPRouteHandler, path: str) -> ASGIApp:
    ask: Callable[[Asked], Awaitable[Response[Any]]] = handler.fn

    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        scope["path_template"], scope["path_params"] = path, {}
        scope["route_handler"] = handler
        request: Asked = Request(scope, receive, send)
        try:
            response = await ask(request)
            body, headers = encoded(response)
        except Exception as error:  # as the framework does: whatever it is becomes an answer, a mistake of ours too
            response = _said(request, error)
            body, headers = encoded(response)
        await send({"type": "http.response.start", "status": response.status_code or 200, "headers": headers})
        await send({"type": "http.response.body", "body": body, "more_body": False})

    return answer


def encoded(response: Response[Any]) -> tuple[bytes, list[tuple[bytes, bytes]]]:
    """Return the body and the headers, as Litestar's own Response would send them."""
    content, kind = response.content, str(response.media_type or _JSON)
    body = content if isinstance(content, bytes) else encode_json(content)
    headers = [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in response.headers.items()]
    return body, [
        *headers,
        (b"content-type", kind.encode("latin-1")),
        (b"content-length", str(len(body)).encode()),
    ]


def _said(request: Asked, error: Exception) -> Response[Any]:
    """Return what is answered where a handler raised."""
    handle = next(ERRORS[kind] for kind in type(error).__mro__ if kind in ERRORS)
    return handle(request, error)
