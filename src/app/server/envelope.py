"""Around every request, found or not: its id, its time, its log line, and the headers browsers obey."""

import asyncio
import logging
import math
import re
import time
from http import HTTPStatus
from typing import Any
from uuid import uuid4

import msgspec
import structlog
from granian.utils.proxies import wrap_asgi_with_proxy_headers
from litestar import Litestar
from litestar.types import ASGIApp, Receive

from app.lib.problems import MEDIA_TYPE, Problem
from app.lib.settings import Settings
from app.server.metrics.metrics import Metrics
from app.server.request import SlowRequestError
from app.server.serving.drain import Drain
from app.server.tracing import TracedRequests

GOOD_REQUEST_ID = re.compile(rb"[A-Za-z0-9._-]{8,64}")
HEALTH_PATH = "/health"
BODY_SECONDS = 30.0
SEND_SECONDS = 30.0
"""In which a client must take a piece of the answer. Granian would wait for ever."""
SLOWEST_BODY = 32 * 1024
"""Bytes in a second that prolong it: a telephone may take minutes to upload, a client that drips may not."""
SMALL_BODY = 8 * 1024
"""Bytes that the server reads with the head of a request, so that it can go on to the next one."""
NEIGHBOUR = "127.0.0.1"

COMMON_HEADERS = [
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"x-frame-options", b"DENY"),
    (b"cross-origin-opener-policy", b"same-origin"),
]
API_POLICY = b"default-src 'none'; frame-ancestors 'none'"
DOCS_POLICY = (
    b"default-src 'none'; script-src 'self' 'unsafe-inline'; style-src 'self' 'unsafe-inline'; "
    b"img-src 'self' data:; font-src 'self' data:; connect-src 'self'; worker-src blob:; frame-ancestors 'none'"
)
HSTS = (b"strict-transport-security", b"max-age=31536000; includeSubDomains")

logger = structlog.get_logger("app.requests")


class StalledReaderError(Exception):
    """Nobody reads the answer. There is nobody to tell, so it has no HTTP answer."""


class Body:
    """The body of a request as it arrives. It must be there after BODY_SECONDS, and what SLOWEST_BODY allows for its
    length: Granian would wait for ever, and hold a connection for it."""

    def __init__(self, scope: Any, receive: Receive) -> None:
        self._receive = receive
        self._is_small = _body_length(scope) <= SMALL_BODY
        self._is_complete = False
        self._deadline = asyncio.get_running_loop().time() + BODY_SECONDS

    @property
    def is_left_behind(self) -> bool:
        """Whether nobody reads the rest, as when a guard refused the request. Granian then ends the connection without
        a word, often when the client has begun its next request on it: it must be told (RFC 9112 section 9.6)."""
        return not (self._is_complete or self._is_small)

    async def receive(self) -> Any:
        """Raises SlowRequestError."""
        if self._is_complete:
            return await self._receive()
        try:
            async with asyncio.timeout_at(self._deadline):
                message: Any = await self._receive()
        except TimeoutError as error:
            raise SlowRequestError from error
        self._is_complete = not message.get("more_body", False)
        self._deadline += len(message.get("body", b"")) / SLOWEST_BODY
        return message


def envelop(app: Litestar) -> Any:
    """The proxies' headers are believed before anything looks at the address."""
    settings: Settings = app.state.settings
    wrapped: Any = Envelope(app.asgi_handler, settings, app.state.drain, app.state.metrics)
    if app.state.tracing:
        wrapped = TracedRequests(wrapped, app.state.tracing)
    if settings.trusted_proxies:
        wrapped = wrap_asgi_with_proxy_headers(wrapped, list(settings.trusted_proxies))
    return _naming_neighbours(wrapped)


def _naming_neighbours(app: Any) -> Any:
    """Who comes through a Unix socket has no address. They are on this machine, as those of loopback are."""

    async def named(scope: Any, receive: Receive, send: Any) -> None:
        if scope["type"] == "http" and scope["client"] and not scope["client"][0]:
            scope["client"] = (NEIGHBOUR, 0)
        await app(scope, receive, send)

    return named


def longest_request(settings: Settings) -> int:
    """Seconds in which the slowest client that is waited for sends the largest body and takes its answer."""
    largest = max(settings.max_body_size, settings.max_upload_size)
    return math.ceil(BODY_SECONDS + largest / SLOWEST_BODY + SEND_SECONDS)


