"""SAQ's worker, which finds jobs, with threads of ours that run them."""

import asyncio
import contextlib
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any
from uuid import uuid4

import saq
import structlog
from croniter import croniter
from saq.worker import Worker
from sqlalchemy import URL
from sqlalchemy.orm import Session

from app.lib.db.database import Database
from app.lib.db.service import BATCH
from app.lib.jobs import ledger
from app.lib.jobs.bookkeeping import DATABASE_ERRORS, RECONNECT_SECONDS, Bookkeeping
from app.lib.jobs.broker import HEARTBEAT, enqueue_at
from app.lib.jobs.declaration import Job
from app.lib.jobs.queue import JobQueue
from app.lib.jobs.runner import JobObserver, JobRunner
from app.lib.tracing import Traces

RECOVER_SECONDS = 5
CLEAN_SECONDS = 60
PLAN_SECONDS = 20
"""How often the next run of every periodic job is looked after: a minute is the finest that cron knows."""
TIMERS: Any = {"schedule": 1, "worker_info": HEARTBEAT // 3, "sweep": RECOVER_SECONDS, "abort": HEARTBEAT // 5}

logger: Any = structlog.get_logger("app.jobs")


class JobWorker(Worker[Any]):
    """Takes as many jobs at once as it has threads, and its database has that many connections and one more.

    `grace` is how many seconds running jobs have left when it is stopped; those that need longer go back to the
    queue. Any number of workers may run, on any machines whose clocks agree within a few seconds. `lacks` says what its
    jobs need and the database does not have yet; no job is taken before it says "".
    """

    SIGNALS = [signal.SIGINT, signal.SIGTERM]
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # as it is under nohup
        SIGNALS.append(signal.SIGHUP)

    def __init__(
        self,
        url: URL | str,
        jobs: Sequence[Job[Any]],
        *,
        database: Database,
        resources: Mapping[type[Any], Any],
        concurrency: int,
        grace: float,
        lacks: Callable[[Session], str] | None = None,
        observe: JobObserver | None = None,
        traces: Traces | None = None,
    ) -> None:
        worker_id = uuid4().hex
        self._queue = JobQueue(url, worker_id=worker_id, recover=self._recover)
        super().__init__(self._queue, [], id=worker_id, concurrency=concurrency, timers=TIMERS, startup=self._announce)
        self.bookkeeping = Bookkeeping(database)
        self.database = database
        self.runner = JobRunner(
            jobs,
            database=database,
            resources=resources,
            concurrency=concurrency,
            bookkeeping=self.bookkeeping,
            observe=observe,
            traces=traces,
        )
        self.pool.shutdown()
        self.pool = self.runner.threads
        self._periodic = [(job, job.cron) for job in jobs if job.cron]
        self._grace = grace
        self._lacks = lacks
        self._running: dict[asyncio.Task[Any], saq.Job] = {}
        self._plan_at = self._clean_at = 0.0

    async def serve(self) -> bool:
        """Until it is told to stop. False when a thread still runs, because its job did not end in time."""
        for signum in self.SIGNALS:
            asyncio.get_running_loop().add_signal_handler(signum, self.event.set)
        try:
            await self._until_complete()
            await self._until_connected()
            await (self.stop() if self.event.is_set() else self.start())
        finally:
            await self.queue.disconnect()
        return not self._running

    async def _announce(self, _: Any) -> None:
        logger.info("worker started", concurrency=self.concurrency)

    async def process(self) -> bool:
        """One turn of one slot: wait for a job, and stay with it."""
        try:
            job = await self.queue.dequeue()
        except DATABASE_ERRORS as error:
            await self.bookkeeping.wait_for_database(error)
            return False
        if job is None:
            return False
        self.bookkeeping.note_back()
        if self.event.is_set():  # it came while the stop was cancelling us, which has not counted it as running
            self._queue.put_back(job)
            return False
        task = asyncio.current_task()
        assert task is not None
        self._running[task] = job
        try:
            self._count(await self.runner.attend(job, stopping=self.event))
        finally:
            del self._running[task]
        return True

    async def stop(self) -> None:
        """Running jobs finish, within the grace; everything else ends at once."""
        self.event.set()
        running = set(self._running)
        await _end(self.tasks - running)
        if running:
            logger.info("waiting for running jobs", jobs=len(running))
            await asyncio.wait(running, timeout=self._grace)
        for job in [*self._running.values(), *self._queue.take_undone()]:
            request_id = job.meta.get("request_id")
            logger.warning("job goes back to the queue", job=job.function, key=job.key, request_id=request_id)
            await self.bookkeeping.keep(ledger.release, job)
        self.pool.shutdown(wait=False)
        self.bookkeeping.close()

    async def schedule(self, lock: int = 1) -> None:
        """Once a second: what a lost NOTIFY left lying is found. Now and then, periodic jobs are enqueued."""
        try:
            await self.queue.schedule(lock)
        except DATABASE_ERRORS as error:
            self.bookkeeping.note_lost(error)
        if self._periodic and time.monotonic() >= self._plan_at:
            self._plan_at = time.monotonic() + PLAN_SECONDS
            await self.bookkeeping.keep(self._plan)

    async def worker_info(self, ttl: int = 60) -> Any:
        """What the dashboard shows of this worker."""
        with contextlib.suppress(*DATABASE_ERRORS):
            return await super().worker_info(ttl)

    async def abort(self, _: float) -> None:
        """SAQ asks regularly whether a job should be cut off, which a thread cannot be. We send heartbeats instead."""
        if self._running:
            keys = [job.key for job in self._running.values()]
            await self.bookkeeping.keep(ledger.heartbeat, keys, self.id)

    def _plan(self, session: Session) -> None:
        """The next run of each that neither waits nor runs. Each time has a key of its own, whoever plans it."""
        pending = ledger.pending_keys(session, prefix="cron:")
        for job, cron in self._periodic:
            at = int(croniter(cron, time.time()).get_next())
            if not any(key.startswith(f"cron:{job.name}:") for key in pending):
                enqueue_at(session, job, at=at, key=f"cron:{job.name}:{at}", once=True)

    async def _recover(self) -> list[str]:
        taken = await self.bookkeeping.keep(ledger.recover) or []
        for key in taken:
            logger.warning("job was taken from a worker that is gone", key=key)
        if time.monotonic() >= self._clean_at:
            self._clean_at = time.monotonic() + CLEAN_SECONDS
            while (await self.bookkeeping.keep(ledger.remove_expired) or 0) == BATCH:
                pass
        return taken

    async def _until_complete(self) -> None:
        """Jobs upon tables that a migration has yet to make would use up their attempts."""
        said = ""
        while self._lacks and not self.event.is_set() and (lack := await self.bookkeeping.keep(self._lacks)) != "":
            if lack and lack != said:
                logger.warning("worker waits and takes no job", until=lack)
                said = lack
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self.event.wait(), RECONNECT_SECONDS)

    async def _until_connected(self) -> None:
        while not self.event.is_set():
            try:
                await self.queue.connect()
            except DATABASE_ERRORS as error:
                await self.bookkeeping.wait_for_database(error)
            else:
                return

    def _count(self, became: saq.Status | None) -> None:
        """For the dashboard."""
        self.queue.complete += became is saq.Status.COMPLETE
        self.queue.retried += became is saq.Status.QUEUED
        self.queue.failed += became is saq.Status.FAILED


async def _end(tasks: set[asyncio.Task[Any]]) -> None:
    """Cancel until they have ended: before Python 3.12, `wait_for` loses a cancellation that meets a result."""
    pending = tasks
    while pending:
        for task in pending:
            task.cancel()
        _, pending = await asyncio.wait(pending, timeout=1)
    await asyncio.gather(*tasks, return_exceptions=True)  # which also says that their errors are known
