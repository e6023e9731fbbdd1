import asyncio
import contextlib
import logging
from collections.abc import Iterator
from typing import Any

import pytest
from litestar import Litestar
from litestar.testing import TestClient
from sqlalchemy import URL

from app.lib.settings import Settings
from app.server import envelope
from app.server.asgi import build_app
from app.server.envelope import SLOWEST_BODY, Body, Envelope
from app.server.request import SlowRequestError
from app.server.serving.drain import Drain
from tests.conftest import API
from tests.request_lines import request_lines

pytestmark = pytest.mark.integration
Client = TestClient[Litestar]


@pytest.fixture
def production(settings: Settings, database_url: URL) -> Iterator[Client]:
    """The application as production would configure it, behind one proxy."""
    strict = settings.model_copy(
        update={
            "app_env": "production",
            "allowed_hosts": ("api.example.com",),
            "backend_cors_origins": ("https://app.example.com",),
            "trusted_proxies": ("10.0.0.0/8",),
        }
    )
    with TestClient(build_app(strict, database_url), base_url="https://api.example.com") as client:
        yield client


@pytest.mark.parametrize("path", ["/health", "/nowhere", f"{API}/items", f"{API}/docs"])
def test_every_answer_carries_the_headers_that_browsers_obey(path: str, client: Client) -> None:
    headers = client.get(path).headers

    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"
    assert headers["x-frame-options"] == "DENY"
    assert "frame-ancestors 'none'" in headers["content-security-policy"]
    assert headers["cache-control"] == "no-store"
    assert headers["server-timing"].startswith("app;dur=")
    assert "strict-transport-security" not in headers


def test_only_the_documentation_may_run_scripts(client: Client) -> None:
    assert "script-src" not in client.get(f"{API}/items").headers["content-security-policy"]
    assert "script-src 'self'" in client.get(f"{API}/docs").headers["content-security-policy"]


def test_production_asks_for_https_for_a_year(production: Client) -> None:
    assert production.get("/health").headers["strict-transport-security"] == "max-age=31536000; includeSubDomains"


@pytest.mark.parametrize(("given", "is_kept"), [("order-4711-abcdef", True), ("x\ny", False), ("short", False)])
def test_a_harmless_request_id_is_kept(given: str, is_kept: bool, client: Client) -> None:
    answer = client.get("/health", headers={b"X-Request-ID": given.encode()})

    assert (answer.headers["x-request-id"] == given) is is_kept


def test_a_large_answer_is_compressed_and_a_small_one_is_not(client: Client) -> None:
    assert client.get(f"{API}/openapi.json").headers.get("content-encoding") == "gzip"
    assert "content-encoding" not in client.get("/health").headers


def test_head_is_get_without_the_content(client: Client) -> None:
    head = client.head("/health")

    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["content-type"] == "application/json"
    assert client.head(f"{API}/items").status_code == 401


@pytest.mark.parametrize(
    ("host", "is_served"),
    [
        ("api.example.com", True),
        ("API.EXAMPLE.COM", True),
        ("api.example.com:8443", True),
        ("evil.example", False),
        ("api.example.com.evil.example", False),
        ("x@api.example.com", False),
        ("api.example.com@evil.example", False),
        ("", False),
    ],
)
def test_only_our_host_names_are_served(host: str, is_served: bool, production: Client) -> None:
    answer = production.get(f"{API}/openapi.json", headers={"Host": host})

    assert answer.status_code == (200 if is_served else 400)
    assert is_served or answer.json()["code"] == "unknown_host"


def test_two_hosts_are_none(production: Client) -> None:
    hosts = [("Host", "api.example.com"), ("Host", "evil.example")]

    assert production.get(f"{API}/openapi.json", headers=hosts).status_code == 400


def test_probes_may_ask_by_address(production: Client) -> None:
    assert production.get("/health/live", headers={"Host": "10.1.2.3:8000"}).status_code == 200


@pytest.mark.parametrize(
    ("origin", "is_allowed"),
    [
        ("https://app.example.com", True),
        ("https://app.example.com.evil.example", False),
        ("https://appXexample.com", False),
        ("http://app.example.com", False),
        ("null", False),
    ],
)
def test_only_listed_origins_may_read_answers(origin: str, is_allowed: bool, production: Client) -> None:
    simple = production.get("/health", headers={"Origin": origin})
    preflight = production.options(f"{API}/items", headers={"Origin": origin, "Access-Control-Request-Method": "POST"})

    for answer in (simple, preflight):
        assert answer.headers.get("access-control-allow-origin") == (origin if is_allowed else None)
        assert answer.headers.get("access-control-allow-origin") != "*"
    assert "Origin" in simple.headers.get("vary", "") or not is_allowed


