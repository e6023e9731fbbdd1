"""Limits as callers meet them, through HTTP and from addresses of the test's choice."""

import asyncio
import contextlib
import logging
import socket
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from typing import Any
from uuid import UUID, uuid4

import pytest
from litestar import Litestar
from sqlalchemy import URL

from app.lib.access.guards import Principal
from app.lib.settings import Settings
from app.server import rate_limits
from app.server.asgi import build_app
from app.server.rate_limits import RateLimiter
from app.server.resources import access_tokens
from tests.callers import Callers
from tests.conftest import API
from tests.redis_server import RedisServer

pytestmark = pytest.mark.integration

LIMITS = {
    "rate_limit_sign_in": "10/minute",
    "rate_limit_refresh": "10/minute",
    "rate_limit_write": "20/minute",
    "rate_limit_read": "30/minute",
}


class Limited(Callers):
    """An application with limits, and tokens for accounts."""

    def __init__(self, app: Litestar, settings: Settings) -> None:
        super().__init__(app)
        self._tokens = access_tokens(settings)

    def as_account(self, account: UUID) -> dict[str, str]:
        principal = Principal(id=account, session_id=uuid4(), is_superuser=False, authenticated_at=1_764_000_000)
        return {"Authorization": f"Bearer {self._tokens.issue(principal)}"}

    def refresh(self, *, times: int = 1, **options: Any) -> Counter[int]:
        """A public route: with a token that nobody has issued, whoever is let through gets a 401."""
        answers = self.call("POST", f"{API}/auth/refresh", times=times, json={"refresh_token": "x" * 43}, **options)
        return Counter(answer.status_code for answer in answers)

    def read(self, account: UUID, *, times: int = 1, **options: Any) -> Counter[int]:
        answers = self.call("GET", f"{API}/items", times=times, headers=self.as_account(account), **options)
        return Counter(answer.status_code for answer in answers)


StartApp = Callable[..., Limited]


@pytest.fixture
def start_app(settings: Settings, database_url: URL) -> Iterator[StartApp]:
    """Build and start the application with limits."""
    with contextlib.ExitStack() as stack:

        def start(**changes: Any) -> Limited:
            limited = settings.model_copy(update={"rate_limit_enabled": True, **LIMITS, **changes})
            callers = Limited(build_app(limited, database_url), limited)
            callers.start()
            stack.callback(callers.stop)
            return callers

        yield start


@pytest.fixture
def callers(start_app: StartApp) -> Limited:
    return start_app()


def test_100_at_once_and_exactly_10_are_let_through(callers: Limited) -> None:
    assert callers.refresh(times=100) == {401: 10, 429: 90}


def test_with_redis_exactly_as_many_and_other_processes_know(
    start_app: StartApp, redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rate_limits, "PATIENCE", 60)  # the machine may be busy, and Redis is not to be given up
    one, other = (start_app(redis_url=redis_server.url) for _ in range(2))

    assert one.refresh(times=100) == {401: 10, 429: 90}
    assert other.refresh(times=5) == {429: 5}


def test_the_headers_tell_what_is_left(callers: Limited) -> None:
    first, second = (callers.call("GET", f"{API}/items")[0] for _ in range(2))

    for answer, remaining in ((first, "29"), (second, "28")):
        assert answer.status_code == 401
        assert answer.headers["ratelimit-limit"] == "30"
        assert answer.headers["ratelimit-remaining"] == remaining
        assert 30 <= int(answer.headers["ratelimit-reset"]) <= 60
        assert "retry-after" not in answer.headers


def test_a_refusal_is_a_problem_that_says_when_to_come_back(callers: Limited) -> None:
    callers.refresh(times=10)

    [answer] = callers.call("POST", f"{API}/auth/refresh", json={})

    assert answer.status_code == 429
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["code"] == "too_many_requests"
    assert answer.headers["ratelimit-remaining"] == "0"
    assert answer.headers["ratelimit-reset"] == answer.headers["retry-after"]
    assert 30 <= int(answer.headers["retry-after"]) <= 60


