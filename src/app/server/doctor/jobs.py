"""What `doctor` says of jobs: whether anybody runs them, and whether they are late."""

from collections.abc import Iterator
from datetime import timedelta

from sqlalchemy import Connection
from sqlalchemy.orm import Session

from app.lib.jobs.ledger import queue_figures
from app.server.doctor.findings import Finding, fault, fine, warning

LATE = timedelta(minutes=5)


def job_findings(connection: Connection) -> Iterator[Finding]:
    with Session(connection) as session:
        figures = queue_figures(session)
    yield _workers(figures.workers, figures.by_state["due"], timedelta(seconds=int(figures.oldest)))
    if dead := figures.by_state["dead"]:
        yield warning(
            "jobs",
            f"Jobs that have failed for good, or were called off: {dead}.",
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
