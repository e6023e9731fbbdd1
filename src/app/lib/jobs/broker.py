"""SAQ's tables in PostgreSQL, and the one statement that puts a job into them: on the caller's own session."""

import json
import time
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import saq
import structlog
from saq.utils import now
from sqlalchemy import BigInteger, Column, Index, Integer, LargeBinary, SmallInteger, Table, Text, cast, func, text
from sqlalchemy.dialects.postgresql import JSONB
from uuid_utils.compat import uuid7

from app.lib.db.models import Model
from app.lib.db.unit_of_work import AnySession, UnitOfWork
from app.lib.jobs.declaration import Job
from app.lib.tracing import trace_context

QUEUE = "default"
CHANNEL = f"saq:{QUEUE}"
SCHEMA_VERSION = 3
"""Of SAQ's tables, as our migration makes them; a test compares with what SAQ would make itself."""
HEARTBEAT = 15
"""Seconds after which a running job that nobody has touched is taken to have died with its worker."""
MAX_RETRY_DELAY = 600.0
"""Seconds between two attempts, at most."""
KEEP_COMPLETE = timedelta(days=1)
KEEP_DEAD = timedelta(days=30)

saq_jobs = Table(
    "saq_jobs",
    Model.metadata,
    Column("key", Text, primary_key=True),
    Column("lock_key", Integer, nullable=False),
    Column("job", LargeBinary, nullable=False),
    Column("queue", Text, nullable=False),
    Column("status", Text, nullable=False),
    Column("priority", SmallInteger, nullable=False, server_default=text("0")),
    Column("group_key", Text),
    Column("scheduled", BigInteger, nullable=False, server_default=text("EXTRACT(epoch FROM now())")),
    Column("expire_at", BigInteger),
    Index("saq_jobs_status_queue_group_key_idx", "status", "queue", "group_key"),
    Index("saq_jobs_status_queue_priority_scheduled_idx", "status", "queue", "priority", "scheduled"),
    Index("ix_saq_jobs_expire_at", "expire_at", postgresql_where=text("expire_at IS NOT NULL")),  # ours
)
saq_stats = Table(
    "saq_stats",
    Model.metadata,
    Column("worker_id", Text, primary_key=True),
    Column("stats", JSONB),
    Column("expire_at", BigInteger),
    Column("metadata", JSONB),
    Column("queue_key", Text),
    Index("saq_stats_expire_at_idx", "expire_at"),
    Index("saq_stats_queue_key_idx", "queue_key"),
)
saq_versions = Table("saq_versions", Model.metadata, Column("version", Integer))

DOCUMENT = cast(func.convert_from(saq_jobs.c.job, "UTF8"), JSONB)
"""What SAQ stores of a job, for conditions on its fields. It leaves out those that have their default."""

_INSERT = text("""
    WITH enqueued AS (
        INSERT INTO saq_jobs (key, job, queue, status, priority, group_key, scheduled)
        VALUES (:key, :job, :queue, 'queued', 0, NULL, :scheduled)
        ON CONFLICT (key) DO UPDATE
        SET job = :job, queue = :queue, status = 'queued', priority = 0, group_key = NULL, scheduled = :scheduled,
            expire_at = NULL
        WHERE saq_jobs.status IN ('aborted', 'complete', 'failed') AND :scheduled > saq_jobs.scheduled
            AND NOT CAST(:once AS boolean)
        RETURNING 1
    )
    SELECT pg_notify(:channel, 'saq:enqueue') FROM enqueued
""")
"""What SAQ's own enqueue does, in one round trip and on our transaction; and what `once` adds."""


def enqueue(
    session: AnySession,
    job: Job[Any],
    *,
    after: timedelta | None = None,
    key: str | None = None,
    once: bool = False,
    **arguments: object,
) -> bool:
    """Run `job` in a worker, once the session's transaction has committed; never if it rolls back.

    Of several with the same `key` only one waits or runs at a time: False when there was one already, or one was
    enqueued within the same second. With `once`, False also when one has ended, as long as it is kept (a day at
    least). The key is stored in clear, like the arguments. Raises msgspec's ValidationError for arguments that
    the job does not take.
    """
    at = int(time.time() + after.total_seconds()) if after else 0
    return enqueue_at(session, job, at=at, key=key, once=once, **arguments)


def enqueue_at(
    session: AnySession, job: Job[Any], *, at: int, key: str | None, once: bool = False, **arguments: object
) -> bool:
    """As `enqueue`, at a time in seconds since the epoch; 0 is now."""
    UnitOfWork.of(session)  # refuses a session that only reads
    stored = saq.Job(
        function=job.name,
        key=str(uuid7()) if key is None else key,
        kwargs=job.encode(arguments) or None,
        queue=SimpleNamespace(name=QUEUE),  # type: ignore[arg-type]  # all that SAQ writes of it is the name
        timeout=job.timeout,
        heartbeat=HEARTBEAT,
        retries=job.retries,
        ttl=int(KEEP_COMPLETE.total_seconds()),
        retry_delay=job.retry_delay,
        retry_backoff=MAX_RETRY_DELAY,
        scheduled=at,
        queued=now(),
        status=saq.Status.QUEUED,
        meta=_origin(),
    )
    row = {"key": stored.key, "job": encode(stored), "queue": QUEUE, "scheduled": at or int(time.time())}
    return session.execute(_INSERT, row | {"channel": CHANNEL, "once": once}).first() is not None


def encode(job: saq.Job) -> bytes:
    return json.dumps(job.to_dict()).encode()


def decode(stored: bytes) -> saq.Job:
    """What the worker and the administrator read. The queue's name is all that is kept of the queue."""
    fields: dict[str, Any] = json.loads(stored)
    return saq.Job(**fields | {"queue": SimpleNamespace(name=fields["queue"])})


def _origin() -> dict[str, str]:
    """The id of the request that asked for the job, for the worker's log, and its trace."""
    request_id = structlog.contextvars.get_contextvars().get("request_id")
    return {**({"request_id": request_id} if request_id else {}), **trace_context()}
