"""What `doctor` says of jobs: whether anybody runs them, and whether they are late."""

import time
from collections.abc import Iterator
from datetime import timedelta

import saq
from sqlalchemy import Connection, func, select

from app.lib.jobs import ledger
from app.lib.jobs.broker import saq_jobs, saq_stats
from app.server.doctor.findings import Finding, fault, fine, warning

LATE = timedelta(minutes=5)


def job_findings(connection: Connection) -> Iterator[Finding]:
    now = time.time()
    is_due = (saq_jobs.c.status == saq.Status.QUEUED.value) & (saq_jobs.c.scheduled <= now)
    waiting = connection.execute(
        select(
            func.count().filter(is_due).label("due"),
            func.min(saq_jobs.c.scheduled).filter(is_due).label("oldest"),
            func.count().filter(saq_jobs.c.status.in_(ledger.DEAD)).label("dead"),
        )
    ).one()
    workers = connection.scalar(select(func.count()).select_from(saq_stats).where(saq_stats.c.expire_at >= now)) or 0
    late = timedelta(seconds=int(now - waiting.oldest)) if waiting.oldest else timedelta()
    yield _workers(workers, waiting.due, late)
    if waiting.dead:
        yield warning(
            "jobs",
            f"Jobs that have failed for good, or were called off: {waiting.dead}.",
            "See why in `GET jobs?status=failed` or on the dashboard, and run them again from there.",
        )


def _workers(workers: int, due: int, late: timedelta) -> Finding:
    if not workers and due:
        mend = "Start `litestar worker`, and see that something starts it again."
        return fault("jobs", f"No worker runs. Jobs that are due, mail perhaps among them: {due}.", mend)
    if not workers:
        return warning("jobs", "No worker runs: mail would not be sent.", "Start `litestar worker`.")
    said = f"Workers that run: {workers}. Jobs that are due: {due}."
    if late > LATE:
        mend = "Start another worker, or raise JOB_CONCURRENCY."
        return warning("jobs", f"{said} The oldest has waited for {late}.", mend)
    return fine("jobs", said)