def test_two_accounts_behind_one_address_have_a_limit_each(callers: Limited) -> None:
    ada, grace = uuid4(), uuid4()

    assert callers.read(ada, times=40) == {200: 30, 429: 10}
    assert callers.read(grace) == {200: 1}


def test_one_account_has_one_limit_wherever_it_calls_from(callers: Limited) -> None:
    ada = uuid4()
    callers.read(ada, times=20, peer="203.0.113.1")

    assert callers.read(ada, times=20, peer="203.0.113.2") == {200: 10, 429: 10}


def test_each_class_has_its_own_count(callers: Limited) -> None:
    ada = uuid4()
    writes = callers.call("DELETE", f"{API}/items/{uuid4()}", times=25, headers=callers.as_account(ada))

    assert Counter(answer.status_code for answer in writes) == {404: 20, 429: 5}
    assert callers.read(ada) == {200: 1}


def test_a_neighbours_sign_ins_keep_nobody_from_refreshing(callers: Limited) -> None:
    answers = callers.call("POST", f"{API}/auth/login", times=20, json={})

    assert Counter(answer.status_code for answer in answers) == {400: 10, 429: 10}
    assert callers.refresh() == {401: 1}


def test_what_its_address_is_refused_does_not_count_for_the_account(callers: Limited) -> None:
    account = callers.as_account(uuid4())
    callers.refresh(times=10)

    assert callers.refresh(headers=account, times=20) == {429: 20}

    assert callers.refresh(headers=account, peer="203.0.113.2", times=10) == {401: 10}


def test_public_routes_count_the_address_also_of_those_who_are_signed_in(callers: Limited) -> None:
    accounts = [callers.as_account(uuid4()) for _ in range(11)]

    assert [callers.refresh(headers=account) for account in accounts] == [{401: 1}] * 10 + [{429: 1}]
    assert callers.refresh(peer="203.0.113.2") == {401: 1}


def test_public_routes_count_the_account_as_well(callers: Limited) -> None:
    account = callers.as_account(uuid4())

    assert [callers.refresh(headers=account, peer=f"203.0.113.{host}") for host in range(11)][-1] == {429: 1}


@pytest.mark.parametrize(
    ("other", "is_the_same"),
    [("2001:db8:1:2:ffff::9", True), ("2001:db8:1:3::1", False), ("203.0.113.1", False)],
)
def test_a_64_of_ipv6_is_one_caller(other: str, is_the_same: bool, callers: Limited) -> None:
    callers.refresh(times=10, peer="2001:db8:1:2::1")

    assert callers.refresh(peer=other) == ({429: 1} if is_the_same else {401: 1})


@pytest.mark.parametrize("header", ["X-Forwarded-For", "X-Real-IP", "Forwarded", "CF-Connecting-IP"])
def test_a_header_that_anybody_can_send_makes_nobody_else_of_a_caller(header: str, start_app: StartApp) -> None:
    callers = start_app(trusted_proxies=("10.0.0.0/8",))

    def claim(host: int) -> dict[str, str]:
        return {header: f"for=198.51.100.{host}" if header == "Forwarded" else f"198.51.100.{host}"}

    assert sum((callers.refresh(headers=claim(host)) for host in range(20)), Counter()) == {401: 10, 429: 10}


def test_behind_a_trusted_proxy_the_forwarded_address_counts(start_app: StartApp) -> None:
    callers = start_app(trusted_proxies=("10.0.0.0/8",))

    def forwarded(chain: str) -> Counter[int]:
        return callers.refresh(times=10, peer="10.0.0.1", headers={"X-Forwarded-For": chain})

    assert forwarded("198.51.100.1") == {401: 10}
    assert forwarded("198.51.100.2") == {401: 10}
    assert forwarded("192.0.2.1, 198.51.100.1") == {429: 10}, "what stands before the proxy's own entry is a claim"


