"""Runs jobs: SAQ's worker finds them, threads of ours run each as one unit of work."""

import asyncio
import contextlib
import signal
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar
from uuid import uuid4

import psycopg
import psycopg_pool
import saq
import structlog
from croniter import croniter
from saq.worker import Worker
from sqlalchemy import URL
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from app.lib.db.database import Database
from app.lib.errors import ApplicationError
from app.lib.jobs import ledger
from app.lib.jobs.broker import HEARTBEAT, enqueue_at
from app.lib.jobs.declaration import Job
from app.lib.jobs.queue import JobQueue

RECOVER_SECONDS = 5
CLEAN_SECONDS = 60
PLAN_SECONDS = 20
"""How often the next run of every periodic job is looked after: a minute is the finest that cron knows."""
RECONNECT_SECONDS = 0.5
UNKNOWN_SECONDS = 60
UNKNOWN_KEPT = 24 * 3600
"""How often a job that this worker does not know is looked at again, and for how long."""
LAST_WORDS = 10_000
"""Characters of a traceback that are kept, from its end."""
DATABASE_ERRORS = (SQLAlchemyError, psycopg.Error, psycopg_pool.PoolTimeout)

T = TypeVar("T")
logger: Any = structlog.get_logger("app.jobs")


class JobTimeoutError(Exception):
    """The job's thread still runs, but what it does will not be kept."""


class JobUnknownError(Exception):
    """No worker has known this job for a day."""


class JobRefusedError(Exception):
    """It raised an error of ours. In a request those may keep what was written before them; in a job none does."""


class JobNotBegunError(Exception):
    """There was no connection for it, which is not its fault."""


