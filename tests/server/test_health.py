import asyncio
import time

import pytest
import redis
from advanced_alchemy.alembic.commands import AlembicCommands
from litestar import Litestar
from litestar.testing import TestClient
from sqlalchemy import URL, NullPool, create_engine, text

from app.lib.events import EventFeed
from app.lib.settings import Settings
from app.server.asgi import build_app
from app.server.health import PATIENCE, Readiness
from app.server.plugins import alchemy_config
from tests.live import wait_until
from tests.redis_server import RedisServer

pytestmark = pytest.mark.integration


@pytest.mark.parametrize("path", ["/health", "/health/live"])
def test_a_process_that_answers_is_alive(path: str, client: TestClient[Litestar]) -> None:
    assert client.get(path).json() == {"status": "ok", "version": "0.1.0"}


def test_a_process_with_its_database_at_head_is_ready(client: TestClient[Litestar]) -> None:
    wait_until(lambda: client.get("/health/ready").status_code == 200, seconds=5)

    checks = client.get("/health/ready").json()
    assert checks == {
        "status": "ready",
        "checks": {"database": "ok", "migrations": "ok", "events": "ok", "policy": "ok"},
    }


def test_a_database_behind_the_code_is_not_ready(live_database: URL, settings: Settings) -> None:
    AlembicCommands(alchemy_config(live_database)).downgrade("base")

    with TestClient(build_app(settings, live_database)) as client:
        answer = client.get("/health/ready")

    assert answer.status_code == 503
    assert answer.json()["checks"]["migrations"] == "run `database upgrade`"


def test_a_process_serves_on_while_the_tables_are_those_of_a_newer_version(
    live_database: URL, settings: Settings
) -> None:
    """They come before its code does, and suit both: docs/operations.md."""
    with create_engine(live_database, poolclass=NullPool).begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))

    with TestClient(build_app(settings, live_database)) as client:
        assert client.get("/health/ready").json()["checks"]["migrations"] == "ok"


def test_an_application_may_be_started_again(live_database: URL, settings: Settings) -> None:
    app = build_app(settings, live_database)

    for _ in range(2):
        with TestClient(app) as client:
            assert client.get("/health/ready").status_code == 200
            assert client.get("/health/db").status_code == 200


def test_without_a_database_it_is_alive_but_not_ready(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.server.lifespan.START_PATIENCE", 0.1)

    with TestClient(build_app(settings, "postgresql+psycopg://nobody@127.0.0.1:1/nowhere")) as client:
        ready = client.get("/health/ready")
        assert client.get("/health/live").status_code == 200

    assert (ready.status_code, ready.json()) == (
        503,
        {"status": "not_ready", "checks": {"database": "unavailable"}},
    )


def test_operators_see_the_pool(client: TestClient[Litestar], live_database: URL, settings: Settings) -> None:
    with TestClient(build_app(settings, live_database)) as own:
        pool = own.get("/health/db").json()

    assert (pool["size"], pool["in_use"], pool["idle"]) == (8, 1, 0)
    assert pool["ms"] > 0


def test_operators_see_the_cache(client: TestClient[Litestar]) -> None:
    cache = client.get("/health/cache").json()

    assert (cache["store"], cache["is_available"], cache["entries"]) == ("memory", True, 0)
    assert set(cache) == {"store", "is_available", "hits", "misses", "errors", "entries", "bytes"}


def test_a_process_without_its_redis_is_ready_and_degraded(
    live_database: URL, settings: Settings, redis_server: RedisServer
) -> None:
    with TestClient(build_app(settings.model_copy(update={"redis_url": redis_server.url}), live_database)) as client:
        assert readiness(client) == (200, "ready", "ok")

        redis_server.stop()
        wait_until(lambda: readiness(client) == (200, "degraded", "unavailable"), seconds=5)
        assert client.get("/health/cache").json()["is_available"] is False

        redis_server.start()
        wait_until(lambda: readiness(client) == (200, "ready", "ok"), seconds=5)


def test_a_redis_that_keeps_the_cache_and_refuses_to_count_is_not_ok(
    live_database: URL, settings: Settings, redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.server.rate_limits.COOLDOWN", 0)
    limited = settings.model_copy(update={"redis_url": redis_server.url, "rate_limit_enabled": True})
    with TestClient(build_app(limited, live_database)) as client, redis.Redis.from_url(redis_server.url) as admin:
        admin.execute_command("ACL SETUSER", "default", "-@scripting")
        assert client.get("/health/cache").json()["is_available"] is True
        assert readiness(client) == (200, "degraded", "unavailable")

        admin.execute_command("ACL SETUSER", "default", "+@scripting")
        client.get("/health/cache")
        assert readiness(client) == (200, "ready", "ok")


def test_a_silent_redis_delays_no_probe(live_database: URL, settings: Settings, redis_server: RedisServer) -> None:
    with (
        TestClient(build_app(settings.model_copy(update={"redis_url": redis_server.url}), live_database)) as client,
        redis_server.silent(),
    ):
        durations: list[float] = []
        while not durations or readiness(client)[1] == "ready":
            began = time.monotonic()
            readiness(client)
            durations.append(time.monotonic() - began)

        assert max(durations) < PATIENCE / 2
        assert readiness(client) == (200, "degraded", "unavailable")


def readiness(client: TestClient[Litestar]) -> tuple[int, str, str]:
    answer = client.get("/health/ready")
    return answer.status_code, answer.json()["status"], answer.json()["checks"]["redis"]


def test_however_many_probe_at_once_the_database_is_asked_once(
    live_database: URL, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []
    ask = Readiness._ask

    def ask_and_count(readiness: Readiness) -> dict[str, str]:
        asked.append(1)
        return ask(readiness)

    async def probe() -> list[dict[str, str]]:
        readiness = Readiness(live_database, {"events": EventFeed(live_database)})
        answers = await asyncio.gather(*[readiness.checks() for _ in range(100)])
        readiness.close()
        return answers

    monkeypatch.setattr(Readiness, "_ask", ask_and_count)

    assert {answer["database"] for answer in asyncio.run(probe())} == {"ok"}
    assert len(asked) == 1
