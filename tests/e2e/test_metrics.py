"""Two processes of the API and a worker on one port of metrics: whichever answers, answers for all."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families
from sqlalchemy import URL

from tests.live import LiveServer, LiveWorker, free_port, wait_until

pytestmark = pytest.mark.e2e

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


def scrape(port: int) -> Samples:
    """The kernel may have given the connection to a process that was just being killed: then the next one gets it."""
    with httpx.Client(transport=httpx.HTTPTransport(retries=3)) as client:
        text = client.get(f"http://127.0.0.1:{port}/metrics").raise_for_status().text
    families = text_string_to_metric_families(text)
    return {(each.name, frozenset(each.labels.items())): each.value for one in families for each in one.samples}


def value(samples: Samples, metric: str, **labels: str) -> float:
    return samples.get((metric, frozenset(labels.items())), 0.0)


def test_any_process_answers_for_all_and_the_dead_stay_counted(
    live_database: URL,
    start_server: Callable[..., LiveServer],
    start_worker: Callable[..., LiveWorker],
    tmp_path: Path,
) -> None:
    port = free_port()
    settings: dict[str, Any] = {"metrics_port": port, "local_dir": tmp_path / "local"}
    server = start_server(live_database, workers=2, **settings)
    worker = start_worker(live_database, **settings)
    items = {"method": "GET", "route": "/api/v1/items", "status": "401"}
    job = {"name": "confirmations.send_confirmation", "outcome": "complete"}
    for _ in range(20):
        httpx.get(f"{server.api}/items")  # each over a connection of its own, so both processes have some
    httpx.request("ODD", f"{server.url}/nowhere/at/all")
    email = server.sign_up()
    httpx.post(f"{server.api}/auth/login", json={"email": email, "password": "wrong"})

    def is_complete(samples: Samples) -> bool:
        return (
            value(samples, "keel_http_requests_total", **items) == 20
            and value(samples, "keel_http_requests_total", method="other", route="unknown", status="404") == 1
            and value(samples, "keel_problems_total", code="invalid_credentials") == 1
            and value(samples, "keel_audit_events_total", action="session.created", outcome="failure") == 1
            and value(samples, "keel_jobs_total", **job) == 1
            and value(samples, "keel_processes", kind="api") == 2
            and value(samples, "keel_processes", kind="worker") == 1
            and value(samples, "keel_db_pool_size", pool="primary") == 8 + 8 + 5
            and value(samples, "keel_job_queue", state="dead") == 0
        )

    for _ in range(10):  # the kernel chooses who answers
        wait_until(
            lambda: is_complete(scrape(port)), seconds=20, what=lambda: "\n".join(map(str, scrape(port).items()))
        )

    worker.kill()
    wait_until(lambda: value(scrape(port), "keel_processes", kind="worker") == 0, seconds=10)
    assert value(scrape(port), "keel_jobs_total", **job) == 1
    assert value(scrape(port), "keel_db_pool_size", pool="primary") == 8 + 8
