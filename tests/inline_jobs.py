"""What the application has enqueued, and a way to run it without a worker, inside the test's transaction."""

import functools
from typing import Any

import saq
from litestar import Litestar
from sqlalchemy import Connection, select, update
from sqlalchemy.orm import Session

from app.lib.db.database import Database
from app.lib.jobs.broker import decode, saq_jobs
from app.server.jobs import all_jobs
from app.server.resources import job_resources

QUEUED = select(saq_jobs.c.key, saq_jobs.c.job).where(saq_jobs.c.status == "queued").order_by(saq_jobs.c.lock_key)


class InlineJobs:
    """`queued` are pairs of a job's name and its arguments, in the order in which they were enqueued."""

    def __init__(self, app: Litestar, connection: Connection, database: Database) -> None:
        self._connection = connection
        self._database = database
        self.resources = job_resources(app.state.settings)
        self._declared = {job.name: job for job in all_jobs()}

    @property
    def queued(self) -> list[tuple[str, dict[str, Any]]]:
        jobs = [decode(row.job) for row in self._connection.execute(QUEUED)]
        return [(job.function, job.kwargs or {}) for job in jobs]

    def run(self) -> None:
        """Run what is queued now, whenever it is due. Raises what a job raises."""
        for row in self._connection.execute(QUEUED).all():
            self._database.write_once(functools.partial(self._work, row.key, decode(row.job)))

    def _work(self, key: str, job: saq.Job, session: Session) -> None:
        session.execute(update(saq_jobs).where(saq_jobs.c.key == key).values(status="complete"))
        self._declared[job.function].run(session, self.resources, job.kwargs or {})
