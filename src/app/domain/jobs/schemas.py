from datetime import UTC, datetime
from typing import Any, Literal, Self

import saq
from msgspec import convert

from app.lib.schema import Schema

JobStatus = Literal["queued", "active", "complete", "failed", "aborted"]
JobSort = Literal["scheduled", "-scheduled"]


class JobRead(Schema):
    """At most `retries` attempts, of which `attempts` have begun. `scheduled`: when it may run, or might have."""

    key: str
    name: str
    status: JobStatus
    arguments: dict[str, Any]
    attempts: int
    retries: int
    queued: datetime | None
    scheduled: datetime | None
    started: datetime | None
    completed: datetime | None
    error: str | None

    @classmethod
    def of(cls, row: saq.Job) -> Self:
        return cls(
            key=row.key,
            name=row.function,
            status=convert(row.status.value, JobStatus),
            arguments=row.kwargs or {},
            attempts=row.attempts,
            retries=row.retries,
            queued=_moment(row.queued),
            scheduled=_moment(row.scheduled * 1000),
            started=_moment(row.started),
            completed=_moment(row.completed),
            error=row.error,
        )


def _moment(milliseconds: int) -> datetime | None:
    """SAQ writes 0 for never."""
    return datetime.fromtimestamp(milliseconds / 1000, UTC) if milliseconds else None