@pytest.mark.parametrize(
    ("app_env", "proxies", "warnings"), [("production", (), 1), ("production", ("203.0.113.1",), 0), ("test", (), 0)]
)
def test_production_says_once_that_it_trusts_no_proxy_although_there_seems_to_be_one(
    app_env: str, proxies: tuple[str, ...], warnings: int, start_app: StartApp, caplog: pytest.LogCaptureFixture
) -> None:
    callers = start_app(app_env=app_env, trusted_proxies=proxies)
    callers.refresh()
    assert not caplog.records

    callers.refresh(times=5, headers={"X-Forwarded-For": "198.51.100.1"})

    assert len([record for record in caplog.records if "TRUSTED_PROXIES" in record.getMessage()]) == warnings


@pytest.mark.parametrize(
    "path",
    [
        *("/health", "/health/live", "/health/ready", f"{API}/docs", f"{API}/redoc", f"{API}/openapi.json"),
        f"{API}/docs/assets/swagger-ui-dist/swagger-ui.css",
    ],
)
def test_probes_and_documentation_are_not_counted(path: str, start_app: StartApp) -> None:
    callers = start_app(rate_limit_read="1/hour")

    answers = callers.call("GET", path, times=5)

    assert {answer.status_code for answer in answers} == {200}
    assert not [name for answer in answers for name in answer.headers if name.startswith("ratelimit")]


@pytest.mark.parametrize("path", ["/health/db", "/health/cache"])
def test_health_routes_that_tell_figures_are_counted(path: str, start_app: StartApp) -> None:
    answers = start_app(rate_limit_read="5/hour").call("GET", path, times=6)

    assert Counter(answer.status_code for answer in answers) == {200: 5, 429: 1}


def test_browsers_of_other_origins_may_read_the_refusal(start_app: StartApp) -> None:
    callers = start_app(rate_limit_read="1/hour", backend_cors_origins=("https://app.example.com",))
    origin = {"Origin": "https://app.example.com"}

    answers = callers.call("GET", f"{API}/items", times=2, headers=origin)

    assert [answer.status_code for answer in answers] == [401, 429]
    for answer in answers:
        assert answer.headers["access-control-allow-origin"] == "https://app.example.com"
        shown = answer.headers["access-control-expose-headers"].lower().split(", ")
        assert {"ratelimit-limit", "ratelimit-remaining", "ratelimit-reset", "retry-after"} <= set(shown)


def test_without_limits_nothing_is_counted(start_app: StartApp) -> None:
    callers = start_app(rate_limit_enabled=False)

    assert callers.refresh(times=30) == {401: 30}


def test_redis_lets_one_more_through_when_it_said(redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rate_limits, "PATIENCE", 60)

    async def scenario() -> float:
        async with running(RateLimiter({"read": "2/4second"}, redis_url=redis_server.url)) as hit:
            began = time.monotonic()
            windows = [await hit() for _ in range(3)]
            assert [(window.is_admitted, window.remaining) for window in windows] == [(True, 1), (True, 0), (False, 0)]
            assert windows[-1].reset in {3, 4}
            while not (await hit()).is_admitted:
                pass
            return time.monotonic() - began

    assert 4 <= asyncio.run(scenario()) < 7


def test_a_redis_that_hangs_is_waited_for_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(rate_limits, "PATIENCE", 1)

    async def scenario(port: int) -> list[float]:
        async with running(RateLimiter({"read": "1000/hour"}, redis_url=f"redis://127.0.0.1:{port}")) as hit:
            return [await seconds(hit) for _ in range(100)]

    with socket.create_server(("127.0.0.1", 0)) as silent, caplog.at_level(logging.INFO):
        first, *others = asyncio.run(scenario(silent.getsockname()[1]))

    assert 1 <= first < 4
    assert sum(others) < 1
    assert [record.levelname for record in caplog.records if record.name == rate_limits.__name__] == ["WARNING"]


@contextlib.asynccontextmanager
async def running(limiter: RateLimiter) -> Any:
    yield lambda: limiter.hit("read", "ada")
    await limiter.close()


async def seconds(hit: Callable[[], Awaitable[Any]]) -> float:
    began = time.monotonic()
    await hit()
    return time.monotonic() - began
