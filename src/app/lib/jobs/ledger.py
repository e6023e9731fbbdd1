"""What becomes of a job: each step is one fenced UPDATE, so that only the worker that holds it can take it.

A job is held by the attempt that dequeued it. When a worker is taken for dead, its jobs go to others; should it
still live, its UPDATE finds another attempt's number, and everything its transaction did is rolled back.
"""

import dataclasses
import time
from collections.abc import Sequence
from datetime import timedelta
from typing import Any, NamedTuple

import saq
from saq.utils import now
from sqlalchemy import BigInteger, ColumnElement, Text, and_, cast, delete, func, or_, select, text, true, update
from sqlalchemy.orm import Session

from app.lib.db.service import BATCH
from app.lib.jobs.broker import CHANNEL, DOCUMENT, KEEP_COMPLETE, KEEP_DEAD, decode, encode, saq_jobs

PENDING = (saq.Status.QUEUED.value, saq.Status.ACTIVE.value)
DEAD = (saq.Status.FAILED.value, saq.Status.ABORTED.value)
LOST = "The worker died, or lost the database for too long."
UNWANTED = "An administrator called it off."
OVERDUE = 10
"""Seconds beyond its timeout after which any worker may take a job from a worker that still sends heartbeats."""

_NOW = cast(func.extract("epoch", func.now()), BigInteger)
_NOW_MS = cast(func.extract("epoch", func.clock_timestamp()) * 1000, BigInteger)
_FIGURES = text("""
    WITH jobs AS (
        SELECT status, scheduled, status = 'queued' AND scheduled <= EXTRACT(epoch FROM now()) AS is_due
        FROM saq_jobs WHERE status IN ('queued', 'active') OR status = ANY (:dead)
    )
    SELECT count(*) FILTER (WHERE is_due) AS due,
        count(*) FILTER (WHERE status = 'queued' AND NOT is_due) AS later,
        count(*) FILTER (WHERE status = 'active') AS active,
        count(*) FILTER (WHERE status = ANY (:dead)) AS dead,
        GREATEST(0, EXTRACT(epoch FROM now()) - min(scheduled) FILTER (WHERE is_due)) AS oldest,
        (SELECT count(*) FROM saq_stats WHERE expire_at >= EXTRACT(epoch FROM now())) AS workers
    FROM jobs
""")
_NOTIFY = text("SELECT pg_notify(:channel, 'saq:enqueue')")


class QueueFigures(NamedTuple):
    """`by_state`: jobs that are `due`, for `later`, `active` and `dead`. `oldest`: for how many seconds the first of
    them has been due. `workers`: how many have lately said that they live."""

    by_state: dict[str, int]
    oldest: float
    workers: int


class JobSupersededError(Exception):
    """Another attempt holds this job, so nothing of this one may be kept."""


def complete(session: Session, job: saq.Job) -> None:
    """In the transaction of the job's own work: its effects are there exactly when it is complete.

    Raises JobSupersededError when it is no longer ours.
    """
    changes = {"completed": now(), "error": None}  # an earlier attempt's
    if not _store(session, job, _held_by(job), saq.Status.COMPLETE, kept_until=_from_now(KEEP_COMPLETE), **changes):
        raise JobSupersededError(job.key)


def fail(session: Session, job: saq.Job, error: str) -> saq.Status | None:
    """Let it run again after its back-off, or after its last attempt not at all.

    Returns what became of it; None when it is no longer ours.
    """
    if not job.retryable:
        return _bury(session, job, _held_by(job), saq.Status.FAILED, error)
    at = int(time.time() + job.next_retry_delay())
    return _store(session, job, _held_by(job), saq.Status.QUEUED, scheduled=at, started=0, error=error)


def release(session: Session, job: saq.Job, *, delay: int = 0) -> None:
    """Give it back unrun, or cut off by a stop, for another worker to have; the attempt does not count."""
    at = _now() + delay
    _store(session, job, _held_by(job), saq.Status.QUEUED, scheduled=at, started=0, attempts=job.attempts - 1)
    session.execute(_NOTIFY, {"channel": CHANNEL})


def heartbeat(session: Session, keys: Sequence[str], worker_id: str) -> None:
    """Say that these jobs still run. Those whose row is locked are just finishing."""
    mine = select(saq_jobs.c.key).where(
        saq_jobs.c.key.in_(keys), saq_jobs.c.status == saq.Status.ACTIVE.value, _worker() == worker_id
    )
    touched = func.jsonb_set(DOCUMENT, text("'{touched}'"), func.to_jsonb(_NOW_MS))
    session.execute(
        update(saq_jobs)
        .where(saq_jobs.c.key.in_(mine.with_for_update(skip_locked=True)))
        .values(job=func.convert_to(cast(touched, Text), "UTF8"))
    )


