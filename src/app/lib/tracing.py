"""Spans for what happens below a request or a job (OpenTelemetry). Where nobody traces, there is nothing to pay."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Protocol

from opentelemetry import trace
from opentelemetry.trace import Span, SpanKind, Status, StatusCode, Tracer
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from sqlalchemy import Connection, Engine, ExceptionContext, event

LONGEST_STATEMENT = 2000
_W3C = TraceContextTextMapPropagator()
_SPAN = "keel_span"
"""Where a connection keeps the span of the statement that it runs."""


class Traces(Protocol):
    """Whoever has the tracer, which does nothing before the process has started."""

    tracer: Tracer


def trace_context() -> dict[str, str]:
    """The `traceparent` of what is being done (W3C), for whoever goes on with it elsewhere, or nothing.

    Not the `tracestate`, nor baggage: those are texts of whoever sent the request, and this is stored.
    """
    carrier: dict[str, str] = {}
    if trace.get_current_span().get_span_context().is_valid:
        _W3C.inject(carrier)
    return {name: value for name, value in carrier.items() if name == "traceparent"}


def trace_ids() -> dict[str, str]:
    """For log lines."""
    context = trace.get_current_span().get_span_context()
    if not context.is_valid:
        return {}
    return {"trace_id": trace.format_trace_id(context.trace_id), "span_id": trace.format_span_id(context.span_id)}


@contextmanager
def continued(
    traces: Traces, name: str, carrier: Mapping[str, str], *, kind: SpanKind, attributes: Mapping[str, Any]
) -> Iterator[Span]:
    """A span in the trace that the carrier tells of. Texts of errors hold secrets, so spans have none."""
    with traces.tracer.start_as_current_span(
        name,
        context=_W3C.extract(carrier),
        kind=kind,
        attributes=dict(attributes),
        record_exception=False,
        set_status_on_exception=False,
    ) as span:
        yield span


def trace_statements(engine: Engine, traces: Traces) -> None:
    """A span for each statement that runs inside of another span. Its values are not in it."""

    def begin(connection: Connection, _cursor: Any, statement: str, _values: Any, _context: Any, is_many: bool) -> None:  # noqa: FBT001  (SQLAlchemy's signature)
        if not trace.get_current_span().is_recording():
            return
        operation = statement.lstrip().partition(" ")[0].partition("\n")[0].upper()
        attributes = {
            "db.system.name": "postgresql",
            "db.operation.name": operation,
            "db.query.text": statement[:LONGEST_STATEMENT],
            "db.namespace": connection.engine.url.database or "",
        }
        name = f"{operation} many" if is_many else operation
        connection.info[_SPAN] = traces.tracer.start_span(name, kind=SpanKind.CLIENT, attributes=attributes)

    def end(connection: Connection, *_: Any) -> None:
        if span := connection.info.pop(_SPAN, None):
            span.end()

    def fail(failure: ExceptionContext) -> None:
        span = failure.connection.info.pop(_SPAN, None) if failure.connection else None
        if span:
            kind = type(failure.original_exception).__name__
            span.set_attribute("error.type", getattr(failure.original_exception, "sqlstate", None) or kind)
            span.set_status(Status(StatusCode.ERROR))
            span.end()

    event.listen(engine, "before_cursor_execute", begin)
    event.listen(engine, "after_cursor_execute", end)
    event.listen(engine, "handle_error", fail)
