"""Real processes and a collector that speaks OTLP; and one that is not there."""

import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from sqlalchemy import URL

from tests.live import LiveServer, LiveWorker, free_port, wait_until

pytestmark = pytest.mark.e2e

TRACE = "0af7651916cd43dd8448eb211c80319c"


class Collector(ThreadingHTTPServer):
    """Keeps the names of spans, by trace and by service."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.received: list[tuple[str, str, str]] = []
        self.url = f"http://127.0.0.1:{self.server_port}"

    def names(self, trace: str) -> set[str]:
        return {name for trace_id, _, name in self.received if trace_id == trace}


class Handler(BaseHTTPRequestHandler):
    server: Collector

    def do_POST(self) -> None:
        request = ExportTraceServiceRequest()
        request.ParseFromString(self.rfile.read(int(self.headers["content-length"])))
        assert self.path == "/v1/traces"
        for resource in request.resource_spans:
            service = {each.key: each.value.string_value for each in resource.resource.attributes}["service.name"]
            for scope in resource.scope_spans:
                self.server.received += [(span.trace_id.hex(), service, span.name) for span in scope.spans]
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        """Quiet."""


@pytest.fixture
def collector() -> Iterator[Collector]:
    with Collector() as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def test_a_collector_gets_one_trace_of_two_processes(
    live_database: URL,
    start_server: Callable[..., LiveServer],
    start_worker: Callable[..., LiveWorker],
    collector: Collector,
) -> None:
    settings = {"otel_exporter_otlp_endpoint": collector.url, "otel_bsp_schedule_delay": 100}
    server = start_server(live_database, **settings)
    start_worker(live_database, **settings)
    account = {"email": "ada@example.com", "password": "correct horse", "first_name": "Ada", "last_name": "L"}

    headers = {"traceparent": f"00-{TRACE}-b7ad6b7169203331-01"}
    httpx.post(f"{server.api}/auth/register", json=account, headers=headers).raise_for_status()

    expected = {"POST /api/v1/auth/register", "INSERT", "job confirmations.send_confirmation"}
    wait_until(lambda: expected <= collector.names(TRACE), seconds=20, what=lambda: str(collector.received))
    assert {service for _, service, _ in collector.received} == {"keel"}


def test_without_its_collector_a_server_answers_says_so_once_and_stops_quickly(
    live_database: URL, start_server: Callable[..., LiveServer]
) -> None:
    gone = f"http://127.0.0.1:{free_port()}"
    server = start_server(live_database, otel_exporter_otlp_endpoint=gone, otel_bsp_schedule_delay=20)
    line = f"the collector at {gone} does not take traces"

    def is_said() -> bool:
        assert httpx.get(f"{server.api}/items").status_code == 401
        return line in server.log.read_text()

    wait_until(is_said, seconds=20)
    for _ in range(50):
        is_said()

    assert server.stop() == 0
    assert server.log.read_text().count("collector") == 1
    assert "opentelemetry" not in server.log.read_text()