def recover(session: Session) -> list[str]:
    """Take jobs from workers that have stopped to send heartbeats. Returns the keys of those taken."""
    silent = _NOW_MS - _number("touched") > _number("heartbeat") * 1000
    overdue = _NOW_MS - _number("started") > (_number("timeout") + OVERDUE) * 1000
    stuck = session.scalars(
        select(saq_jobs.c.job)
        .where(saq_jobs.c.status == saq.Status.ACTIVE.value, or_(silent, and_(_number("timeout") > 0, overdue)))
        .limit(BATCH)
        .with_for_update(skip_locked=True)
    )
    jobs = [decode(stored) for stored in stuck]
    return [job.key for job in jobs if fail(session, job, LOST)]


def remove_expired(session: Session) -> int:
    """Finished jobs past the time they are kept, and workers that are gone; in a batch. Returns how many jobs."""
    expired = select(saq_jobs.c.key).where(saq_jobs.c.expire_at < _NOW).limit(BATCH)
    gone = session.scalars(
        delete(saq_jobs).where(saq_jobs.c.key.in_(expired.with_for_update(skip_locked=True))).returning(saq_jobs.c.key)
    )
    session.execute(text("DELETE FROM saq_stats WHERE expire_at < EXTRACT(EPOCH FROM now())"))
    return len(gone.all())


def queue_figures(session: Session) -> QueueFigures:
    """One look at all of it; jobs that are complete are not counted."""
    row = session.execute(_FIGURES, {"dead": list(DEAD)}).mappings().one()
    by_state = {state: row[state] for state in ("due", "later", "active", "dead")}
    return QueueFigures(by_state, float(row["oldest"] or 0), row["workers"])


def pending_keys(session: Session, *, prefix: str) -> Sequence[str]:
    """Of those that wait or run, and begin with `prefix`."""
    return session.scalars(
        select(saq_jobs.c.key).where(saq_jobs.c.status.in_(PENDING), saq_jobs.c.key.startswith(prefix, autoescape=True))
    ).all()


def retry(session: Session, key: str) -> bool:
    """Run a dead job again, from its first attempt. False when there is no dead job of this key."""
    stored = _locked(session, key, DEAD)
    if stored is None:
        return False
    _store(session, decode(stored), true(), saq.Status.QUEUED, scheduled=_now(), started=0, completed=0, attempts=0)
    session.execute(_NOTIFY, {"channel": CHANNEL})
    return True


def abort(session: Session, key: str) -> bool:
    """Put a job that waits or runs into the dead list; of what a running one does, nothing is kept.

    False when it has ended already.
    """
    stored = _locked(session, key, PENDING)
    if stored is None:
        return False
    _bury(session, decode(stored), true(), saq.Status.ABORTED, UNWANTED)
    return True


def _locked(session: Session, key: str, statuses: Sequence[str]) -> bytes | None:
    which = select(saq_jobs.c.job).where(saq_jobs.c.key == key, saq_jobs.c.status.in_(statuses))
    return session.scalar(which.with_for_update())


def _bury(
    session: Session, job: saq.Job, where: ColumnElement[bool], status: saq.Status, error: str
) -> saq.Status | None:
    return _store(session, job, where, status, completed=now(), error=error, kept_until=_from_now(KEEP_DEAD))


def _store(
    session: Session,
    job: saq.Job,
    where: ColumnElement[bool],
    status: saq.Status,
    *,
    kept_until: int | None = None,
    **changes: Any,
) -> saq.Status | None:
    """The whole row in one UPDATE. None when `where` did not hold."""
    changed = dataclasses.replace(job, status=status, touched=now(), **changes)
    row = {"job": encode(changed), "status": status.value, "scheduled": changed.scheduled, "expire_at": kept_until}
    found = session.execute(
        update(saq_jobs).where(saq_jobs.c.key == job.key, where).values(row).returning(saq_jobs.c.key)
    )
    return status if found.first() else None


def _now() -> int:
    return int(time.time())


def _from_now(period: timedelta) -> int:
    return int(time.time() + period.total_seconds())


def _held_by(job: saq.Job) -> ColumnElement[bool]:
    return and_(
        saq_jobs.c.status == saq.Status.ACTIVE.value,
        _number("attempts") == job.attempts,
        _worker() == job.worker_id,
    )


def _worker() -> ColumnElement[str]:
    return cast(DOCUMENT["worker_id"].astext, Text)


def _number(field: str) -> ColumnElement[int]:
    """SAQ leaves out what has its default, which is 0 for those that are asked for here, save `timeout`: 10."""
    return func.coalesce(cast(DOCUMENT[field].astext, BigInteger), 10 if field == "timeout" else 0)