@pytest.mark.parametrize(
    ("peer", "forwarded", "seen"),
    [
        ("10.0.0.1", "203.0.113.9", "203.0.113.9"),
        ("10.0.0.1", "198.51.100.1, 203.0.113.9", "203.0.113.9"),
        ("203.0.113.50", "198.51.100.1", "203.0.113.50"),
    ],
)
def test_a_forwarded_address_is_believed_from_trusted_proxies_only(
    peer: str, forwarded: str, seen: str, settings: Settings, database_url: URL, caplog: pytest.LogCaptureFixture
) -> None:
    app = build_app(settings.model_copy(update={"trusted_proxies": ("10.0.0.0/8",)}), database_url)

    with caplog.at_level(logging.INFO, logger="app.requests"):
        asyncio.run(ask(app, "/nowhere", peer=peer, forwarded=forwarded))

    assert [line["client"] for line in request_lines(caplog)] == [seen]


def test_a_body_that_does_not_arrive_is_408(
    settings: Settings, database_url: URL, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.server.envelope.BODY_SECONDS", 0.05)
    app = build_app(settings, database_url)

    statuses = asyncio.run(post_half_a_body(app, f"{API}/auth/login"))

    assert statuses == [408]


def test_a_long_body_may_take_longer_and_one_that_drips_may_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.server.envelope.BODY_SECONDS", 0.1)

    assert asyncio.run(receive_pieces(SLOWEST_BODY, pause=0.05)) == 10
    with pytest.raises(SlowRequestError):
        asyncio.run(receive_pieces(1, pause=0.05))


async def _never_asked() -> Any:
    raise AssertionError


def test_an_answer_that_nobody_reads_is_given_up(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(envelope, "SEND_SECONDS", 0.05)
    scope = {"type": "http", "method": "GET", "path": "/a", "headers": [(b"host", b"keel.test")], "client": None}

    async def app(_: Any, __: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        try:
            await send({"type": "http.response.body", "body": b"hello"})
        except Exception as error:
            raise RuntimeError("as Litestar does") from error

    async def send(message: Any) -> None:
        if message["type"] == "http.response.body":
            await asyncio.Event().wait()

    any_host = Envelope(app, settings.model_copy(update={"allowed_hosts": ("*",)}), Drain())
    asyncio.run(asyncio.wait_for(any_host(scope, _never_asked, send), 5))

    assert "nobody reads the answer" in caplog.text


async def ask(app: Any, path: str, *, peer: str, forwarded: str) -> None:
    """One request as the server would hand it over: the test client cannot choose its address."""

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: dict[str, Any]) -> None:
        assert message

    headers = [(b"x-forwarded-for", forwarded.encode())]
    await app(http_scope("GET", path, headers, peer=peer), receive, send)


async def receive_pieces(size: int, *, pause: float) -> int:
    """Ten pieces of that many bytes arrive, one after each pause. Returns how many came through."""

    async def receive() -> Any:
        await asyncio.sleep(pause)
        return {"type": "http.request", "body": bytes(size), "more_body": True}

    body = Body({"headers": []}, receive)
    return len([await body.receive() for _ in range(10)])


async def post_half_a_body(app: Any, path: str) -> list[int]:
    """The statuses of what is answered when the second half never comes."""
    statuses: list[int] = []
    halves = [{"type": "http.request", "body": b"{", "more_body": True}]

    async def receive() -> dict[str, Any]:
        return halves.pop() if halves else await asyncio.Future()

    async def send(message: dict[str, Any]) -> None:
        if message["type"] == "http.response.start":
            statuses.append(int(message["status"]))

    async with asyncio.timeout(5), app.lifespan():
        await app(http_scope("POST", path, [(b"content-type", b"application/json")]), receive, send)
    return statuses


def http_scope(
    method: str, path: str, headers: list[tuple[bytes, bytes]], *, peer: str = "127.0.0.1"
) -> dict[str, Any]:
    return {
        "type": "http",
        "method": method,
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "root_path": "",
        "scheme": "http",
        "http_version": "1.1",
        "server": ("api.example.com", 80),
        "headers": [(b"host", b"api.example.com"), *headers],
        "client": (peer, 1),
    }


def test_who_comes_through_a_unix_socket_is_a_neighbour_whose_forwarding_may_be_trusted(
    settings: Settings, database_url: URL
) -> None:
    trusting = build_app(settings.model_copy(update={"trusted_proxies": ("127.0.0.1",)}), database_url)
    scope: Any = {"type": "http", "client": ("", "0"), "headers": [(b"x-forwarded-for", b"203.0.113.7")]}

    with contextlib.suppress(KeyError):  # which the application then misses in this scope
        asyncio.run(trusting.asgi_handler(scope, None, None))  # type: ignore[arg-type]  # never called

    assert scope["client"] == ("203.0.113.7", 0)
    trusting.state.database.dispose()


def test_while_it_drains_it_answers_is_not_ready_and_ends_each_connection(
    client: Client, app: Litestar, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "connection" not in client.get("/health/live").headers
    monkeypatch.setattr(app.state.drain, "is_on", True)

    ready, live = client.get("/health/ready"), client.get("/health/live")

    assert (ready.status_code, ready.json()) == (503, {"status": "stopping", "checks": {}})
    assert (live.status_code, live.headers["connection"]) == (200, "close")
