"""What the application holds from start to stop, beside what it was put together of."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

from litestar import Litestar
from litestar.datastructures import State
from sqlalchemy import URL

from app.lib.admission import Gate
from app.lib.events import EventFeed
from app.lib.settings import Settings
from app.lib.worker_threads import WorkerThreads
from app.server.denials import Denials
from app.server.health import Readiness
from app.server.metrics.figures import api_metrics
from app.server.metrics.metrics import Metrics
from app.server.rate_limits import RateLimiter
from app.server.request import Receptions
from app.server.tracing import Tracing

LOGIN_QUEUE = 100
LOGIN_PATIENCE = 2.0
STORAGE_QUEUE = 100
STORAGE_PATIENCE = 5.0
PROVIDER_QUEUE = 50
PROVIDER_PATIENCE = 5.0
KEY_QUEUE = 100
KEY_PATIENCE = 2.0
START_PATIENCE = 5.0
"""Seconds that start-up waits for the first news of revoked sessions and of the cache; then it goes on without."""


def gates(settings: Settings) -> dict[str, Gate]:
    """A slow bucket may keep half of the threads waiting, and a slow provider, too; one picture is drawn at a time;
    unknown API keys are looked up one by one."""
    half = max(1, settings.db_pool_size // 2)
    return {
        "passwords": Gate(width=settings.password_hash_concurrency, queue=LOGIN_QUEUE, patience=LOGIN_PATIENCE),
        "storage": Gate(width=half, queue=STORAGE_QUEUE, patience=STORAGE_PATIENCE),
        "api_keys": Gate(width=1, queue=KEY_QUEUE, patience=KEY_PATIENCE),
        "pictures": Gate(width=1, queue=STORAGE_QUEUE, patience=STORAGE_PATIENCE),
        "providers": Gate(width=half, queue=PROVIDER_QUEUE, patience=PROVIDER_PATIENCE),
    }


def running(
    url: URL | str,
    needed: Mapping[str, EventFeed],
    cache_feed: EventFeed,
    metrics: Metrics | None = None,
    tracing: Tracing | None = None,
) -> Any:
    """What lives from start to stop; an application may be started again. `needed`: the feeds without which nobody is
    let in, as the readiness names them.

    The cache asks Redis when it hears something, so it has a feed of its own: no Redis delays a revocation.
    """
    feeds = {**needed, "cache": cache_feed}

    @asynccontextmanager
    async def lifespan(app: Litestar) -> AsyncIterator[None]:
        settings: Settings = app.state.settings
        app.state.gates = gates(settings)
        app.state.receptions = Receptions()
        threads = app.state.threads = WorkerThreads(
            settings.db_pool_size, note_wait=metrics.note_thread_wait if metrics else None
        )
        limiter = app.state.rate_limiter = RateLimiter(settings.rate_limits, redis_url=settings.redis_dsn)
        in_redis = (app.state.cache, limiter) if settings.redis_dsn else ()
        readiness = app.state.readiness = Readiness(url, needed, *in_redis)
        denials = app.state.denials = Denials(app.state.database, app.state)
        try:
            await asyncio.gather(*[asyncio.to_thread(one.start, wait=START_PATIENCE) for one in feeds.values()])
            async with _watched(metrics, tracing, app.state, feeds, url):
                yield
        finally:
            await denials.close()
            await asyncio.gather(*[asyncio.to_thread(one.stop) for one in feeds.values()])
            await asyncio.to_thread(threads.shutdown)
            readiness.close()
            await limiter.close()
            app.state.cache.close()
            app.state.policy_follower.close()
            app.state.database.dispose()

    return lifespan


@asynccontextmanager
async def _watched(
    metrics: Metrics | None, tracing: Tracing | None, state: State, feeds: Mapping[str, EventFeed], url: URL | str
) -> AsyncIterator[None]:
    """With metrics and traces, as far as they are wanted. Their end waits for threads, and the event loop must not."""
    watched = contextlib.ExitStack()
    try:
        if metrics:
            watched.enter_context(api_metrics(metrics, state, feeds, url))
        if tracing:
            watched.enter_context(tracing.running())
        yield
    finally:
        await asyncio.to_thread(watched.close)
