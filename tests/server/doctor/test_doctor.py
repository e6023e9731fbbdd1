"""`litestar doctor`: each fault is planted for real, and is named with its mend. Those of services are in
`test_doctor_services.py`."""

import functools
import time
from collections.abc import Callable
from pathlib import Path
from secrets import token_urlsafe
from typing import Any

import pytest
import time_machine
from sqlalchemy import URL, NullPool, create_engine, make_url, text

from app.domain.sessions.jobs import remove_ended_sessions
from app.lib.db.database import Database
from app.lib.jobs.broker import enqueue
from app.lib.settings import Settings
from tests.command_line import command_line
from tests.examined import Found, examined
from tests.live import free_port
from tests.redis_server import RedisServer

pytestmark = pytest.mark.integration

Examine = Callable[..., tuple[int, Found]]


@pytest.fixture(scope="module")
def url(new_database: Callable[[], URL]) -> URL:
    return new_database()


@pytest.fixture
def doctor(settings: Settings, url: URL, tmp_path: Path) -> Examine:
    """Run it with these settings."""
    return functools.partial(examined, settings, default=url, checkout=tmp_path)


def write(url: URL, statement: str) -> None:
    with create_engine(url, poolclass=NullPool).begin() as connection:
        connection.execute(text(statement))


def shut() -> URL:
    """Where nothing listens."""
    return make_url(f"postgresql+psycopg://keel:password@127.0.0.1:{free_port()}/keel")


def faulty_databases(url: URL) -> dict[str, URL]:
    return {
        "password": url.difference_update_query(["passfile"]).set(password="wrong"),
        "stopped": shut(),
        "name": url.set(database="nowhere"),
        "host": make_url("postgresql+psycopg://keel@nowhere.invalid/keel"),
        "reads": url.update_query_dict({"options": "-c default_transaction_read_only=on"}),
        "empty": url.set(database="postgres"),
    }


@pytest.mark.parametrize(
    ("planted", "check", "what", "mend"),
    [
        ("password", "database", "password authentication failed", "Correct the password in DATABASE_URL"),
        ("stopped", "database", "Connection refused", "Start it, and see that the host and the port"),
        ("name", "database", 'database "nowhere" does not exist', "Create it: CREATE DATABASE"),
        ("host", "database", "nowhere.invalid", "Correct the host in DATABASE_URL."),
        ("reads", "database", "It only reads.", "Name the primary in DATABASE_URL"),
        (
            "empty",
            "migrations",
            "Migrations are missing: none is applied",
            "Run `litestar database upgrade --no-prompt`.",
        ),
    ],
)
def test_a_faulty_database_is_named_with_its_mend(
    planted: str, check: str, what: str, mend: str, doctor: Examine, url: URL
) -> None:
    code, found = doctor(url=faulty_databases(url)[planted])

    assert (code, found[check]["level"]) == (1, "fault")
    assert what in found[check]["what"]
    assert found[check]["mend"].startswith(mend)


def test_a_role_without_rights_is_a_fault(doctor: Examine, live_database: URL) -> None:
    write(live_database, "CREATE ROLE doctor_test LOGIN PASSWORD 'sesame' CONNECTION LIMIT 9")
    poor = live_database.difference_update_query(["passfile"]).set(username="doctor_test", password="sesame")
    try:
        code, found = doctor(url=poor, app_env="production")
    finally:
        write(live_database, "DROP ROLE doctor_test")

    assert code == 1
    assert "permission denied for table alembic_version" in found["database"]["what"]
    assert "GRANT" in found["database"]["mend"]
    assert "9 are allowed" in found["connections"]["what"]
    assert "role" not in found


@pytest.mark.parametrize(
    ("revision", "level", "mend"),
    [
        ("0010", "fault", "Run `litestar database upgrade --no-prompt`."),
        ("9999", "warning", "Finish the upgrade"),  # to /health/ready, too, newer tables are no reason not to serve
    ],
)
def test_tables_of_another_version_are_named(
    revision: str, level: str, mend: str, doctor: Examine, live_database: URL
) -> None:
    write(live_database, f"UPDATE alembic_version SET version_num = '{revision}'")

    code, found = doctor(url=live_database)

    assert (code, found["migrations"]["level"]) == (1 if level == "fault" else 0, level)
    assert found["migrations"]["mend"].startswith(mend)


