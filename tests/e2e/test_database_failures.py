"""The database refuses, dies or is away: the answer says what is stored, and everything goes on by itself."""

import logging
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from advanced_alchemy.alembic.commands import AlembicCommands
from sqlalchemy import URL, Connection, NullPool, create_engine, make_url, text

from app.server.plugins import alchemy_config
from app.server.postgres.embedded import EmbeddedPostgres
from tests.live import LiveServer, wait_until

pytestmark = pytest.mark.e2e
logger = logging.getLogger(__name__)
StartServer = Callable[..., LiveServer]

ONE_PER_TITLE = """
    ALTER TABLE items ADD CONSTRAINT one_per_title UNIQUE (owner_id, title) DEFERRABLE INITIALLY DEFERRED
"""
FAIL_AT_COMMIT = """
    CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RAISE ''not today''; END';
    CREATE CONSTRAINT TRIGGER fail_at_commit AFTER INSERT ON items DEFERRABLE INITIALLY DEFERRED
        FOR EACH ROW EXECUTE FUNCTION fail()
"""
WAIT_AT_INSERT = """
    CREATE FUNCTION wait() RETURNS trigger LANGUAGE plpgsql AS
        'BEGIN PERFORM pg_advisory_xact_lock_shared(1); RETURN NEW; END';
    CREATE TRIGGER wait_at_insert BEFORE INSERT ON items FOR EACH ROW EXECUTE FUNCTION wait()
"""
"""An INSERT stands still for as long as somebody else holds the lock."""

WAITING = text("SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND wait_event = 'advisory'")
KILL = text("SELECT pg_terminate_backend(:pid, 5000)")
KILL_ALL = text(
    "SELECT count(pg_terminate_backend(pid, 5000)) FROM pg_stat_activity "
    "WHERE datname = current_database() AND application_name = 'keel'"
)


@contextmanager
def fresh(url: URL) -> Iterator[Connection]:
    engine = create_engine(url, poolclass=NullPool, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        yield connection


def titles(url: URL) -> list[str]:
    """What is stored, as somebody else sees it."""
    with fresh(url) as connection:
        return list(connection.scalars(text("SELECT title FROM items ORDER BY title")))


@contextmanager
def signed_in(server: LiveServer) -> Iterator[httpx.Client]:
    token = server.sign_in(server.sign_up())["access_token"]
    with server.client(headers={"Authorization": f"Bearer {token}"}) as client:
        yield client


def create_item(client: httpx.Client, title: str) -> httpx.Response:
    return client.post("/items", json={"title": title})


def problem(answer: httpx.Response) -> tuple[int, str]:
    """The status and the code of an answer that must be a problem."""
    assert answer.headers["content-type"] == "application/problem+json"
    body: dict[str, Any] = answer.json()
    assert body["status"] == answer.status_code
    return answer.status_code, body["code"]


def test_a_commit_refused_by_a_deferred_constraint_is_a_conflict(live_database: URL, start_server: StartServer) -> None:
    with fresh(live_database) as connection:
        connection.execute(text(ONE_PER_TITLE))
    with signed_in(start_server(live_database)) as client:
        assert create_item(client, "Buy milk").status_code == httpx.codes.CREATED
        assert problem(create_item(client, "Buy milk")) == (httpx.codes.CONFLICT, "conflict")
        assert titles(live_database) == ["Buy milk"]
        assert create_item(client, "Buy bread").status_code == httpx.codes.CREATED


def test_a_commit_that_fails_for_a_reason_nobody_foresaw_is_500_and_stores_nothing(
    live_database: URL, start_server: StartServer
) -> None:
    with fresh(live_database) as connection:
        connection.execute(text(FAIL_AT_COMMIT))
    with signed_in(start_server(live_database)) as client:
        answer = create_item(client, "Buy milk")
        assert problem(answer) == (httpx.codes.INTERNAL_SERVER_ERROR, "internal_error")
        assert "not today" not in answer.text
        assert titles(live_database) == []
        assert client.get("/items").status_code == httpx.codes.OK


def creation_killed(url: URL, client: httpx.Client, *, times: int) -> httpx.Response:
    """Create an item, whose backend is killed that many times while it inserts."""
    with fresh(url) as connection, ThreadPoolExecutor(1) as threads:
        connection.execute(text(WAIT_AT_INSERT))
        connection.execute(text("SELECT pg_advisory_lock(1)"))
        answer: Future[httpx.Response] = threads.submit(create_item, client, "Buy milk")
        for _ in range(times):
            wait_until(lambda: connection.scalar(WAITING) is not None, seconds=5)
            assert connection.scalar(KILL, {"pid": connection.scalar(WAITING)})
        connection.execute(text("SELECT pg_advisory_unlock(1)"))
        return answer.result(10)


def test_a_backend_killed_before_commit_costs_the_caller_nothing(live_database: URL, start_server: StartServer) -> None:
    with signed_in(start_server(live_database)) as client:
        assert creation_killed(live_database, client, times=1).status_code == httpx.codes.CREATED
        assert titles(live_database) == ["Buy milk"]


def test_a_backend_killed_twice_is_503_and_stores_nothing(live_database: URL, start_server: StartServer) -> None:
    with signed_in(start_server(live_database)) as client:
        answer = creation_killed(live_database, client, times=2)
        assert problem(answer) == (httpx.codes.SERVICE_UNAVAILABLE, "overloaded")
        assert int(answer.headers["retry-after"]) >= 1
        assert titles(live_database) == []
        assert create_item(client, "Buy bread").status_code == httpx.codes.CREATED


def test_connections_killed_while_idle_are_replaced_unnoticed(live_database: URL, start_server: StartServer) -> None:
    with signed_in(start_server(live_database)) as client, fresh(live_database) as connection:
        assert connection.scalar(KILL_ALL)
        assert create_item(client, "Buy milk").status_code == httpx.codes.CREATED
        assert connection.scalar(KILL_ALL)
        assert client.get("/items").json()["total"] == 1


def test_everything_recovers_by_itself_after_the_database_was_away(tmp_path: Path, start_server: StartServer) -> None:
    with EmbeddedPostgres(tmp_path / "postgres", durable=False) as postgres:
        url = make_url(postgres.url())
        AlembicCommands(alchemy_config(url)).upgrade()
        one, other = start_server(url), start_server(url)
        with signed_in(one) as at_one, other.client(headers=at_one.headers) as at_other:
            postgres.stop()
            assert at_one.get(f"{one.url}/health/live").status_code == httpx.codes.OK
            assert at_one.get(f"{one.url}/health/ready", timeout=3).status_code == httpx.codes.SERVICE_UNAVAILABLE
            for refused in (at_one.get("/items"), create_item(at_one, "Buy milk")):
                assert problem(refused) == (httpx.codes.SERVICE_UNAVAILABLE, "overloaded")
                assert int(refused.headers["retry-after"]) >= 1

            postgres.start()
            back = wait_until(lambda: create_item(at_one, "Buy milk").status_code == httpx.codes.CREATED, seconds=5)
            wait_until(lambda: one.is_ready() and other.is_ready(), seconds=5)
            assert titles(url) == ["Buy milk"]
            assert at_other.get("/items").json()["total"] == 1
            assert at_one.post("/auth/logout").status_code == httpx.codes.NO_CONTENT
            heard = wait_until(lambda: at_other.get("/items").status_code == httpx.codes.UNAUTHORIZED, seconds=5)
            logger.info("back after %.2f s, log-out heard after %.2f s", back, heard)