class JobWorker(Worker[Any]):
    """Takes as many jobs at once as it has threads, and its database has that many connections and one more.

    `resources` are handed to jobs by type. `grace` is how many seconds running jobs have left when it is stopped;
    those that need longer go back to the queue. Any number of workers may run, on any machines whose clocks agree
    within a few seconds.
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
    ) -> None:
        worker_id = uuid4().hex
        queue = JobQueue(url, worker_id=worker_id, recover=self._recover)
        timers: Any = {"schedule": 1, "worker_info": HEARTBEAT // 3, "sweep": RECOVER_SECONDS, "abort": HEARTBEAT // 5}
        super().__init__(queue, [], id=worker_id, concurrency=concurrency, timers=timers)
        self.pool.shutdown()
        self.pool = ThreadPoolExecutor(concurrency, thread_name_prefix="keel-job")
        self._bookkeeping = ThreadPoolExecutor(1, thread_name_prefix="keel-job-books")
        self._jobs = {job.name: job for job in jobs}
        self._database = database
        self._resources = resources
        self._grace = grace
        self._queue = queue
        self._running: dict[asyncio.Task[Any], saq.Job] = {}
        self._periodic = [(job, job.cron) for job in jobs if job.cron]
        self._plan_at = self._clean_at = 0.0
        self._hanging = 0
        self._is_lost = False

    async def serve(self) -> bool:
        """Until SIGTERM or SIGINT. False when a thread still runs, because its job did not end in time."""
        await self._until_connected()
        logger.info("worker started", concurrency=self.concurrency, jobs=len(self._jobs))
        try:
            await self.start()
        finally:
            await self.queue.disconnect()
        return not self._running

    async def process(self) -> bool:
        """One turn of one slot: wait for a job, run it in a thread, and stay with it until the thread is free again."""
        try:
            job = await self.queue.dequeue()
        except DATABASE_ERRORS as error:
            await self._wait_for_database(error)
            return False
        if job is None:
            return False
        self._note_database_is_back()
        if self.event.is_set():  # it came while the stop was cancelling us, which has not counted it as running
            self._queue.put_back(job)
            return False
        task = asyncio.current_task()
        assert task is not None
        self._running[task] = job
        try:
            await self._attend(job)
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
            logger.warning("job goes back to the queue", job=job.function, key=job.key)
            await self._keep(ledger.release, job)
        self.pool.shutdown(wait=False)
        self._bookkeeping.shutdown()

    async def schedule(self, lock: int = 1) -> None:
        """Once a second: what a lost NOTIFY left lying is found. Now and then, periodic jobs are enqueued."""
        try:
            await self.queue.schedule(lock)
        except DATABASE_ERRORS as error:
            self._note_database_is_lost(error)
        if self._periodic and time.monotonic() >= self._plan_at:
            self._plan_at = time.monotonic() + PLAN_SECONDS
            await self._keep(self._plan)

    def _plan(self, session: Session) -> None:
        """The next run of each that neither waits nor runs. Each time has a key of its own, whoever plans it."""
        pending = ledger.pending_keys(session, prefix="cron:")
        for job, cron in self._periodic:
            at = int(croniter(cron, time.time()).get_next())
            if not any(key.startswith(f"cron:{job.name}:") for key in pending):
                enqueue_at(session, job, at=at, key=f"cron:{job.name}:{at}", once=True)

    async def worker_info(self, ttl: int = 60) -> Any:
        """What the dashboard shows of this worker."""
        with contextlib.suppress(*DATABASE_ERRORS):
            return await super().worker_info(ttl)

    async def abort(self, _: float) -> None:
        """SAQ asks regularly whether a job should be cut off, which a thread cannot be. We send heartbeats instead."""
        if self._running:
            keys = [job.key for job in self._running.values()]
            await self._keep(lambda session: ledger.heartbeat(session, keys, self.id))

    async def _recover(self) -> list[str]:
        taken = await self._keep(ledger.recover) or []
        for key in taken:
            logger.warning("job was taken from a worker that is gone", key=key)
        if time.monotonic() >= self._clean_at:
            self._clean_at = time.monotonic() + CLEAN_SECONDS
            while (await self._keep(ledger.remove_expired) or 0) == ledger.BATCH:
                pass
        return taken

    async def _attend(self, job: saq.Job) -> None:
        if job.function not in self._jobs:
            await self._put_back_unknown(job)
            return
        thread = await self._begin(job)
        while thread.done() and isinstance(missing := thread.result(), JobNotBegunError):
            if self.event.is_set():
                await self._keep(ledger.release, job)
                return
            await self._wait_for_database(missing)
            thread = await self._begin(job)
        if not thread.done():
            await self._outlast(job, thread)
        elif error := thread.result():
            await self._record_failure(job, error)
        else:
            self.queue.complete += 1  # the dashboard shows it

    async def _begin(self, job: saq.Job) -> asyncio.Future[BaseException | None]:
        """Returns when the thread is done, or its time is over."""
        thread = asyncio.get_running_loop().run_in_executor(self.pool, self._outcome, job)
        await asyncio.wait([thread], timeout=job.timeout)
        return thread

    async def _outlast(self, job: saq.Job, thread: asyncio.Future[BaseException | None]) -> None:
        """A thread cannot be stopped: its slot stays taken, while another attempt may have the job."""
        self._hanging += 1
        await self._record_failure(job, JobTimeoutError(f"after {job.timeout} s"))
        if self._hanging == self.concurrency:
            logger.error("every slot hangs in a job beyond its timeout: this worker does nothing, restart it")
        await asyncio.wait([thread])
        self._hanging -= 1

    async def _put_back_unknown(self, job: saq.Job) -> None:
        """Newer code may have enqueued it, while this worker is about to be replaced; after a day, nobody has."""
        if time.time() - job.queued / 1000 > UNKNOWN_KEPT:
            await self._record_failure(job, JobUnknownError(job.function))
        else:
            logger.warning("job is not known here and waits for a newer worker", job=job.function, key=job.key)
            await self._keep(lambda session: ledger.release(session, job, delay=UNKNOWN_SECONDS))

    def _outcome(self, job: saq.Job) -> BaseException | None:
        """What the job raised. It is returned, because a Future cannot carry StopIteration."""
        try:
            self._run(job)
        except BaseException as error:  # noqa: BLE001  (SystemExit, too, is the job's failure and not the worker's)
            return error
        return None

    def _run(self, job: saq.Job) -> None:
        """In a thread. The job's effects and its completion commit together."""
        began = time.perf_counter()
        request_id = job.meta.get("request_id")
        with structlog.contextvars.bound_contextvars(job=job.function, key=job.key, request_id=request_id):
            declared = self._jobs[job.function]

            def work(session: Session) -> None:
                try:
                    session.connection()
                except DATABASE_ERRORS as error:
                    raise JobNotBegunError(*error.args) from error
                try:
                    declared.run(session, self._resources, job.kwargs or {})
                except ApplicationError as error:
                    raise JobRefusedError(str(error)) from error
                session.flush()
                ledger.complete(session, job)

            self._database.write_once(work)
            logger.info("job done", attempt=job.attempts, ms=round((time.perf_counter() - began) * 1000, 1))

    async def _record_failure(self, job: saq.Job, error: BaseException) -> None:
        whole = "".join(traceback.format_exception(error))
        words = whole[-LAST_WORDS:]
        became = await self._keep(lambda session: ledger.fail(session, job, _storable(words)))
        self.queue.retried += became is saq.Status.QUEUED
        self.queue.failed += became is saq.Status.FAILED
        logger.warning(
            "job failed",
            job=job.function,
            key=job.key,
            attempt=job.attempts,
            became=became.value if became else None,
            **({"exc_info": error} if whole == words else {"error": words}),
        )

    async def _keep(self, step: Callable[..., T], *arguments: Any) -> T | None:
        """Take one step in the ledger, in a transaction of its own. None when the database is away: then the
        heartbeat runs out, and some worker recovers the job."""

        def write() -> T:
            return self._database.write(lambda session: step(session, *arguments))

        try:
            result = await asyncio.get_running_loop().run_in_executor(self._bookkeeping, write)
        except DATABASE_ERRORS as error:
            self._note_database_is_lost(error)
            return None
        self._note_database_is_back()
        return result

    async def _until_connected(self) -> None:
        while True:
            try:
                await self.queue.connect()
            except DATABASE_ERRORS as error:
                await self._wait_for_database(error)
            else:
                return

    async def _wait_for_database(self, error: Exception) -> None:
        self._note_database_is_lost(error)
        await asyncio.sleep(RECONNECT_SECONDS)

    def _note_database_is_lost(self, error: Exception) -> None:
        if not self._is_lost:
            reason = (str(error).splitlines() or [""])[0]
            logger.warning("worker cannot use the database and keeps trying", error=type(error).__name__, reason=reason)
        self._is_lost = True

    def _note_database_is_back(self) -> None:
        if self._is_lost:
            logger.info("worker uses the database again")
        self._is_lost = False


async def _end(tasks: set[asyncio.Task[Any]]) -> None:
    """Cancel until they have ended: before Python 3.12, `wait_for` loses a cancellation that meets a result."""
    pending = tasks
    while pending:
        for task in pending:
            task.cancel()
        _, pending = await asyncio.wait(pending, timeout=1)
    await asyncio.gather(*tasks, return_exceptions=True)  # which also says that their errors are known


def _storable(text: str) -> str:
    """JSON in PostgreSQL knows neither NUL nor half a surrogate pair."""
    return text.replace("\0", "").encode(errors="replace").decode()
