"""A worker and the tables that its jobs need."""

import logging
from collections.abc import Iterator

import pytest
from advanced_alchemy.alembic.commands import AlembicCommands
from sqlalchemy import URL, NullPool, create_engine, text

from app.domain.throttles.jobs import remove_expired_throttles
from app.lib.db.database import Database
from app.lib.jobs.broker import enqueue
from app.lib.jobs.worker import JobWorker
from app.lib.settings import Settings
from app.server.jobs import build_worker
from app.server.plugins import alchemy_config
from tests.lib.jobs.conftest import RunningWorker
from tests.live import wait_until

pytestmark = pytest.mark.integration
KEY = "a-key"
WAITS = "worker waits and takes no job"


@pytest.fixture
def worker(live_database: URL, settings: Settings) -> Iterator[JobWorker]:
    worker = build_worker(settings, live_database, concurrency=1, grace=5)
    yield worker
    worker.database.dispose()


def enqueue_one(url: URL) -> None:
    database = Database(url, pool_size=1)
    database.write(lambda session: enqueue(session, remove_expired_throttles, key=KEY))
    database.dispose()


def status_and_attempts(url: URL) -> tuple[str, int]:
    attempts = "coalesce((convert_from(job, 'UTF8')::jsonb->>'attempts')::int, 0)"
    with create_engine(url, poolclass=NullPool).connect() as connection:
        found = connection.execute(
            text(f"SELECT status, {attempts} FROM saq_jobs WHERE key = :key"), {"key": KEY}
        ).one()
        return found[0], found[1]


def test_a_worker_waits_for_the_migrations_and_costs_no_job_an_attempt(
    live_database: URL, worker: JobWorker, caplog: pytest.LogCaptureFixture
) -> None:
    commands = AlembicCommands(alchemy_config(live_database))
    commands.downgrade("-1")
    enqueue_one(live_database)
    with caplog.at_level(logging.INFO, logger="app.jobs"):
        running = RunningWorker(worker, starts=False)
        try:
            wait_until(lambda: WAITS in caplog.text, seconds=10)
            assert status_and_attempts(live_database) == ("queued", 0)

            commands.upgrade()
            wait_until(lambda: status_and_attempts(live_database)[0] == "complete", seconds=15)
        finally:
            running.stop()

    assert status_and_attempts(live_database) == ("complete", 1)
    said = [dict(record.msg) for record in caplog.records if isinstance(record.msg, dict)]
    assert [line["until"] for line in said if line["event"] == WAITS] == ["run `database upgrade`"]


def test_a_worker_works_upon_the_tables_of_a_newer_version(live_database: URL, worker: JobWorker) -> None:
    with create_engine(live_database, poolclass=NullPool).begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    enqueue_one(live_database)
    running = RunningWorker(worker)
    try:
        wait_until(lambda: status_and_attempts(live_database) == ("complete", 1), seconds=15)
    finally:
        running.stop()


def test_a_worker_that_waits_for_its_tables_can_be_stopped(live_database: URL, worker: JobWorker) -> None:
    AlembicCommands(alchemy_config(live_database)).downgrade("base")
    running = RunningWorker(worker, starts=False)

    running.stop()

    assert running.all_ended