@pytest.mark.parametrize(
    ("options", "changes", "check", "level", "what", "mend"),
    [
        ((), {"db_pool_size": 1000}, "connections", "fault", "open up to 1014 connections", "Lower DB_POOL_SIZE"),
        ((), {"db_pool_size": 1000, "metrics_port": 9100}, "connections", "fault", "1016 connections", "Lower DB_POOL"),
        (
            ("--processes", "99"),
            {},
            "connections",
            "fault",
            "API processes: 99",
            "Lower DB_POOL_SIZE (now 8), run fewer",
        ),
        (("--processes", "2"), {}, "redis", "warning", "2 processes, and no REDIS_URL", "Set REDIS_URL."),
        (
            (),
            {"redis_url": "redis://127.0.0.1:9"},
            "redis",
            "fault",
            "Connection refused",
            "Start it, or correct REDIS",
        ),
        (
            *((), {"mail_backend": "smtp", "smtp_host": "127.0.0.1", "smtp_port": 9}, "mail", "fault"),
            *("Connection refused", "See that SMTP_HOST and SMTP_PORT"),
        ),
        (
            *((), {"mail_backend": "smtp", "smtp_host": "nowhere.invalid"}, "mail", "fault"),
            *("nowhere.invalid:587", "Correct SMTP_HOST: there is no such name."),
        ),
        (
            *((), {"storage_url": "file:///dev/null/files"}, "storage", "fault"),
            *("cannot be written to", "Give the account that runs Keel the right"),
        ),
        ((), {"secret_key": "secret"}, "secrets", "warning", "SECRET_KEY could be guessed", "Remove it"),
        (
            (),
            {"password_hash_concurrency": 999},
            "threads",
            "warning",
            "999, above the number of processors",
            "Set it to ",
        ),
        (
            *((), {"app_env": "production"}, "role", "warning", "a superuser: whoever takes it over"),
            "Create a role of its own",
        ),
        (
            *((), {"database_replica_urls": ("postgresql://keel@127.0.0.1:9/keel",)}, "replica 1", "fault"),
            *("Connection refused", "Start it"),
        ),
        ((), {}, "jobs", "warning", "No worker runs", "Start `litestar worker`."),
        ((), {}, "administrator", "warning", "There is none", "Run `litestar users create --administrator`"),
    ],
    ids=[
        *(
            "pool",
            "metrics",
            "processes",
            "no Redis",
            "Redis down",
            "SMTP down",
            "SMTP host",
            "storage",
            "secret",
            "hashes",
        ),
        *("superuser", "replica", "worker", "administrator"),
    ],
)
def test_a_planted_fault_is_named_with_its_mend(
    options: tuple[str, ...], changes: dict[str, Any], check: str, level: str, what: str, mend: str, doctor: Examine
) -> None:
    code, found = doctor(*options, **changes)

    assert (found[check]["level"], code) == (level, 1 if "fault" in {each["level"] for each in found.values()} else 0)
    assert what in found[check]["what"]
    assert found[check]["mend"].startswith(mend)


def test_debugging_in_production_is_a_fault(doctor: Examine) -> None:
    code, found = doctor(app_env="production", debug=True, public_url="https://api.example.com")

    assert (code, found["settings"]["level"]) == (1, "fault")


def test_a_clock_that_is_wrong_is_a_fault(doctor: Examine) -> None:
    with time_machine.travel(time.time() + 3600, tick=True):
        code, found = doctor()

    assert (code, found["clock"]["level"]) == (1, "fault")
    assert "NTP" in found["clock"]["mend"]


def test_jobs_that_are_due_without_a_worker_are_a_fault(doctor: Examine, live_database: URL) -> None:
    database = Database(live_database, pool_size=1)
    database.write(lambda session: enqueue(session, remove_ended_sessions))
    database.dispose()

    code, found = doctor(url=live_database)

    assert (code, found["jobs"]["level"]) == (1, "fault")
    assert found["jobs"]["what"].endswith("mail perhaps among them: 1.")
    assert found["jobs"]["mend"].startswith("Start `litestar worker`")


def test_jobs_that_are_late_or_have_failed_are_a_warning(doctor: Examine, live_database: URL) -> None:
    database = Database(live_database, pool_size=1)
    database.write(lambda session: enqueue(session, remove_ended_sessions))
    database.dispose()
    write(live_database, "INSERT INTO saq_stats (worker_id, expire_at) VALUES ('w', extract(epoch FROM now()) + 60)")
    write(live_database, "UPDATE saq_jobs SET scheduled = scheduled - 600")
    late = doctor(url=live_database)
    write(live_database, "UPDATE saq_jobs SET status = 'failed'")
    failed = doctor(url=live_database)

    assert (late[0], failed[0]) == (0, 0)
    assert "Jobs that are due: 1. The oldest has waited for 0:10:0" in late[1]["jobs"]["what"]
    assert failed[1]["jobs"]["what"] == "Jobs that have failed for good, or were called off: 1."


def test_all_is_fine_where_it_is(settings: Settings, live_database: URL, redis_server: RedisServer) -> None:
    healthy = settings.model_copy(update={"redis_url": redis_server.url, "secret_key": token_urlsafe(48)})
    write(live_database, "INSERT INTO saq_stats (worker_id, expire_at) VALUES ('w', extract(epoch FROM now()) + 60)")
    with command_line(healthy, live_database) as litestar:
        name = ("--first-name", "Ada", "--last-name", "Lovelace")
        litestar("users", "create", "ada@example.com", *name, "--administrator")

        ended = litestar.run("doctor", "--fail-on", "warning")

    assert ended.exit_code == 0, ended.stdout
    assert ended.stdout.endswith("\n0 faults, 0 warnings.\n")
    assert {line[:9] for line in ended.stdout.splitlines()[:-2]} == {"ok       "}
