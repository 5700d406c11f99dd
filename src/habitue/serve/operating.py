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
from litestar.handlers import HTTPRouteHandler
from litestar.middleware import ASGIMiddleware
from litestar.types import ASGIApp, Message, Receive, Scope, Send

from habitue import __version__
from habitue.serve import metrics
from habitue.serve.desk import Desk
from habitue.serve.fields import Asked, Field
from habitue.serve.metrics import Counter
from habitue.serve.traces import Traces

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
    "404": "There is no such path, product or customer; or a client of another system asks for what is not done here",
    "405": "The path takes another method",
    "408": "The body came too slowly",
    "409": "The job is not in a state for that",
    "410": "The result is no longer whole",
    "421": "The server has no keys, and was asked by a name that is not this machine's",
    "429": "More than this key or address may ask; come back as Retry-After says",
    "431": "The path, its query and the headers are longer than 128 kB",
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

        traces: Traces = scope["litestar_app"].state.traces
        carried = {} if traces.provider is None else _carried(scope)
        try:
            with traces.span(str(scope.get("method")), carried=carried) as span:
                await next_app(scope, receive, watched)
                if span is not None:
                    path = str(scope.get("path_template") or "none")
                    span.update_name(f"{scope.get('method')} {path}")
                    span.set_attributes({"http.route": path, "http.request.method": str(scope.get("method"))})
                    span.set_attribute("http.response.status_code", status)
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


def _carried(scope: Scope) -> dict[str, str]:
    """Return the headers that tell whose work this request is part of (W3C Trace Context)."""
    names = (b"traceparent", b"tracestate")
    return {name.decode(): value.decode("latin-1") for name, value in scope["headers"] if name in names}


@get("/health/live")
async def live() -> dict[str, bool]:
    """Say that the server runs."""
    return {"live": True}


@get("/health/ready")
async def ready(request: Asked) -> Response[dict[str, Any]]:
    """Say whether it can answer, and with which model."""
    desk: Desk = request.app.state.desk
    version = desk.shop.snapshot.version if desk.ready else None
    told = {"ready": desk.ready, "model_version": version, "retrieval": desk.shop.retrieval if desk.ready else None}
    return Response(told, status_code=200 if desk.ready else 503)


@get("/metrics", opt={"type": "text/plain"})
async def prometheus(request: Asked) -> Response[str]:
    """Return everything counted, in Prometheus' text format."""
    desk: Desk = request.app.state.desk
    received = Counter("habitue_events_received_total", "Events that trackers sent", ("source", "type", "result"))
    received.values = {labels: float(count) for labels, count in request.app.state.receiver.counts.items()}
    info = Counter("habitue_model_info", "The model that answers", ("model", "version"), gauge=True)
    if desk.ready:
        info.set(desk.shop.model, desk.shop.snapshot.version or "none", to=1)
    took = Counter("habitue_model_train_duration_seconds", "Time its training took", ("model", "version"), gauge=True)
    if desk.ready and (train_s := desk.shop.snapshot.train_s) is not None:
        took.set(desk.shop.model, desk.shop.snapshot.version or "none", to=train_s)
    kept = ("dataset", "dimension")
    quality = Counter("habitue_data_quality_ratio", "Mean score of the newest check, 0 to 1", kept, gauge=True)
    for dataset, dimension, score in desk.shop.snapshot.quality if desk.ready else ():
        quality.set(dataset, dimension, to=score)
    words = "Share of the exact list that shortlists have"
    recall = Counter("habitue_retrieval_recall", words, ("at", "placement"), gauge=True)
    for name, share in desk.shop.retrieval.items() if desk.ready else ():
        if isinstance(share, float):
            at, _, placement = name.removeprefix("recall_at_").partition("_")
            recall.set(at, placement or "home", to=share)
    deaths = Counter("habitue_background_deaths", "Times the process for work in the background died")
    deaths.add(by=0 if request.app.state.child is None else request.app.state.child.deaths)
    streams = {("habitue_live_streams", "People who listen to /v1/live"): float(len(request.app.state.live))}
    text = desk.metrics.text(desk.gauges() | streams, (received, info, took, quality, recall, deaths))
    return Response(text, media_type=metrics.CONTENT_TYPE)


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
                about[method.lower()] = _operation(path, method, handler)
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


def _operation(path: str, method: str, handler: HTTPRouteHandler) -> dict[str, Any]:
    opt, doc, name = handler.opt, handler.fn.__doc__, handler.fn.__name__
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
            str(handler.status_code): _done(handler),
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
    elif method in ("POST", "PUT", "PATCH"):
        found["requestBody"] = {
            "description": "What the tracker or client of this route sends; it is told by its content, not its label",
            "content": {"application/json": {"schema": {}}},
        }
    return found


def _done(handler: HTTPRouteHandler) -> dict[str, Any]:
    """Describe an answer that is no error."""
    if handler.status_code == 204:
        return {"description": "Done"}
    return {"description": "Done", "content": {handler.opt.get("type", "application/json"): {"schema": {}}}}
