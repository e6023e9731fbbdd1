"""A database of the test's own, jobs that leave traces in it, and workers that run them."""

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import saq
from sqlalchemy import URL, NullPool, create_engine, select, text
from sqlalchemy.orm import Session

from app.lib.db.database import Database
from app.lib.errors import ApplicationError
from app.lib.jobs.broker import decode, saq_jobs
from app.lib.jobs.declaration import Job, job
from app.lib.jobs.worker import JobWorker
from tests.live import wait_until


class Gate:
    """Where a job waits until the test lets it go on. Handed to jobs by type."""

    def __init__(self) -> None:
        self.reached = threading.Event()
        self.opened = threading.Event()

    def wait(self) -> None:
        self.reached.set()
        assert self.opened.wait(30)


class Failures:
    """How often the job that asks for it is still to fail."""

    def __init__(self) -> None:
        self.left = 0


@job(timeout=20)
def leave_trace(session: Session, *, number: int) -> None:
    session.execute(text("INSERT INTO traces VALUES (:number)"), {"number": number})


@job(timeout=20)
def leave_trace_slowly(session: Session, gate: Gate, *, number: int) -> None:
    leave_trace(session, number=number)
    gate.wait()


@job(timeout=1)
def take_too_long(session: Session, gate: Gate, *, number: int) -> None:
    leave_trace_slowly(session, gate, number=number)


@job(retries=3)
def fail_at_first(session: Session, failures: Failures, *, number: int) -> None:
    leave_trace(session, number=number)
    failures.left -= 1
    if failures.left >= 0:
        raise RuntimeError("not yet\0\ud800")


@job(cron="* * * * *")
def tick(session: Session) -> None:
    leave_trace(session, number=0)


@job()
def run_into_a_timeout(session: Session) -> None:
    """As a mail server's silence does."""
    raise TimeoutError("the mail server is silent")


class KeptRefusalError(ApplicationError):
    """In a request, what was written before it is committed."""

    keeps_writes = True


@job(retries=3)
def refuse_and_keep(session: Session) -> None:
    leave_trace(session, number=1)
    raise KeptRefusalError


@job(retries=3)
def run_out_of_items(session: Session) -> None:
    next(iter(()))


@job(retries=3)
def leave_the_process(session: Session) -> None:
    raise SystemExit(3)


@job(retries=3, cron="* * * * * */2")
def fail_every_time(session: Session) -> None:
    """Planned for every other second."""
    raise RuntimeError("every time")


@job()
def from_newer_code(session: Session) -> None:
    """No worker knows it."""


JOBS: list[Job[Any]] = [leave_trace, leave_trace_slowly, take_too_long, fail_at_first, run_into_a_timeout]
JOBS += [refuse_and_keep, run_out_of_items, leave_the_process]


class Bench:
    """A queue with nothing in it, and what is stored, read with fresh connections."""

    def __init__(self, url: URL) -> None:
        self.url = url
        self.database = Database(url, pool_size=4)
        self.gate = Gate()
        self.failures = Failures()
        self._fresh = create_engine(url, poolclass=NullPool, isolation_level="AUTOCOMMIT")
        with self._fresh.connect() as connection:
            connection.execute(text("CREATE TABLE traces (number integer)"))

    def write(self, step: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
        return self.database.write(lambda session: step(session, *arguments, **options))

    @property
    def traces(self) -> list[int]:
        with self._fresh.connect() as connection:
            return list(connection.scalars(text("SELECT number FROM traces ORDER BY number")))

    @property
    def stored(self) -> list[saq.Job]:
        with self._fresh.connect() as connection:
            rows = connection.execute(select(saq_jobs.c.job, saq_jobs.c.status).order_by(saq_jobs.c.lock_key)).all()
        jobs = [decode(row.job) for row in rows]
        assert [job.status.value for job in jobs] == [row.status for row in rows]
        return jobs

    def execute(self, statement: str, **values: Any) -> None:
        with self._fresh.connect() as connection:
            connection.execute(text(statement), values)

    def hurried(self, status: str) -> bool:
        """Whether the first job has come to this; its next attempt need not wait."""
        self.make_due()
        return self.stored[0].status == status

    def make_due(self) -> None:
        """What waits for its next attempt need not wait any longer."""
        self.execute("UPDATE saq_jobs SET scheduled = 0 WHERE status = 'queued'")

    def wait_for(self, *statuses: str, seconds: float = 15) -> None:
        wait_until(
            lambda: [job.status.value for job in self.stored] == list(statuses),
            seconds=seconds,
            what=lambda: f"{statuses}: {self.stored}",
        )

    @contextmanager
    def worker(self, *more: Job[Any], concurrency: int = 2, grace: float = 10) -> Iterator["RunningWorker"]:
        database = Database(self.url, pool_size=concurrency + 1, pool_pre_ping=True)
        worker = JobWorker(
            self.url,
            [*JOBS, *more],
            database=database,
            resources={Gate: self.gate, Failures: self.failures},
            concurrency=concurrency,
            grace=grace,
        )
        running = RunningWorker(worker)
        try:
            yield running
        finally:
            running.stop()
            self.gate.opened.set()
            worker.pool.shutdown()
            database.dispose()


class RunningWorker:
    """A worker in a thread of this process, so that the test can look into it."""

    def __init__(self, worker: JobWorker, *, starts: bool = True) -> None:
        self.worker = worker
        worker.SIGNALS = []  # only a process's main thread may handle signals
        self._loop = asyncio.new_event_loop()
        self.all_ended: bool | None = None
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()
        if starts:
            wait_until(lambda: bool(worker.tasks), seconds=10, what="the worker to start")

    def stop(self) -> None:
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self.worker.event.set)
        self._thread.join(30)
        assert not self._thread.is_alive(), "the worker did not stop"

    def _serve(self) -> None:
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            self.all_ended = runner.run(self.worker.serve())


@pytest.fixture
def bench(live_database: URL) -> Iterator[Bench]:
    bench = Bench(live_database)
    yield bench
    bench.database.dispose()
