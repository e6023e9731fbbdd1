"""One trace from the request through its statements to the job that it has enqueued, and into their log lines."""

import logging
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import pytest
from litestar.testing import TestClient
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode
from sqlalchemy import URL, NullPool, create_engine, select, text

from app.lib.jobs.broker import decode, saq_jobs
from app.lib.settings import Settings
from app.server.asgi import build_app
from tests.conftest import API
from tests.lib.jobs.conftest import RunningWorker
from tests.live import PASSWORD, wait_until

pytestmark = pytest.mark.integration

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
TRACEPARENT = f"00-{TRACE}-00f067aa0ba902b7-01"


class Traced:
    """An application whose spans stay here."""

    def __init__(self, client: TestClient[Any], exporter: InMemorySpanExporter) -> None:
        self.client = client
        self.app = client.app
        self._exporter = exporter

    def register(self, **headers: str) -> str:
        email = f"{uuid4().hex}@example.com"
        account = {"email": email, "password": PASSWORD, "first_name": "Ada", "last_name": "Lovelace"}
        answer = self.client.post(f"{API}/auth/register", json=account, headers=headers)
        return str(answer.raise_for_status().headers["x-request-id"])

    def spans(self, *, until: str) -> list[ReadableSpan]:
        """All there are, once one has this name."""
        wait_until(lambda: until in {span.name for span in self._exporter.get_finished_spans()}, seconds=15)
        return list(self._exporter.get_finished_spans())


@pytest.fixture
def traced(settings: Settings, live_database: URL, monkeypatch: pytest.MonkeyPatch) -> Iterator[Traced]:
    exporter = InMemorySpanExporter()
    monkeypatch.setattr("app.server.tracing.span_exporter", lambda _: exporter)
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "20")
    watched = settings.model_copy(update={"otel_exporter_otlp_endpoint": "http://collector.test"})
    with TestClient(build_app(watched, live_database), raise_server_exceptions=False) as client:
        yield Traced(client, exporter)


def test_request_statements_job_and_log_lines_have_one_trace(
    traced: Traced, live_database: URL, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, logger="app"):
        request_id = traced.register(traceparent=TRACEPARENT)
        worker = RunningWorker(traced.app.state.build_worker(concurrency=1, grace=5))
        try:
            spans = traced.spans(until="job confirmations.send_confirmation")
        finally:
            worker.stop()
            worker.worker.database.dispose()

    ours = [span for span in spans if span.context and f"{span.context.trace_id:032x}" == TRACE]
    [request] = [span for span in ours if span.kind is SpanKind.SERVER]
    [job] = [span for span in ours if span.kind is SpanKind.CONSUMER]
    statements = [span for span in ours if span.kind is SpanKind.CLIENT]
    assert request.name == f"POST {API}/auth/register"
    assert (request.attributes or {})["keel.request_id"] == request_id
    assert request.context
    assert request.parent
    assert f"{request.parent.span_id:016x}" == TRACEPARENT.split("-")[2]
    assert job.parent
    assert job.parent.span_id == request.context.span_id
    assert {span.parent.span_id for span in statements if span.parent} == {
        request.context.span_id,
        job.context.span_id if job.context else 0,
    }
    assert "INSERT" in {span.name for span in statements}
    lines = [dict(record.msg) for record in caplog.records if isinstance(record.msg, dict)]
    said = {line["event"]: line["trace_id"] for line in lines if line.get("request_id") == request_id}
    assert said == {"request": TRACE, "job done": TRACE}


def test_of_what_a_caller_says_of_its_trace_no_text_is_stored(traced: Traced, live_database: URL) -> None:
    said = {"traceparent": TRACEPARENT, "tracestate": "vendor=sesame", "baggage": "user=sesame"}

    traced.register(**said)

    with create_engine(live_database, poolclass=NullPool).connect() as connection:
        jobs = [decode(stored) for stored in connection.scalars(select(saq_jobs.c.job))]
    [meta] = [job.meta for job in jobs]
    assert set(meta) == {"request_id", "traceparent"}
    assert TRACE in meta["traceparent"]


def test_no_value_of_a_statement_and_no_text_of_an_error_is_in_a_span(traced: Traced) -> None:
    traced.register()
    traced.client.post(f"{API}/auth/login", json={"email": "sesame@example.com", "password": PASSWORD})
    spans = traced.spans(until=f"POST {API}/auth/login")

    told = " ".join(str((span.attributes, span.events, span.status.description)) for span in spans)
    assert "db.query.text" in told
    assert "sesame" not in told
    assert PASSWORD not in told
    assert "argon2" not in told


def test_what_goes_wrong_is_marked(traced: Traced, live_database: URL, monkeypatch: pytest.MonkeyPatch) -> None:
    with create_engine(live_database, poolclass=NullPool).begin() as connection:
        connection.execute(text("DROP TABLE users CASCADE"))

    traced.client.post(f"{API}/auth/login", json={"email": "ada@example.com", "password": PASSWORD})
    traced.client.get("/nowhere/at/all")

    spans = {span.name: span for span in traced.spans(until="GET")}
    assert spans[f"POST {API}/auth/login"].status.status_code is StatusCode.ERROR
    assert "42P01" in {(span.attributes or {}).get("error.type") for span in spans.values()}
    assert spans["GET"].status.status_code is StatusCode.UNSET


def test_what_strangers_make_up_is_in_no_span(traced: Traced) -> None:
    traced.client.request("SESAME", "/nowhere")
    traced.client.get(f"{API}/password=sesame")
    traced.client.get(f"{API}/items/{'0' * 32}")
    spans = traced.spans(until=f"GET {API}/items/{{item_id}}")

    assert "sesame" not in " ".join(str((span.name, span.attributes)) for span in spans).lower()
    assert {"_OTHER", "GET"} < {span.name for span in spans}


def test_probes_are_not_traced_and_feeds_neither(traced: Traced) -> None:
    assert traced.client.get("/health/ready").status_code == 200
    traced.client.get("/nowhere/at/all")

    assert {span.name for span in traced.spans(until="GET")} == {"GET"}


def test_a_traceparent_that_is_none_starts_a_trace(traced: Traced) -> None:
    for given in ("nonsense", "00-0-0-00", "ff" * 500):
        traced.client.get("/nowhere/at/all", headers={"traceparent": given})
    traced.client.delete("/nowhere/at/all")

    assert {span.parent for span in traced.spans(until="DELETE")} == {None}
