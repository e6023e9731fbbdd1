"""Every job of the application, and the worker that runs them."""

from types import ModuleType
from typing import Any

from sqlalchemy import URL

from app.domain.accounts import jobs as accounts
from app.domain.api_keys import jobs as api_keys
from app.domain.audit import jobs as audit
from app.domain.confirmations import jobs as confirmations
from app.domain.files import jobs as files
from app.domain.identities import jobs as identities
from app.domain.registrations import jobs as registrations
from app.domain.sessions import jobs as sessions
from app.domain.throttles import jobs as throttles
from app.domain.totp import jobs as totp
from app.domain.users import jobs as users
from app.lib.db.database import Database
from app.lib.jobs.declaration import Job
from app.lib.jobs.ledger import OVERDUE
from app.lib.jobs.worker import JobWorker
from app.lib.settings import Settings
from app.lib.tracing import Traces, trace_statements
from app.server.metrics.metrics import Metrics
from app.server.resources import job_resources
from app.server.revisions import Revisions

JOB_MODULES = [
    accounts,
    api_keys,
    audit,
    confirmations,
    files,
    identities,
    registrations,
    sessions,
    throttles,
    totp,
    users,
]
"""A new feature's jobs module is added here, and nowhere else."""


def all_jobs() -> list[Job[Any]]:
    return [each for module in JOB_MODULES for each in _jobs_of(module)]


def _jobs_of(module: ModuleType) -> list[Job[Any]]:
    return [value for value in vars(module).values() if isinstance(value, Job)]


def build_worker(
    settings: Settings,
    url: URL | str,
    metrics: Metrics | None = None,
    traces: Traces | None = None,
    *,
    concurrency: int,
    grace: float,
) -> JobWorker:
    """Connects to nothing until it serves."""
    jobs = all_jobs()
    database = Database(
        url,
        pool_size=concurrency + 1,
        echo=settings.db_echo,
        name="keel-worker",
        idle_timeout=max(job.timeout for job in jobs) + OVERDUE,  # while it waits for a mail server, perhaps
        session_info={"count_event": metrics.note_audit_event} if metrics else {},
        pool_pre_ping=True,
    )
    if traces:
        trace_statements(database.engine, traces)
    revisions = Revisions()
    return JobWorker(
        url,
        jobs,
        database=database,
        resources=job_resources(settings),
        concurrency=concurrency,
        grace=grace,
        lacks=lambda session: revisions.lack(session.connection()),
        observe=metrics.note_job if metrics else None,
        traces=traces,
    )
