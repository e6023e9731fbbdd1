"""SAQ's queue on PostgreSQL as our workers use it: to be woken, and to dequeue."""

import asyncio
from collections.abc import Awaitable, Callable
from functools import cached_property
from typing import Any

import saq
from psycopg import AsyncConnection
from psycopg_pool import AsyncConnectionPool
from saq.queue.postgres import DEQUEUE, PostgresQueue
from sqlalchemy import URL, make_url

from app.lib.db.database import CONNECT_TIMEOUT, CONNECTION_TIMEOUT, STATEMENT_TIMEOUT
from app.lib.jobs.broker import QUEUE

POOL_TIMEOUT = 5.0
"""Seconds after which a database that is away is an error, and after which connecting starts anew without back-off."""


class ClaimedJobs(asyncio.Queue[saq.Job]):
    """SAQ puts each job in before the transaction that claims it has committed. A thread that began at once would
    not find its claim, and its work would be thrown away: so nobody gets one before `hand_out`."""

    def __init__(self) -> None:
        super().__init__()
        self.uncommitted: list[saq.Job] = []

    def put_nowait(self, job: saq.Job) -> None:
        self.uncommitted.append(job)

    def hand_out(self) -> None:
        claimed, self.uncommitted = self.uncommitted, []
        for job in claimed:
            super().put_nowait(job)


class JobQueue(PostgresQueue):
    """Jobs are claimed in the transaction that dequeues them: the attempt's number and the worker's id are what
    `lib.jobs.ledger` asks for before anything is kept."""

    def __init__(self, url: URL | str, *, worker_id: str, recover: Callable[[], Awaitable[list[str]]]) -> None:
        super().__init__(pool=_pool(url), name=QUEUE, manage_pool_lifecycle=True, min_size=2, max_size=4)
        self._worker_id = worker_id
        self._recover = recover

    async def init_db(self) -> None:
        """Our migrations make the tables. Raises psycopg's errors when they are not there."""
        async with self.pool.connection() as connection:
            await connection.execute("SELECT 1 FROM saq_jobs LIMIT 0")

    async def disconnect(self) -> None:
        """Also when connecting has not come to its end."""
        await super().disconnect()
        await self.pool.close()

    async def _update(self, job: saq.Job, status: saq.Status | None = None, **kwargs: Any) -> None:
        """Only `_dequeue` still comes here, holding the lock on the row."""
        job.attempts += 1
        job.worker_id = self._worker_id
        await super()._update(job, status, **kwargs)

    async def sweep(self, lock: int = 60, abort: float = 5.0) -> list[str]:  # noqa: ARG002  (SAQ's signature)
        """SAQ's own takes 5 s for each stuck job, and relies on a lock that a lost connection takes with it."""
        return await self._recover()

    @cached_property
    def _job_queue(self) -> ClaimedJobs:
        return ClaimedJobs()

    async def _dequeue(self) -> None:
        try:
            await super()._dequeue()
        except Exception:
            self._job_queue.uncommitted.clear()  # not claimed; or, if the answer to COMMIT was lost, soon recovered
            raise

    async def _notify(self, key: str, connection: AsyncConnection[Any] | None = None) -> None:
        """SAQ tells of jobs that it has dequeued as soon as that is committed."""
        if key == DEQUEUE:
            self._job_queue.hand_out()
        await super()._notify(key, connection)

    def put_back(self, job: saq.Job) -> None:
        """One that was taken too late."""
        self._job_queue.put_nowait(job)

    def take_undone(self) -> list[saq.Job]:
        """What was dequeued and given to nobody yet."""
        self._job_queue.hand_out()
        return [self._job_queue.get_nowait() for _ in range(self._job_queue.qsize())]


def _pool(url: URL | str) -> AsyncConnectionPool:
    """Given to the driver as SQLAlchemy does: written as a URL, a password with a space would be none."""
    parsed = make_url(url).set(drivername="postgresql+psycopg")
    _, given = parsed.get_dialect()().create_connect_args(parsed)
    options = {
        **given,
        "connect_timeout": CONNECT_TIMEOUT,
        "application_name": "keel-jobs",
        "tcp_user_timeout": CONNECTION_TIMEOUT * 1000,
        "options": f"{parsed.query.get('options', '')} -c statement_timeout={STATEMENT_TIMEOUT}s -c timezone=UTC",
    }
    return AsyncConnectionPool(
        kwargs=options,
        open=False,
        check=AsyncConnectionPool.check_connection,
        timeout=POOL_TIMEOUT,
        reconnect_timeout=POOL_TIMEOUT,
    )
