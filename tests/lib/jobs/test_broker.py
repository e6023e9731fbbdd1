import asyncio
import json
from datetime import timedelta
from typing import Any

import msgspec
import pytest
from saq.queue.postgres import PostgresQueue
from sqlalchemy import URL, NullPool, create_engine, text
from sqlalchemy.orm import Session

from app.lib.db.unit_of_work import WriteInReadError
from app.lib.errors import ApplicationError
from app.lib.jobs.broker import (
    HEARTBEAT,
    KEEP_COMPLETE,
    MAX_RETRY_DELAY,
    QUEUE,
    SCHEMA_VERSION,
    enqueue,
    enqueue_at,
)
from tests.lib.jobs.conftest import Bench, fail_at_first, leave_trace

pytestmark = pytest.mark.integration

SCHEMA = """
    SELECT 'column', table_name, column_name, data_type, is_nullable, column_default FROM information_schema.columns
    WHERE table_name LIKE 'saq_%'
    UNION ALL SELECT 'index', tablename, indexname, indexdef, '', '' FROM pg_indexes
        WHERE tablename LIKE 'saq_%' AND indexname <> 'ix_saq_jobs_expire_at'
    ORDER BY 1, 2, 3
"""
ROW = "SELECT key, queue, status, priority, group_key, scheduled, expire_at, convert_from(job, 'UTF8') FROM saq_jobs"


def rows(url: URL, query: str) -> list[tuple[Any, ...]]:
    with create_engine(url, poolclass=NullPool).connect() as connection:
        return [tuple(row) for row in connection.execute(text(query))]


async def with_saq(url: URL, name: str = "", **options: Any) -> None:
    """Let SAQ itself make its tables, and enqueue a job if one is named."""
    queue = PostgresQueue.from_url(url.set(drivername="postgresql").render_as_string(hide_password=False))
    await queue.connect()
    if name:
        await queue.enqueue(name, **options)
    await queue.disconnect()


@pytest.mark.parametrize("at", [0, 4_000_000_000])
def test_we_write_what_saq_itself_would_write(at: int, bench: Bench) -> None:
    """An upgrade of SAQ that changes its rows is a red test and not a lost job."""
    options: dict[str, Any] = {
        "timeout": 20,
        "heartbeat": HEARTBEAT,
        "retries": 5,
        "ttl": int(KEEP_COMPLETE.total_seconds()),
        "retry_delay": leave_trace.retry_delay,
        "retry_backoff": MAX_RETRY_DELAY,
    }
    asyncio.run(with_saq(bench.url, "jobs.leave_trace", key="theirs", scheduled=at, number=3, **options))
    bench.write(enqueue_at, leave_trace, at=at, key="ours", number=3)

    theirs, ours = rows(bench.url, f"{ROW} ORDER BY key DESC")
    assert ours[1:5] == theirs[1:5] == (QUEUE, "queued", 0, None)
    assert ours[5] - theirs[5] in (0, 1, 2)
    assert ours[6] is theirs[6] is None
    assert without_times(ours[7]) == without_times(theirs[7])
    assert json.loads(ours[7])["queued"] - json.loads(theirs[7])["queued"] < 5_000


def without_times(stored: str) -> dict[str, Any]:
    return {name: value for name, value in json.loads(stored).items() if name not in {"key", "queued", "touched"}}


def test_the_migration_makes_the_tables_that_saq_would_make(live_database: URL) -> None:
    ours = rows(live_database, SCHEMA)
    with create_engine(live_database, poolclass=NullPool).begin() as connection:
        connection.execute(text("DROP TABLE saq_jobs, saq_stats, saq_versions"))

    asyncio.run(with_saq(live_database))

    assert rows(live_database, SCHEMA) == ours
    assert rows(live_database, "SELECT version FROM saq_versions") == [(SCHEMA_VERSION,)]


def test_a_refused_request_leaves_no_job(bench: Bench) -> None:
    def refuse(session: Session) -> None:
        enqueue(session, leave_trace, number=1)
        raise ApplicationError

    with pytest.raises(ApplicationError):
        bench.write(refuse)

    assert bench.stored == []


def test_one_key_is_one_job_until_it_is_done(bench: Bench) -> None:
    first = bench.write(enqueue, leave_trace, key="welcome", number=1)
    second = bench.write(enqueue, leave_trace, key="welcome", number=2)
    assert (first, second) == (True, False)

    bench.execute("UPDATE saq_jobs SET status = 'complete', scheduled = scheduled - 1")

    assert bench.write(enqueue, leave_trace, key="welcome", number=3)
    assert [job.kwargs for job in bench.stored] == [{"number": 3}]


def test_once_is_once_also_after_it_has_ended(bench: Bench) -> None:
    assert bench.write(enqueue, leave_trace, key="notice", once=True, number=1)
    bench.execute("UPDATE saq_jobs SET scheduled = 1")
    with bench.worker():
        bench.wait_for("complete")

    assert not bench.write(enqueue, leave_trace, key="notice", once=True, number=2)

    assert [job.kwargs for job in bench.stored] == [{"number": 1}]


def test_a_job_for_later_is_scheduled(bench: Bench) -> None:
    bench.write(enqueue, leave_trace, after=timedelta(hours=1), number=1)

    [job] = bench.stored
    assert 3_590 < job.scheduled - job.queued / 1000 <= 3_600


@pytest.mark.parametrize("arguments", [{}, {"number": "one"}, {"number": 1, "more": 2}])
def test_arguments_that_the_job_does_not_take_are_refused_before_anything_is_stored(
    arguments: dict[str, Any], bench: Bench
) -> None:
    with pytest.raises(msgspec.ValidationError):
        bench.write(enqueue, fail_at_first, **arguments)
    assert bench.stored == []


def test_a_session_that_only_reads_cannot_enqueue(bench: Bench) -> None:
    with pytest.raises(WriteInReadError):
        bench.database.read(lambda session: enqueue(session, leave_trace, number=1))
    assert bench.stored == []