class Envelope:
    """The outermost ASGI application. Litestar's middleware would miss what no route answers: 404, 405, preflights."""

    def __init__(self, app: ASGIApp, settings: Settings, drain: Drain, metrics: Metrics | None = None) -> None:
        self._app = app
        self._drain = drain
        self._metrics = metrics
        self._hosts = frozenset(host.lower() for host in settings.allowed_hosts)
        self._docs = {f"{settings.api_v1_prefix}/{page}" for page in ("docs", "redoc")}
        self._headers = [*COMMON_HEADERS, HSTS] if settings.is_production else COMMON_HEADERS

    async def __call__(self, scope: Any, receive: Receive, send: Any) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began = time.perf_counter()
        method = scope["method"]
        is_head = scope["is_head"] = method == "HEAD"
        if is_head:  # RFC 9110 section 9.3.2: a GET without the content, behind the same guards
            scope["method"] = "GET"
        request_id = scope["request_id"] = _request_id(scope)
        body = Body(scope, receive)
        status = 0
        if self._metrics:
            self._metrics.begin_request()

        async def send_labelled(message: Any) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message["headers"], *self._labels(scope, message, request_id, began)]
                if body.is_left_behind or self._drain.is_on:
                    message["headers"].append((b"connection", b"close"))
            elif is_head:
                message = {**message, "body": b""}
            await send(message)

        with structlog.contextvars.bound_contextvars(request_id=request_id):
            try:
                await self._answer(scope, body.receive, send_labelled)
            finally:
                self._end(scope, method, status, began)

    async def _answer(self, scope: Any, receive: Receive, send: Any) -> None:
        """Ends without an error, though not at once, when nobody reads the answer."""
        is_stalled = False

        async def send_in_time(message: Any) -> None:
            nonlocal is_stalled
            try:
                async with asyncio.timeout(SEND_SECONDS):
                    await send(message)
            except TimeoutError as error:
                is_stalled = True
                raise StalledReaderError from error

        try:
            if self._is_expected_host(scope):
                await self._app(scope, receive, send_in_time)
            else:
                await _refuse_host(scope["request_id"], send_in_time)
        except Exception:  # Litestar puts one of its own around ours
            if not is_stalled:
                raise
            logger.warning("nobody reads the answer", path=ascii(scope["path"]))

    def _end(self, scope: Any, method: str, status: int, began: float) -> None:
        _log(scope, method, status, began)
        if self._metrics:
            self._metrics.end_request(method, scope.get("path_template"), status, time.perf_counter() - began)

    def _labels(self, scope: Any, message: Any, request_id: str, began: float) -> list[tuple[bytes, bytes]]:
        is_page = scope["path"].rstrip("/") in self._docs
        unless_set = [
            (b"content-security-policy", DOCS_POLICY if is_page else API_POLICY),
            (b"cache-control", b"no-store"),
        ]
        already = {name.lower() for name, _ in message["headers"]}
        return [
            *self._headers,
            (b"x-request-id", request_id.encode()),
            (b"server-timing", b"app;dur=%.1f" % _milliseconds_since(began)),
            *scope.get("rate_limit", ()),
            *[(name, value) for name, value in unless_set if name not in already],
        ]

    def _is_expected_host(self, scope: Any) -> bool:
        """Probes ask by address, so the health routes answer to any name."""
        hosts = [value.decode("latin-1") for name, value in scope["headers"] if name == b"host"]
        if len(hosts) != 1:
            return False
        name = re.sub(r":\d+$", "", hosts[0]).lower()
        return "*" in self._hosts or name in self._hosts or scope["path"].startswith(HEALTH_PATH)


def _request_id(scope: Any) -> str:
    """The caller's own id when it is harmless, so that one id runs through every service."""
    for name, value in scope["headers"]:
        if name == b"x-request-id" and GOOD_REQUEST_ID.fullmatch(value):
            return str(value.decode())
    return uuid4().hex


async def _refuse_host(request_id: str, send: Any) -> None:
    status = HTTPStatus.BAD_REQUEST
    detail = "This host name is not served here."
    problem = Problem.of(status, "unknown_host", detail=detail, request_id=request_id)
    headers = [(b"content-type", MEDIA_TYPE.encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": msgspec.json.encode(problem), "more_body": False})


def _log(scope: Any, method: str, status: int, began: float) -> None:
    """Probes ask every few seconds and would drown the rest, so those that succeed are for debugging."""
    client, path = scope["client"], scope["path"]
    is_quiet = path.startswith(HEALTH_PATH) and status == HTTPStatus.OK
    logger.log(
        logging.DEBUG if is_quiet else logging.INFO,
        "request",
        method=method,
        path=path if path.isprintable() else ascii(path),
        route=scope.get("path_template"),
        status=int(status),
        ms=round(_milliseconds_since(began), 1),
        client=client[0] if client else None,
        user=str(user.id) if (user := scope.get("user")) else None,
    )


def _body_length(scope: Any) -> float:
    """As its head says, in bytes. Infinite: it does not say."""
    headers = dict(scope["headers"])
    if b"transfer-encoding" in headers:
        return math.inf
    return int(headers.get(b"content-length", b"0"))


def _milliseconds_since(began: float) -> float:
    return (time.perf_counter() - began) * 1000
