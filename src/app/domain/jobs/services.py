from collections.abc import Sequence
from typing import Any

import saq
from sqlalchemy import BigInteger, ColumnElement, cast, func, select, true
from sqlalchemy.orm import Session

from app.domain.audit.models import Action
from app.domain.audit.services import AuditService
from app.domain.jobs.errors import JobNotDeadError
from app.domain.jobs.schemas import JobRead
from app.lib.errors import InvalidInputError, NotFoundError
from app.lib.jobs import ledger
from app.lib.jobs.broker import DOCUMENT, QUEUE, decode, saq_jobs, saq_stats
from app.lib.pagination import Page, PageRequest, contains

SHOWN_JOBS = 200
"""On the dashboard, the newest; the API has them all, in pages."""


def page_of_jobs(session: Session, *, status: str | None, page: PageRequest, sort: str) -> Page[JobRead]:
    """Raises InvalidInputError for a cursor: finished jobs expire, so this list does not grow without bound."""
    if page.cursor is not None:
        raise InvalidInputError("This list is read in pages, with limit and offset.", field="cursor")
    where = (
        saq_jobs.c.status == status if status else true(),
        contains(page.q, saq_jobs.c.key, DOCUMENT["function"].astext),
        *_queued_within(page),
    )
    order = [saq_jobs.c.scheduled, saq_jobs.c.key]
    rows = session.scalars(
        select(saq_jobs.c.job)
        .where(*where)
        .order_by(*[column.desc() if sort.startswith("-") else column.asc() for column in order])
        .limit(page.limit)
        .offset(page.offset)
    )
    items = [JobRead.of(decode(stored)) for stored in rows]
    total = session.scalar(select(func.count()).select_from(saq_jobs).where(*where)) or 0
    return Page(items=items, limit=page.limit, offset=page.offset, total=total)


def get_job(session: Session, key: str) -> saq.Job:
    """Raises NotFoundError."""
    stored = session.scalar(select(saq_jobs.c.job).where(saq_jobs.c.key == key))
    if stored is None:
        raise NotFoundError
    return decode(stored)


def retry_job(session: Session, key: str) -> saq.Job:
    """Run a dead job again. Raises NotFoundError, or JobNotDeadError for one that is not dead."""
    AuditService(session).record(Action.JOB_RETRIED, subject=("job", key))
    if not ledger.retry(session, key):
        get_job(session, key)
        raise JobNotDeadError
    return get_job(session, key)


def abort_job(session: Session, key: str) -> saq.Job:
    """Put a job that waits or runs into the dead list; one that has ended stays as it is. Raises NotFoundError."""
    AuditService(session).record(Action.JOB_ABORTED, subject=("job", key))
    ledger.abort(session, key)
    return get_job(session, key)


def describe_queue(session: Session, *, with_jobs: bool) -> dict[str, Any]:
    """In the words of SAQ's dashboard. Beside what waits and runs, it shows what is dead."""
    is_queued = saq_jobs.c.status == saq.Status.QUEUED.value
    is_due = saq_jobs.c.scheduled <= func.extract("epoch", func.now())
    counts = session.execute(
        select(
            func.count().filter(is_queued, is_due).label("queued"),
            func.count().filter(is_queued, ~is_due).label("scheduled"),
            func.count().filter(saq_jobs.c.status == saq.Status.ACTIVE.value).label("active"),
        )
    ).one()
    return {
        "name": QUEUE,
        "workers": _workers(session),
        "queued": counts.queued,
        "active": counts.active,
        "scheduled": counts.scheduled,
        "jobs": [describe_job(job) for job in _shown_jobs(session)] if with_jobs else [],
    }


def describe_job(job: saq.Job) -> dict[str, Any]:
    """In the words of SAQ's dashboard."""
    return job.to_dict() | {"kwargs": repr(job.kwargs or {})}


def _workers(session: Session) -> dict[str, Any]:
    alive = saq_stats.c.expire_at >= func.extract("epoch", func.now())
    return {
        row.worker_id: {"stats": row.stats, "metadata": row.metadata, "queue_key": row.queue_key}
        for row in session.execute(select(saq_stats).where(alive))
    }


def _shown_jobs(session: Session) -> Sequence[saq.Job]:
    newest = (
        select(saq_jobs.c.job)
        .where(saq_jobs.c.status.in_(ledger.PENDING + ledger.DEAD))
        .order_by(saq_jobs.c.lock_key.desc())
    )
    return [decode(stored) for stored in session.scalars(newest.limit(SHOWN_JOBS))]


def _queued_within(page: PageRequest) -> list[ColumnElement[bool]]:
    queued = cast(DOCUMENT["queued"].astext, BigInteger)
    conditions = []
    if page.created_after is not None:
        conditions.append(queued >= page.created_after.timestamp() * 1000)
    if page.created_before is not None:
        conditions.append(queued < page.created_before.timestamp() * 1000)
    return conditions
