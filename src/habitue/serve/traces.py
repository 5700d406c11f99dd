"""Traces of the request path with OpenTelemetry: off unless `habitue serve --traces ENDPOINT` asks for them.

    GET /v1/recommendations      the request: http.route, method, status code; goes on with a `traceparent` that came
      rank                       the list: placement, model, fallback
      expose                     the fsync of what experiments showed
    POST /v1/batch
      store                      events on the disk

A span holds no id of anybody, no query string and no text of an error: what a trace shows, whoever reads traces may
see. Spans are sent in the background (OTLP over HTTP); a collector that is away costs nothing but its spans.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from habitue import __version__
from habitue.core.extras import need


@dataclass(frozen=True)
class Traces:
    """Where spans go; without a provider nowhere, at no cost."""

    provider: Any | None = None  # opentelemetry.sdk.trace.TracerProvider

    @contextmanager
    def span(self, name: str, *, carried: Mapping[str, str] | None = None, **told: str | int) -> Iterator[Any | None]:
        """Open a span below the one that is open; `carried`: headers that may name a span of somebody else above it."""
        if self.provider is None:
            yield None
            return
        tracer = self.provider.get_tracer("habitue", __version__)
        propagation = need("opentelemetry.trace.propagation.tracecontext", extra="traces", purpose="serve --traces")
        above = None if carried is None else propagation.TraceContextTextMapPropagator().extract(dict(carried))
        with tracer.start_as_current_span(
            name, context=above, attributes=told, record_exception=False, set_status_on_exception=False
        ) as span:
            yield span

    def stop(self) -> None:
        """Send what waits, and stop."""
        if self.provider is not None:
            self.provider.shutdown()


def sent_to(endpoint: str) -> Traces:
    """Return traces that are sent to a collector, e.g. http://127.0.0.1:4318. Raises HabitueError without the extra."""
    export = need("opentelemetry.sdk.trace.export", extra="traces", purpose="serve --traces")
    otlp = need("opentelemetry.exporter.otlp.proto.http.trace_exporter", extra="traces", purpose="serve --traces")
    exporter = otlp.OTLPSpanExporter(endpoint=f"{endpoint.rstrip('/')}/v1/traces")
    return through(export.BatchSpanProcessor(exporter))


def through(processor: Any) -> Traces:
    """Return traces whose spans go through a processor of OpenTelemetry."""
    sdk = need("opentelemetry.sdk.trace", extra="traces", purpose="serve --traces")
    resources = need("opentelemetry.sdk.resources", extra="traces", purpose="serve --traces")
    resource = resources.Resource({"service.name": "habitue", "service.version": __version__})
    provider = sdk.TracerProvider(resource=resource, shutdown_on_exit=False)
    provider.add_span_processor(processor)
    return Traces(provider)
