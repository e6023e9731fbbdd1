"""Is the process alive, is it ready, how are its database and its cache?"""

import asyncio
import logging
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor

from litestar import Controller, Response, get
from litestar.datastructures import State
from litestar.status_codes import HTTP_200_OK, HTTP_503_SERVICE_UNAVAILABLE
from sqlalchemy import URL, NullPool, create_engine, text
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from app.lib.access.guards import public
from app.lib.cache.cache import Cache
from app.lib.events import EventFeed
from app.lib.routing import get as read
from app.lib.schema import Schema
from app.server.authentication import MAX_LAG
from app.server.rate_limits import RateLimiter
from app.server.revisions import Revisions

PATIENCE = 2.5
"""Seconds for all checks together; a load balancer should hear within three."""

OPTIONAL = {"redis"}
"""Checks that fail without a request failing: the process is degraded, and ready."""

logger = logging.getLogger(__name__)


class HealthRead(Schema):
    status: str
    version: str


class ReadinessRead(Schema):
    """`status`: `ready`, `degraded`, `not_ready` or `stopping`. `checks`: `ok`, or what is wrong, by name."""

    status: str
    checks: dict[str, str]


class PoolRead(Schema):
    """One process's connections. `ms`: a round trip to the server and back."""

    size: int
    in_use: int
    idle: int
    ms: float


class CacheRead(Schema):
    """One process's cache since its start. `entries` and `bytes` are null where Redis alone knows them."""

    store: str
    is_available: bool
    hits: int
    misses: int
    errors: int
    entries: int | None
    bytes: int | None


class Readiness:
    """Asks the database over a connection and a thread of its own: a busy pool is not a missing database.

    `feeds`: those without which nobody is let in, by the name of their check. `in_redis`: who needs Redis, where there
    is one, and is asked whether it last got what it wanted.
    """

    def __init__(self, url: URL | str, feeds: Mapping[str, EventFeed], *in_redis: Cache | RateLimiter) -> None:
        self._engine = create_engine(
            url,
            poolclass=NullPool,
            isolation_level="AUTOCOMMIT",
            connect_args={"connect_timeout": 2, "options": "-c statement_timeout=1500"},
        )
        self._feeds = feeds
        self._in_redis = in_redis
        self._revisions = Revisions()
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="keel-health")
        self._check: asyncio.Task[dict[str, str]] | None = None

    async def checks(self) -> dict[str, str]:
        """One check at a time, which all who ask meanwhile share: a crowd that probes cannot make it fail."""
        if self._check is None or self._check.done():
            self._check = asyncio.create_task(self._run())
        return await asyncio.shield(self._check)

    async def _run(self) -> dict[str, str]:
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(PATIENCE):
                return await loop.run_in_executor(self._thread, self._ask)
        except TimeoutError:
            return {"database": f"no answer within {PATIENCE} s"}

    def close(self) -> None:
        self._thread.shutdown(wait=False, cancel_futures=True)

    def _ask(self) -> dict[str, str]:
        try:
            with self._engine.connect() as connection:
                lack = self._revisions.lack(connection)
        except SQLAlchemyError as error:
            logger.warning("not ready: database: %s", type(error).__name__)
            return {"database": "unavailable"}
        checks = {
            "database": "ok",
            "migrations": lack or "ok",
            **{name: "ok" if feed.lag < MAX_LAG else "not connected" for name, feed in self._feeds.items()},
        }
        if self._in_redis:
            checks["redis"] = "ok" if all(user.is_available for user in self._in_redis) else "unavailable"
        return checks


class HealthController(Controller):
    path = "/health"
    tags = ["health"]
    guards = [public]

    @get(operation_id="GetHealth", summary="Tell that the process answers, and its version.", rate_limit=None)
    async def get_health(self, state: State) -> HealthRead:
        return HealthRead(status="ok", version=state.settings.version)

    @get("/live", operation_id="GetLiveness", summary="Tell that the process answers.", rate_limit=None)
    async def get_liveness(self, state: State) -> HealthRead:
        """No I/O: a failing database must not get the process killed."""
        return HealthRead(status="ok", version=state.settings.version)

    @get(
        "/ready",
        operation_id="GetReadiness",
        summary="Tell whether requests can be served: 200, or 503 with what is wrong.",
        rate_limit=None,
    )
    async def get_readiness(self, state: State) -> Response[ReadinessRead]:
        if state.drain.is_on:
            return Response(ReadinessRead(status="stopping", checks={}), status_code=HTTP_503_SERVICE_UNAVAILABLE)
        checks = await state.readiness.checks()
        wrong = {name for name, answer in checks.items() if answer != "ok"}
        is_ready = wrong <= OPTIONAL
        status = "not_ready" if not is_ready else "degraded" if wrong else "ready"
        return Response(
            ReadinessRead(status=status, checks=checks),
            status_code=HTTP_200_OK if is_ready else HTTP_503_SERVICE_UNAVAILABLE,
        )

    @read("/db")
    def get_database_health(self, session: Session, state: State) -> PoolRead:
        """Show this process's connections to the database."""
        began = time.perf_counter()
        session.execute(text("SELECT 1"))
        ms = round((time.perf_counter() - began) * 1000, 2)
        pool = state.database.engine.pool
        return PoolRead(size=pool.size(), in_use=pool.checkedout(), idle=pool.checkedin(), ms=ms)

    @get("/cache", operation_id="GetCacheHealth", summary="Show this process's cache.")
    async def get_cache_health(self, state: State) -> CacheRead:
        """No I/O."""
        return CacheRead.of(state.cache.figures())
