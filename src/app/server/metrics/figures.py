"""What is not counted but looked at: threads, pools, feeds, the cache, the queue of jobs."""

import contextlib
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from sqlalchemy import URL
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session
from sqlalchemy.pool import QueuePool

from app.lib.db.database import Database, create_pool
from app.lib.events import EventFeed
from app.lib.jobs.ledger import QueueFigures, queue_figures
from app.lib.settings import Settings
from app.server.metrics import metrics
from app.server.metrics.exchange import MetricsExchange
from app.server.metrics.metrics import Figure, Metrics
from app.server.metrics.server import serving_metrics

QUEUE_SECONDS = 15.0
"""How often a process looks at the queue."""


class QueueProbe:
    """Looks at the queue over a connection of its own, so that it takes none from a request."""

    def __init__(self, url: URL | str) -> None:
        self._engine = create_pool(url, size=1, name="keel-metrics", isolation_level="AUTOCOMMIT", pool_pre_ping=True)
        self._found: QueueFigures | None = None
        self._look_at = 0.0

    def look(self) -> None:
        if time.monotonic() < self._look_at:
            return
        self._look_at = time.monotonic() + QUEUE_SECONDS
        try:
            with Session(self._engine) as session:
                self._found = queue_figures(session)
        except SQLAlchemyError:
            self._found = None
            self._engine.dispose()  # the feeds say it in the log

    def figures(self) -> Iterator[Figure]:
        """As it was at the last look. None while the database is away."""
        found = self._found  # another thread may look meanwhile
        if found:
            for state, jobs in found.by_state.items():
                yield metrics.QUEUE, (state,), jobs
            yield metrics.QUEUE_OLDEST, (), found.oldest
            yield metrics.JOB_WORKERS, (), found.workers

    def close(self) -> None:
        self._engine.dispose()


class ApiFigures:
    """Of a process of the API. `state`: the application's."""

    def __init__(self, state: Any, feeds: Mapping[str, EventFeed], counted: Metrics, probe: QueueProbe) -> None:
        self._state = state
        self._feeds = feeds
        self._counted = counted
        self._probe = probe

    def __call__(self) -> Iterator[Figure]:
        yield metrics.PROCESSES, ("api",), 1
        yield metrics.IN_PROGRESS, (), self._counted.in_progress
        threads = self._state.threads
        yield metrics.THREADS, (), threads.size
        yield metrics.THREADS_BUSY, (), threads.busy
        yield metrics.THREADS_AWAITED, (), threads.waiting
        for name, gate in self._state.gates.items():
            yield metrics.GATE_INSIDE, (name,), gate.inside
            yield metrics.GATE_WAITING, (name,), gate.waiting
        for name, feed in self._feeds.items():
            yield metrics.FEED_LAG, (name,), feed.lag
            yield metrics.FEED_LOSSES, (name,), feed.losses
        cache = self._state.cache.figures()
        yield metrics.CACHE_HITS, (cache.store,), cache.hits
        yield metrics.CACHE_MISSES, (cache.store,), cache.misses
        yield metrics.CACHE_ERRORS, (cache.store,), cache.errors
        yield from pool_figures(self._state.database)
        yield from self._probe.figures()


class WorkerFigures:
    """Of a worker of jobs."""

    def __init__(self, database: Database, probe: QueueProbe) -> None:
        self._database = database
        self._probe = probe

    def __call__(self) -> Iterator[Figure]:
        yield metrics.PROCESSES, ("worker",), 1
        yield from pool_figures(self._database)
        yield from self._probe.figures()


@contextlib.contextmanager
def api_metrics(counted: Metrics, state: Any, feeds: Mapping[str, EventFeed], url: URL | str) -> Iterator[None]:
    """While the application runs, this process answers on METRICS_PORT."""
    probe = QueueProbe(url)
    with _served(counted, ApiFigures(state, feeds, counted, probe), probe, state.settings):
        yield


@contextlib.contextmanager
def worker_metrics(counted: Metrics, database: Database, settings: Settings) -> Iterator[None]:
    """While the worker runs, its process answers there, too."""
    probe = QueueProbe(database.engine.url)
    with _served(counted, WorkerFigures(database, probe), probe, settings):
        yield


@contextlib.contextmanager
def _served(
    counted: Metrics, figures: Callable[[], Iterable[Figure]], probe: QueueProbe, settings: Settings
) -> Iterator[None]:
    assert settings.metrics_port
    exchange = MetricsExchange(settings.local_dir / "metrics" / str(settings.metrics_port), counted)
    counted.sources.append(figures)
    try:
        with serving_metrics(exchange, host=settings.metrics_host, port=settings.metrics_port, refresh=probe.look):
            yield
    finally:
        counted.sources.remove(figures)
        probe.close()


def pool_figures(database: Database) -> Iterator[Figure]:
    for name, engine in database.engines.items():
        if isinstance(pool := engine.pool, QueuePool):
            yield metrics.POOL_SIZE, (name,), pool.size()
            yield metrics.POOL_IN_USE, (name,), pool.checkedout()
