"""Traces (OpenTelemetry), for a collector that understands OTLP over HTTP."""

import contextlib
import logging
from collections.abc import Iterator, Sequence
from http import HTTPStatus
from typing import Any

from litestar.types import ASGIApp
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.trace import NoOpTracer, Span, SpanKind, Status, StatusCode, Tracer

from app.lib.settings import Settings
from app.lib.tracing import continued
from app.server.metrics.metrics import METHODS

EXPORT_SECONDS = 3.0
"""For each batch, in a thread of its own."""
UNTRACED = "/health"
CONTEXT = {b"traceparent", b"tracestate"}

logger = logging.getLogger(__name__)


class Tracing:
    """`tracer` does nothing until `running`, and again after it. OTEL_SERVICE_NAME, OTEL_RESOURCE_ATTRIBUTES,
    OTEL_TRACES_SAMPLER and OTEL_EXPORTER_OTLP_HEADERS are read by the library itself."""

    def __init__(self, settings: Settings) -> None:
        self.tracer: Tracer = NoOpTracer()
        self._endpoint = settings.otel_exporter_otlp_endpoint.rstrip("/")
        ours = {
            "service.name": settings.project_name.lower(),
            "service.version": settings.version,
            "deployment.environment.name": settings.app_env,
        }
        self._resource = Resource.create(ours).merge(OTELResourceDetector().detect())

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        provider = TracerProvider(resource=self._resource, shutdown_on_exit=False)
        exporter = WatchedExporter(span_exporter(self._endpoint), self._endpoint)
        provider.add_span_processor(BatchSpanProcessor(exporter))
        self.tracer = provider.get_tracer("keel")
        try:
            yield
        finally:
            self.tracer = NoOpTracer()
            exporter.is_closing = True
            provider.shutdown()


def span_exporter(endpoint: str) -> SpanExporter:
    return OTLPSpanExporter(endpoint=f"{endpoint}/v1/traces", timeout=EXPORT_SECONDS)


class WatchedExporter(SpanExporter):
    """Says once that the collector is gone, and once that it is back; the library would say it of every batch.

    A collector that is away does not hold up the end of the process: what it has not got is lost.
    """

    def __init__(self, inner: SpanExporter, endpoint: str) -> None:
        self.is_closing = False
        self._inner = inner
        self._endpoint = endpoint
        self._is_lost = False

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        if self.is_closing and self._is_lost:
            return SpanExportResult.FAILURE
        result = self._inner.export(spans)
        is_lost = result is not SpanExportResult.SUCCESS
        if is_lost and not self._is_lost:
            logger.warning("the collector at %s does not take traces; they are lost until it does", self._endpoint)
        if self._is_lost and not is_lost:
            logger.info("the collector at %s takes traces again", self._endpoint)
        self._is_lost = is_lost
        return result

    def shutdown(self) -> None:
        self._inner.shutdown()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        return self._inner.force_flush(timeout_millis)


class TracedRequests:
    """Around all of the application: a span for each request, named by its route, in the trace of whoever asks."""

    def __init__(self, app: ASGIApp, tracing: Tracing) -> None:
        self._app = app
        self._tracing = tracing

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http" or scope["path"].startswith(UNTRACED):
            await self._app(scope, receive, send)
            return
        method = scope["method"] if scope["method"] in METHODS else "_OTHER"
        attributes = {"http.request.method": method, "url.scheme": scope["scheme"]}
        if scope["client"]:
            attributes["client.address"] = scope["client"][0]
        status = 0

        async def send_noting(message: Any) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        carrier = {name.decode(): value.decode("latin-1") for name, value in scope["headers"] if name in CONTEXT}
        with continued(self._tracing, method, carrier, kind=SpanKind.SERVER, attributes=attributes) as span:
            try:
                await self._app(scope, receive, send_noting)
            finally:
                _describe(span, scope, method, status)


def _describe(span: Span, scope: Any, method: str, status: int) -> None:
    if route := scope.get("path_template"):
        span.update_name(f"{method} {route}")
        span.set_attributes({"http.route": route, "url.path": scope["path"]})  # others may be a secret gone astray
    if request_id := scope.get("request_id"):
        span.set_attribute("keel.request_id", request_id)
    if user := scope.get("user"):
        span.set_attribute("user.id", str(user.id))
    span.set_attribute("http.response.status_code", int(status))
    if status == 0 or status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        span.set_status(Status(StatusCode.ERROR))
