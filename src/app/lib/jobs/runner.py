"""Runs one job after another in threads, each as one unit of work, and records what became of it."""

import asyncio
import contextvars
import time
import traceback
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Protocol

import saq
import structlog
from opentelemetry.trace import Span, SpanKind, Status, StatusCode
from sqlalchemy.orm import Session

from app.lib.db.database import Database
from app.lib.errors import ApplicationError
from app.lib.jobs import ledger
from app.lib.jobs.bookkeeping import DATABASE_ERRORS, Bookkeeping
from app.lib.jobs.declaration import Job
from app.lib.origin import Origin, originating
from app.lib.tracing import Traces, continued

UNKNOWN_SECONDS = 60
UNKNOWN_KEPT = 24 * 3600
"""How often a job that this worker does not know is looked at again, and for how long."""
LAST_WORDS = 10_000
"""Characters of a traceback that are kept, from its end."""

logger: Any = structlog.get_logger("app.jobs")


class JobTimeoutError(Exception):
    """The job's thread still runs, but what it does will not be kept."""


class JobUnknownError(Exception):
    """No worker has known this job for a day."""


class JobRefusedError(Exception):
    """It raised an error of ours. In a request those may keep what was written before them; in a job none does."""


class JobNotBegunError(Exception):
    """There was no connection for it, which is not its fault."""


class JobObserver(Protocol):
    """Is told of every attempt: how many seconds it waited and ran, and what became of it (None: it was taken away)."""

    def __call__(self, name: str, became: saq.Status | None, *, waited: float, seconds: float) -> None: ...


class JobRunner:
    """`resources` are handed to jobs by type. Raises JobDeclarationError when a job asks for another type."""

    def __init__(
        self,
        jobs: Sequence[Job[Any]],
        *,
        database: Database,
        resources: Mapping[type[Any], Any],
        concurrency: int,
        bookkeeping: Bookkeeping,
        observe: JobObserver | None = None,
        traces: Traces | None = None,
    ) -> None:
        for job in jobs:
            job.check(resources)
        self._jobs = {job.name: job for job in jobs}
        self._database = database
        self._resources = resources
        self._bookkeeping = bookkeeping
        self._concurrency = concurrency
        self._observe = observe
        self._traces = traces
        self._hanging = 0
        self.threads = ThreadPoolExecutor(concurrency, thread_name_prefix="keel-job")

    async def attend(self, job: saq.Job, *, stopping: asyncio.Event) -> saq.Status | None:
        """Stay with the job until its thread is free again. Returns what became of it, None when it is not ours now."""
        began = time.perf_counter()
        with _described(job), self._traced(job) as span:
            became = await self._attend(job, stopping)
            if span and became is not saq.Status.COMPLETE:
                span.set_status(Status(StatusCode.ERROR))
        if self._observe:
            name = job.function if job.function in self._jobs else "unknown"
            waited = (job.started - max(job.queued, job.scheduled * 1000)) / 1000
            self._observe(name, became, waited=waited, seconds=time.perf_counter() - began)
        return became

    def _traced(self, job: saq.Job) -> AbstractContextManager[Span | None]:
        """A span in the trace of the request that asked for it."""
        if self._traces is None:
            return nullcontext()
        attributes = {"messaging.system": "saq", "messaging.message.id": job.key, "keel.attempt": job.attempts}
        name, carrier = f"job {job.function}", {key: str(value) for key, value in job.meta.items()}
        return continued(self._traces, name, carrier, kind=SpanKind.CONSUMER, attributes=attributes)

    async def _attend(self, job: saq.Job, stopping: asyncio.Event) -> saq.Status | None:
        if job.function not in self._jobs:
            return await self._put_back_unknown(job)
        thread = await self._begin(job)
        while thread.done() and isinstance(missing := thread.result(), JobNotBegunError):
            if stopping.is_set():
                await self._bookkeeping.keep(ledger.release, job)
                return saq.Status.QUEUED
            await self._bookkeeping.wait_for_database(missing)
            thread = await self._begin(job)
        if not thread.done():
            return await self._outlast(job, thread)
        error = thread.result()
        return await self._record_failure(job, error) if error else saq.Status.COMPLETE

    async def _begin(self, job: saq.Job) -> asyncio.Future[BaseException | None]:
        """Returns when the thread is done, or its time is over."""
        thread = asyncio.get_running_loop().run_in_executor(
            self.threads, contextvars.copy_context().run, self._outcome, job
        )
        await asyncio.wait([thread], timeout=job.timeout)
        return thread

    async def _outlast(self, job: saq.Job, thread: asyncio.Future[BaseException | None]) -> saq.Status | None:
        """A thread cannot be stopped: its slot stays taken, while another attempt may have the job."""
        self._hanging += 1
        became = await self._record_failure(job, JobTimeoutError(f"after {job.timeout} s"))
        if self._hanging == self._concurrency:
            logger.error("every slot hangs in a job beyond its timeout: this worker does nothing, restart it")
        await asyncio.wait([thread])
        self._hanging -= 1
        return became

    async def _put_back_unknown(self, job: saq.Job) -> saq.Status | None:
        """Newer code may have enqueued it, while this worker is about to be replaced; after a day, nobody has."""
        if time.time() - job.queued / 1000 > UNKNOWN_KEPT:
            return await self._record_failure(job, JobUnknownError(job.function))
        logger.warning("job is not known here: is its module in JOB_MODULES of server/jobs.py, or this worker old?")
        await self._bookkeeping.keep(ledger.release, job, delay=UNKNOWN_SECONDS)
        return saq.Status.QUEUED

    def _outcome(self, job: saq.Job) -> BaseException | None:
        """In a thread. What the job raised is returned, because a Future cannot carry StopIteration."""
        origin = Origin(source=f"job {job.function}", request_id=job.meta.get("request_id"))
        with _described(job), originating(origin):
            try:
                self._run(job)
            except BaseException as error:  # noqa: BLE001  (SystemExit, too, is the job's failure and not the worker's)
                return error
            return None

    def _run(self, job: saq.Job) -> None:
        """The job's effects and its completion commit together."""
        began = time.perf_counter()

        def work(session: Session) -> None:
            try:
                session.connection()
            except DATABASE_ERRORS as error:
                raise JobNotBegunError(*error.args) from error
            try:
                self._jobs[job.function].run(session, self._resources, job.kwargs or {})
            except ApplicationError as error:
                raise JobRefusedError(str(error)) from error
            session.flush()
            ledger.complete(session, job)

        self._database.write_once(work)
        logger.info("job done", attempt=job.attempts, ms=round((time.perf_counter() - began) * 1000, 1))

    async def _record_failure(self, job: saq.Job, error: BaseException) -> saq.Status | None:
        whole = "".join(traceback.format_exception(error))
        words = whole[-LAST_WORDS:]
        became = await self._bookkeeping.keep(ledger.fail, job, _storable(words))
        logger.warning(
            "job failed",
            attempt=job.attempts,
            became=became.value if became else None,
            **({"exc_info": error} if whole == words else {"error": words}),
        )
        return became


def _described(job: saq.Job) -> AbstractContextManager[None]:
    """What is logged inside says of which job, and of which request."""
    return structlog.contextvars.bound_contextvars(job=job.function, key=job.key, request_id=job.meta.get("request_id"))


def _storable(text: str) -> str:
    """JSON in PostgreSQL knows neither NUL nor half a surrogate pair."""
    return text.replace("\0", "").encode(errors="replace").decode()
