"""What whoever runs the server looks at: health, metrics, the description of every route, one log line a request.

None of it holds an id: a route is named by its template ("/v1/users/{user_id}"), a query string is never written down.
"""

from __future__ import annotations

import json
import logging
import re
import time
from typing import Any

from litestar import Litestar, Response, get
from litestar.enums import ScopeType
from litestar.middleware import ASGIMiddleware
from litestar.types import ASGIApp, Message, Receive, Scope, Send

from habitue import __version__
from habitue.serve import metrics
from habitue.serve.desk import Desk
from habitue.serve.fields import Asked, Field
from habitue.serve.metrics import Counter

requests = logging.getLogger("habitue.requests")

PROBLEM = {
    "type": "object",
    "required": ["success", "code", "message", "detail"],
    "properties": {
        "success": {"const": False},
        "code": {"type": "string", "description": "One word for programs"},
        "message": {"type": "string", "description": "What is wrong, in a sentence"},
        "detail": {"type": "string", "description": "What to do about it"},
    },
}
CODES = {
    "400": "The request cannot be read, or asks for what cannot be",
    "401": "No key, an unknown key, or a user token that proves nothing",
    "403": "The key may not do this, or the customer has not agreed to it",
    "404": "There is no such path, product or customer",
    "405": "The path takes another method",
    "429": "More than this key may ask; come back as Retry-After says",
    "503": "The server cannot answer or store now",
}
OPEN = ("/health/live", "/health/ready", "/metrics", "/openapi.json")


class Watch(ASGIMiddleware):
    """Counts and times every request; writes a line of JSON where the log is listened to."""

    scopes = (ScopeType.HTTP,)

    async def handle(self, scope: Scope, receive: Receive, send: Send, next_app: ASGIApp) -> None:
        """Pass a request on and look at how it ends."""
        began, status = time.perf_counter(), 500

        async def watched(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await next_app(scope, receive, watched)
        finally:
            seconds = time.perf_counter() - began
            route, method = str(scope.get("path_template") or "none"), str(scope.get("method"))
            desk: Desk | None = scope["litestar_app"].state.get("desk")
            if desk is not None:
                desk.metrics.requests.add(route, method, str(status), seconds=seconds)
            if requests.isEnabledFor(logging.INFO):
                told = {
                    "route": route,
                    "method": str(scope.get("method")),
                    "code": status,
                    "ms": round(seconds * 1000, 2),
                }
                requests.info(json.dumps(told))


@get("/health/live")
async def live() -> dict[str, bool]:
    """Say that the server runs."""
    return {"live": True}


@get("/health/ready")
async def ready(request: Asked) -> Response[dict[str, Any]]:
    """Say whether it can answer, and with which model."""
    desk: Desk = request.app.state.desk
    version = desk.shop.snapshot.version if desk.ready else None
    return Response({"ready": desk.ready, "model_version": version}, status_code=200 if desk.ready else 503)


@get("/metrics")
async def prometheus(request: Asked) -> Response[str]:
    """Return everything counted, in Prometheus' text format."""
    desk: Desk = request.app.state.desk
    received = Counter("habitue_events_received_total", "Events that trackers sent", ("source", "result"))
    received.values = {labels: float(count) for labels, count in request.app.state.receiver.counts.items()}
    info = Counter("habitue_model_info", "The model that answers", ("model", "version"), gauge=True)
    if desk.ready:
        info.set(desk.shop.model, desk.shop.snapshot.version or "none", to=1)
    return Response(desk.metrics.text(desk.gauges(), (received, info)), media_type=metrics.CONTENT_TYPE)


@get("/openapi.json")
async def openapi(request: Asked) -> Response[dict[str, Any]]:
    """Describe every route (OpenAPI 3.1)."""
    return Response(described(request.app))


def described(app: Litestar) -> dict[str, Any]:
    """Return the OpenAPI document of an application, from its own routes and what each declares to take."""
    paths: dict[str, dict[str, Any]] = {}
    for route in sorted(app.routes, key=lambda route: route.path):
        for handler in getattr(route, "route_handlers", ()):
            path = re.sub(r"\{(\w+):\w+\}", r"{\1}", route.path)
            for method in sorted(handler.http_methods - {"OPTIONS", "HEAD"}):
                about = paths.setdefault(path, {})
                about[method.lower()] = _operation(path, method, handler.opt, handler.fn.__doc__, handler.fn.__name__)
    return {
        "openapi": "3.1.0",
        "info": {"title": "Habitue", "version": __version__, "description": "One customer model for a shop."},
        "paths": paths,
        "components": {
            "schemas": {"Problem": PROBLEM},
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer", "description": "A key: habitue keys create"},
                "basic": {"type": "http", "scheme": "basic", "description": "A key as the user, no password"},
                "header": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
            },
        },
        "security": [{"bearer": []}, {"basic": []}, {"header": []}],
    }


def _operation(path: str, method: str, opt: dict[str, Any], doc: str | None, name: str) -> dict[str, Any]:
    parameters = [
        {"name": word, "in": "path", "required": True, "schema": {"type": "string", "minLength": 1, "maxLength": 256}}
        for word in re.findall(r"\{(\w+)\}", path)
    ]
    query: tuple[Field, ...] = opt.get("query", ())
    parameters += [
        {
            "name": field.name,
            "in": "query",
            "required": field.needed,
            "description": field.meaning,
            "schema": field.schema(),
            **({"style": "form", "explode": False} if field.kind == "words" else {}),
        }
        for field in query
    ]
    problem = {"application/json": {"schema": {"$ref": "#/components/schemas/Problem"}}}
    found: dict[str, Any] = {
        "operationId": re.sub(r"\W+", "_", f"{name}_{method.lower()}_{path.strip('/')}"),
        "summary": (doc or name).split("\n")[0],
        "parameters": parameters,
        "responses": {
            "200": {"description": "Done", "content": {"application/json": {"schema": {}}}},
            **{code: {"description": words, "content": problem} for code, words in CODES.items()},
        },
    }
    if path in OPEN:
        found["security"] = []
    body: tuple[Field, ...] | None = opt.get("body")
    if body is not None:
        schema = {
            "type": "object",
            "properties": {field.name: field.schema() | {"description": field.meaning} for field in body},
            "required": [field.name for field in body if field.needed],
            "additionalProperties": False,
        }
        found["requestBody"] = {"content": {"application/json": {"schema": schema}}}
    return found
