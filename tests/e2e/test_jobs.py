"""A job runs exactly when its transaction committed, and its effect is there exactly once, whatever dies."""

import logging
import random
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import median

import httpx
import pytest
from advanced_alchemy.alembic.commands import AlembicCommands
from sqlalchemy import URL, NullPool, create_engine, make_url, text

from app.server.plugins import alchemy_config
from app.server.postgres.embedded import EmbeddedPostgres
from tests.e2e.jobs_application import APPLICATION, create_tables
from tests.live import LiveServer, LiveWorker, wait_until

pytestmark = pytest.mark.e2e
logger = logging.getLogger(__name__)
StartServer = Callable[..., LiveServer]
StartWorker = Callable[..., LiveWorker]

REQUESTS = 300
ATTEMPTS = "SELECT (convert_from(job, 'UTF8')::jsonb->>'attempts')::int FROM saq_jobs WHERE key NOT LIKE 'cron:%'"
DELAYS = """
    SELECT (document->>'started')::bigint - (document->>'queued')::bigint
    FROM saq_jobs, LATERAL (SELECT convert_from(job, 'UTF8')::jsonb AS document) WHERE key NOT LIKE 'cron:%'
"""
"""In milliseconds."""
KILLS = 3
RECOVERED = 60.0
"""Seconds in which whatever a dead worker held is done: its heartbeat runs out after 15, and is looked for every 5."""


def stored(url: URL, query: str) -> list[int]:
    with create_engine(url, poolclass=NullPool).connect() as connection:
        return list(connection.scalars(text(query)))


def requests(url: URL) -> list[int]:
    return stored(url, "SELECT number FROM requests ORDER BY number")


def effects(url: URL) -> list[int]:
    return stored(url, "SELECT number FROM effects ORDER BY number")


def unfinished(url: URL) -> int:
    return stored(url, "SELECT count(*) FROM saq_jobs WHERE status <> 'complete' AND key NOT LIKE 'cron:%'")[0]


def send(server: LiveServer, numbers: list[int]) -> list[int]:
    """A sixth is refused by the handler after it has enqueued, another sixth at COMMIT."""

    def one(number: int) -> int:
        body = {"number": number, "outcome": "refused" if number % 6 == 4 else "stored"}
        return httpx.post(f"{server.api}/requests", json=body, timeout=30).status_code

    with ThreadPoolExecutor(8) as threads:
        return list(threads.map(one, numbers))


def random_numbers() -> list[int]:
    numbers = list(range(REQUESTS))
    random.shuffle(numbers)
    return numbers


def test_jobs_run_are_transactions_committed_though_the_worker_is_killed_three_times(
    live_database: URL, start_server: StartServer, start_worker: StartWorker
) -> None:
    create_tables(live_database)
    server = start_server(live_database, application=APPLICATION)
    worker = start_worker(live_database, application=APPLICATION)

    with ThreadPoolExecutor(1) as thread:
        sending = thread.submit(send, server, random_numbers())
        for kill in range(1, KILLS + 1):
            wait_until(lambda at=kill: len(effects(live_database)) >= at * 30, seconds=30)  # type: ignore[misc]  # a default
            worker.kill()
            worker.start()
        statuses = sending.result()

    wait_until(lambda: unfinished(live_database) == 0, seconds=RECOVERED)
    assert max(stored(live_database, ATTEMPTS)) > 1, "no kill has met a job while it ran"
    committed = requests(live_database)
    assert effects(live_database) == committed
    assert len(committed) == statuses.count(201) == REQUESTS * 4 // 6
    assert set(statuses) == {201, 409, 500}


def test_a_database_that_restarts_under_load_costs_no_job(
    tmp_path: Path, start_server: StartServer, start_worker: StartWorker
) -> None:
    with EmbeddedPostgres(tmp_path / "postgres") as postgres:
        url = make_url(postgres.url())
        AlembicCommands(alchemy_config(url)).upgrade()
        create_tables(url)
        server = start_server(url, application=APPLICATION)
        start_worker(url, application=APPLICATION)
        with ThreadPoolExecutor(1) as thread:
            sending = thread.submit(send, server, random_numbers())
            wait_until(lambda: len(effects(url)) > 20, seconds=30)
            postgres.stop(mode="immediate")
            postgres.start()
            accepted = sending.result().count(201)

        took = wait_until(lambda: unfinished(url) == 0, seconds=RECOVERED)
        logger.info("%d accepted, all done after another %.1f s", accepted, took)
        assert effects(url) == requests(url)
        assert len(requests(url)) >= accepted > 0


def test_an_idle_worker_starts_a_job_within_50_ms_of_its_commit(
    live_database: URL, start_server: StartServer, start_worker: StartWorker
) -> None:
    create_tables(live_database)
    server = start_server(live_database, application=APPLICATION)
    start_worker(live_database, application=APPLICATION)
    for number in range(0, 6 * 30, 6):
        send(server, [number])
        wait_until(lambda: unfinished(live_database) == 0, seconds=10)

    delays = stored(live_database, DELAYS)
    logger.info("started after %.0f ms (median), %d ms (worst)", median(delays), max(delays))
    assert median(delays) < 50


def test_a_worker_that_is_stopped_ends_cleanly_and_at_once(live_database: URL, start_worker: StartWorker) -> None:
    worker = start_worker(live_database)

    assert worker.stop() == 0
    assert "Traceback" not in worker.log.read_text()


def test_a_worker_that_waits_for_its_tables_obeys_a_stop(live_database: URL, tmp_path: Path) -> None:
    AlembicCommands(alchemy_config(live_database)).downgrade("base")
    worker = LiveWorker(live_database, log=tmp_path / "log")
    try:
        worker.run(sys.executable, "-m", "litestar", "worker")
        wait_until(lambda: "run `database upgrade`" in worker.log.read_text(), seconds=30, what=worker.log.read_text)
        worker.tell_to_stop()

        assert worker.exit_code(seconds=15) == 0
        assert "worker started" not in worker.log.read_text()
        assert "Traceback" not in worker.log.read_text()
    finally:
        worker.stop()
