"""Too many requests are refused before they cost anything: counted in Redis, or in the memory of this process."""

import asyncio
import logging
import time
from typing import Any

from limits import RateLimitItem, parse
from limits.aio.storage.redis.bridge import RedisBridge
from litestar.enums import ScopeType
from litestar.middleware import ASGIMiddleware
from litestar.types import ASGIApp, Receive, Send
from redis.asyncio import ConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError

from app.lib.errors import TooManyRequestsError
from app.lib.rate_limits import MemoryWindows, Window, network_of, rate_limit_of, window_of

ALSO_BY_ADDRESS = {"sign_in", "refresh"}
"""Classes that count the address of those who are signed in, too: an account costs nothing."""
RATE_LIMIT_HEADERS = ("RateLimit-Limit", "RateLimit-Remaining", "RateLimit-Reset")
CONNECTIONS = 16
PATIENCE = 2.0
"""Seconds for each step: connecting, and the answer. Shorter ones are missed by a process that is merely busy."""
COOLDOWN = 5.0
"""Seconds in which a lost Redis is left alone: longer than all steps, so that no request outlives its outage."""

HIT = f"""
local is_admitted = (function(ARGV) {RedisBridge.SCRIPT_ACQUIRE_SLIDING_WINDOW.decode()}
end)({{ARGV[2], ARGV[1], 1}})
local counts = (function() {RedisBridge.SCRIPT_SLIDING_WINDOW.decode()}
end)()
return {{is_admitted, counts[1], counts[3], counts[4]}}
"""
"""Two scripts of `limits` as one, so that counting and the figures for the headers are one atomic round trip.
KEYS: the previous and the current window. ARGV: seconds of a window, requests in it."""

logger = logging.getLogger(__name__)


class RedisWindows:
    """The counts that all processes share. Raises RedisError. Belongs to the event loop that first uses it."""

    def __init__(self, url: str) -> None:
        pool = ConnectionPool.from_url(
            url,
            max_connections=CONNECTIONS,
            socket_connect_timeout=PATIENCE,
            socket_timeout=PATIENCE,
            retry=Retry(NoBackoff(), 1, (RedisConnectionError,)),  # a connection that an earlier restart has cut
        )
        self._redis = Redis.from_pool(pool)
        self._hit = self._redis.register_script(HIT)

    async def hit(self, name: str, limit: RateLimitItem, caller: str) -> Window:
        """Count a request, unless it is one too many."""
        key = f"{{keel:{limit.key_for(name, caller)}}}"
        period = limit.get_expiry()
        is_admitted, previous, current, ends_in = await self._hit([f"{key}/-1", key], [period, limit.amount])
        return window_of(
            limit,
            is_admitted=bool(is_admitted),
            previous=int(previous or 0),
            current=int(current or 0),
            left=ends_in / 1000 - period,  # a window is kept for another one
        )

    async def close(self) -> None:
        await self._redis.aclose()


class RateLimiter:
    """Counts in Redis when there is one. While it does not answer, each process counts for itself.

    `limits`: by class, such as `{"read": "600/minute"}`.
    """

    def __init__(self, limits: dict[str, str], *, redis_url: str | None) -> None:
        self._limits = {name: parse(limit) for name, limit in limits.items()}
        self._memory = {name: MemoryWindows(limit) for name, limit in self._limits.items()}
        self._redis = RedisWindows(redis_url) if redis_url else None
        self._connections = asyncio.Semaphore(CONNECTIONS)
        self._is_lost = False
        self._retry_at = 0.0

    @property
    def is_available(self) -> bool:
        """False from the first failure of Redis until a request has been counted there again."""
        return not self._is_lost

    async def hit(self, name: str, caller: str) -> Window:
        """Count a request of the class `name`."""
        if self._redis is None or self._rests():
            return self._memory[name].hit(caller)
        is_trial = self._is_lost
        async with self._connections:
            if self._is_lost and not is_trial:  # while this one waited for its turn
                return self._memory[name].hit(caller)
            try:
                window = await self._redis.hit(name, self._limits[name], caller)
            except RedisError as error:
                self._lose(error)
                return self._memory[name].hit(caller)
        if is_trial:
            self._is_lost = False
            logger.info("rate limits are counted in Redis again")
        return window

    async def close(self) -> None:
        if self._redis:
            await self._redis.close()

    def _rests(self) -> bool:
        """While Redis is lost, one request in COOLDOWN seconds tries it, and no other waits for it."""
        now = time.monotonic()
        if self._is_lost and now < self._retry_at:
            return True
        self._retry_at = now + COOLDOWN
        return False

    def _lose(self, error: RedisError) -> None:
        if not self._is_lost:
            logger.warning("rate limits lost Redis and are counted in each process: %s", type(error).__name__)
            self._is_lost = True
            self._retry_at = time.monotonic() + COOLDOWN


class RateLimits(ASGIMiddleware):
    """Stands behind Authentication, which tells the account. Leaves the headers for Envelope, in the scope.

    Raises TooManyRequestsError. `suspects_proxies`: the first request that seems to have come through one is worth a
    warning, because none is trusted.
    """

    scopes = (ScopeType.HTTP,)

    def __init__(self, *, suspects_proxies: bool = False) -> None:
        self._suspects_proxies = suspects_proxies

    async def handle(self, scope: Any, receive: Receive, send: Send, next_app: ASGIApp) -> None:
        name = rate_limit_of(scope["route_handler"], scope["method"])
        if name is not None:
            self._look_for_proxies(scope)
            state = scope["litestar_app"].state
            window = await _hit(state.rate_limiter, name, _callers(scope, name))
            scope["rate_limit"] = _headers(window)
            if not window.is_admitted:
                if metrics := state.get("metrics"):
                    metrics.note_rate_limited(name)
                raise TooManyRequestsError(retry_after=window.reset)
        await next_app(scope, receive, send)

    def _look_for_proxies(self, scope: Any) -> None:
        if self._suspects_proxies and any(name == b"x-forwarded-for" for name, _ in scope["headers"]):
            self._suspects_proxies = False
            logger.warning(
                "a request has X-Forwarded-For and TRUSTED_PROXIES is empty: if there is a proxy, name it there, "
                "or all clients share its rate limits"
            )


def _callers(scope: Any, name: str) -> list[str]:
    user, client = scope["user"], scope["client"]
    account = [f"account:{user.id}"] if user else []
    if account and name not in ALSO_BY_ADDRESS:
        return account
    return [f"address:{network_of(client[0] if client else '')}", *account]


async def _hit(limiter: RateLimiter, name: str, callers: list[str]) -> Window:
    """The first refusal, with which the counting ends, or the window in which least is left."""
    windows = []
    for caller in callers:
        windows.append(window := await limiter.hit(name, caller))
        if not window.is_admitted:
            return window
    return min(windows, key=lambda window: (window.remaining, -window.reset))


def _headers(window: Window) -> list[tuple[bytes, bytes]]:
    return [
        (b"ratelimit-limit", b"%d" % window.limit),
        (b"ratelimit-remaining", b"%d" % window.remaining),
        (b"ratelimit-reset", b"%d" % window.reset),
    ]
