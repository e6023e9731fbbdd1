"""SIGTERM under load: whoever was let in gets an answer, and the process ends in order."""

import contextlib
import http.client
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from sqlalchemy import URL, Connection, NullPool, create_engine, text
from sqlalchemy.orm import Session

from app.lib.jobs.broker import enqueue
from app.server.serving.supervisor import Serving
from tests.e2e.jobs_application import APPLICATION, create_tables, leave_effect
from tests.live import LiveWorker, free_port, wait_until
from tests.served import ServedApi

pytestmark = pytest.mark.e2e

IN_FLIGHT = 100
ITEM = b'{"title": "Item %3d"}'
BEGINNING = 10
JSON = {"Content-Type": "application/json"}
WAITING = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
ACCOUNT = {"password": "correct horse battery staple", "first_name": "Ada", "last_name": "Lovelace"}


@pytest.fixture
def serve(live_database: URL, tmp_path: Path) -> Iterator[Callable[..., ServedApi]]:
    """`serve("--drain", "1")` is `litestar serve` with these options, `serve(drain=1)` is what it becomes."""
    started: list[ServedApi] = []

    def prepare(*options: str, drain: float = 0, grace: int = 60) -> ServedApi:
        becomes = Serving(host="127.0.0.1", port=free_port(), workers=1, drain=drain, grace=grace)
        log = tmp_path / f"api-{len(started)}.log"
        started.append(ServedApi(live_database, *options, log=log, serving=None if options else becomes))
        return started[-1]

    yield prepare
    for api in started:
        api.stop()


@pytest.fixture
def database(live_database: URL) -> Iterator[Connection]:
    engine = create_engine(live_database, poolclass=NullPool, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        yield connection


def scalar(database: Connection, query: str) -> int:
    found: int = database.scalar(text(query))
    return found


def test_sigterm_with_100_requests_in_flight_answers_every_one_of_them(
    serve: Callable[..., ServedApi], database: Connection
) -> None:
    api = serve("--workers", "2", "--drain", "2")
    api.start()
    token = sign_up(api)
    with contextlib.ExitStack() as stack:
        idle, busy, *uploading = [
            stack.enter_context(contextlib.closing(http.client.HTTPConnection("127.0.0.1", api.port, timeout=30)))
            for _ in range(2 + IN_FLIGHT)
        ]
        for connection in (idle, busy):
            connection.request("GET", "/health/live")
            connection.getresponse().read()
        for connection in uploading:
            begin_item(connection, token)

        api.tell_to_stop()
        wait_until(lambda: api.status("/health/ready") == 503, seconds=10, what="it to be not ready")
        busy.request("GET", "/health/live")
        answer = busy.getresponse()
        assert (answer.status, answer.headers["Connection"]) == (200, "close")
        wait_until(lambda: not api.is_listening(), seconds=10, what="it to let nobody in")

        assert [finish_item(connection, number) for number, connection in enumerate(uploading)] == [201] * IN_FLIGHT
        assert api.exit_code(seconds=10) == 0
        assert idle.sock.recv(1) == b""
    assert scalar(database, "SELECT count(DISTINCT title) FROM items") == IN_FLIGHT


def begin_item(connection: http.client.HTTPConnection, token: str) -> None:
    """The head of the request, and as much of the body as all have in common."""
    connection.putrequest("POST", "/api/v1/items")
    for name, value in {"Authorization": f"Bearer {token}", **JSON, "Content-Length": str(len(ITEM % 0))}.items():
        connection.putheader(name, value)
    connection.endheaders(ITEM[:BEGINNING])


def finish_item(connection: http.client.HTTPConnection, number: int) -> int:
    connection.send((ITEM % number)[BEGINNING:])
    return connection.getresponse().status


def sign_up(api: ServedApi) -> str:
    with api.client() as client:
        client.post("/api/v1/auth/register", json={"email": "ada@example.com", **ACCOUNT}).raise_for_status()
        login = {"email": "ada@example.com", "password": ACCOUNT["password"]}
        token: str = client.post("/api/v1/auth/login", json=login).raise_for_status().json()["access_token"]
        return token


def test_a_second_signal_ends_the_drain_and_clients_that_never_finish_get_no_more_than_the_grace(
    serve: Callable[..., ServedApi],
) -> None:
    api = serve(drain=600, grace=2)
    api.start()
    head = b"POST /api/v1/auth/login HTTP/1.1\r\nHost: keel.test\r\nContent-Type: application/json\r\n"
    with socket.create_connection(("127.0.0.1", api.port)) as client:
        client.sendall(head + b'Content-Length: 99\r\n\r\n{"email":')
        api.tell_to_stop()
        wait_until(lambda: api.status("/health/ready") == 503, seconds=10, what="it to be not ready")
        began = time.monotonic()
        api.tell_to_stop()

        assert api.exit_code(seconds=20) == 0
        assert time.monotonic() - began > 1.5
        assert "refused to gracefully stop" in api.log.read_text()


def test_it_can_be_stopped_while_it_starts(serve: Callable[..., ServedApi]) -> None:
    api = serve()
    api.begin()
    wait_until(lambda: "Spawning worker-1" in api.log.read_text(), seconds=30)

    api.tell_to_stop()

    assert api.exit_code(seconds=10) == 0


def test_a_worker_that_is_told_to_stop_finishes_its_jobs_and_leaves_the_others(
    live_database: URL, database: Connection, start_worker: Callable[..., LiveWorker]
) -> None:
    create_tables(live_database)
    worker = start_worker(live_database, application=APPLICATION, job_concurrency=2)
    engine = create_engine(live_database, poolclass=NullPool)
    with engine.connect() as lock:
        lock.execute(text("LOCK TABLE effects IN SHARE MODE"))
        with Session(engine) as session, session.begin():
            for number in range(5):
                enqueue(session, leave_effect, number=number)
        wait_until(lambda: scalar(database, WAITING) == 2, seconds=4, what="two jobs to wait for the lock")
        worker.tell_to_stop()
        wait_until(lambda: "waiting for running jobs" in worker.log.read_text(), seconds=4)
        lock.rollback()

    assert worker.exit_code(seconds=10) == 0
    assert scalar(database, "SELECT count(*) FROM effects") == 2

    start_worker(live_database, application=APPLICATION)
    wait_until(lambda: scalar(database, "SELECT count(*) FROM effects") == 5, seconds=10)
    assert scalar(database, "SELECT count(DISTINCT number) FROM effects") == 5
