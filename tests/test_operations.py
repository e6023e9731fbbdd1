"""docs/operations.md: the statements work as they stand there, and the messages are those of the code."""

import os
import re
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from uuid import uuid4

import pytest
from advanced_alchemy.alembic.commands import AlembicCommands
from litestar.testing import TestClient
from sqlalchemy import URL, make_url, text
from sqlalchemy.exc import DBAPIError

from app.lib.settings import CHECKOUT, Settings
from app.server.asgi import build_app
from app.server.plugins import alchemy_config
from app.server.postgres.cluster import program
from app.server.postgres.embedded import EmbeddedPostgres
from tests.backup_runs import Operator, fresh
from tests.live import PASSWORD, LiveWorker, wait_until

GUIDE = (CHECKOUT / "docs" / "operations.md").read_text()
STATEMENTS = re.findall(r"^```sql\n(.*?)^```", GUIDE, re.MULTILINE | re.DOTALL)
INCIDENTS = GUIDE.split("\n## When something is wrong\n")[1].split("\n## ")[0]
SOURCES = "".join(path.read_text() for path in sorted((CHECKOUT / "src" / "app").rglob("*.py")))
ACCOUNT = {"email": "ada@example.com", "password": PASSWORD}
DONE = text("SELECT count(*) FROM saq_jobs WHERE status = 'complete'")
REFUSED = {
    "CREATE TABLE mine (id int)": "permission denied for schema public",
    "ALTER TABLE users ADD mine int": "must be owner of table users",
    "DROP TABLE items": "must be owner of table items",
    "TRUNCATE audit_events": "permission denied",
    "ALTER TABLE audit_events DISABLE TRIGGER ALL": "must be owner",
    "UPDATE audit_events SET source = ''": "audit events are neither changed nor removed",
    "DELETE FROM audit_events": "audit events are neither changed nor removed",
    "DELETE FROM alembic_version": "permission denied",
    "SET session_replication_role = replica": "permission denied",
}


def run(url: URL, block: str) -> None:
    with fresh(url) as connection:
        for statement in filter(str.strip, block.split(";\n")):
            connection.execute(text(statement))


@pytest.fixture
def accounts(postgres: EmbeddedPostgres) -> Iterator[tuple[URL, URL]]:
    """The owner and the application, made by the statements of the guide under names of the test's own."""
    mark = uuid4().hex
    names = {"keel_owner": f"owner_{mark}", "keel_app": f"app_{mark}", "DATABASE keel": f"DATABASE keel_{mark}"}
    anything = re.compile("|".join(rf"\b{name}\b" for name in names))
    as_superuser, in_the_database, after_migrating = (
        anything.sub(lambda found: names[found[0]], block) for block in STATEMENTS
    )
    url = make_url(postgres.url(f"keel_{mark}"))
    plain = url.difference_update_query(["passfile"])
    owner = plain.set(username=names["keel_owner"], password="one secret")
    run(url.set(database="postgres"), as_superuser)
    run(url, in_the_database)
    AlembicCommands(alchemy_config(owner)).upgrade()
    run(owner, after_migrating)
    yield owner, plain.set(username=names["keel_app"], password="another secret")
    run(url.set(database="postgres"), f"DROP DATABASE keel_{mark} WITH (FORCE);\n")
    run(url.set(database="postgres"), f"DROP ROLE {names['keel_owner']}, {names['keel_app']}")


def is_refused(url: URL, statement: str, reason: str) -> bool:
    with fresh(url) as connection, pytest.raises(DBAPIError) as refused:
        connection.execute(text(statement))
    return reason in str(refused.value.orig)


@pytest.mark.e2e
def test_the_application_needs_no_more_than_the_second_account_has(
    accounts: tuple[URL, URL], settings: Settings, start_worker: Callable[..., LiveWorker], tmp_path: Path
) -> None:
    owner, account = accounts
    app = build_app(settings, account)

    with TestClient(app) as client:
        assert client.get("/health/ready").json()["status"] == "ready"
        names = {"first_name": "Ada", "last_name": "Lovelace"}
        assert client.post("/api/v1/auth/register", json=ACCOUNT | names).status_code == 202
        app.state.accounts.make_administrator(ACCOUNT["email"])
        token = client.post("/api/v1/auth/login", json=ACCOUNT).json()["access_token"]
        client.headers["Authorization"] = f"Bearer {token}"
        assert client.post("/api/v1/roles", json={"name": "gardener", "description": ""}).status_code == 201
        assert client.post("/api/v1/items", json={"title": "Buy milk"}).status_code == 201
        start_worker(account)
        with fresh(owner) as connection:
            wait_until(lambda: connection.scalar(DONE) > 0, seconds=10)

        assert [statement for statement, reason in REFUSED.items() if not is_refused(account, statement, reason)] == []
        operator = Operator(owner, settings)
        assert operator.back_up(tmp_path / "backup").code == 0
        assert operator.restore(tmp_path / "backup", "--clean", "--yes", "--keep-sessions").code == 0
        wait_until(lambda: client.get("/api/v1/items").status_code == 200, seconds=5)
        assert client.post("/api/v1/auth/logout").status_code == 204
        wait_until(lambda: client.get("/api/v1/items").status_code == 401, seconds=5)
        assert [statement for statement, reason in REFUSED.items() if not is_refused(account, statement, reason)] == []


@pytest.mark.e2e
def test_compose_gives_the_application_no_more_than_that(postgres: EmbeddedPostgres) -> None:
    """The script that the image of PostgreSQL runs, with a role and a database of the test's own."""
    mark = uuid4().hex
    url = make_url(postgres.url(f"keel_{mark}"))
    run(url.set(database="postgres"), f"CREATE DATABASE keel_{mark};\n")
    script = (CHECKOUT / "deploy" / "accounts.sh").read_text().replace("keel_app", f"app_{mark}")
    environment = {
        "PATH": os.pathsep.join([str(program("psql").parent), os.environ["PATH"]]),
        "PGHOST": str(url.query["host"]),
        "PGPORT": str(url.query["port"]),
        "PGPASSFILE": str(url.query["passfile"]),
        "POSTGRES_USER": str(url.username),
        "POSTGRES_DB": f"keel_{mark}",
        "APP_PASSWORD": "it's \\ 'another' secret",
    }

    subprocess.run(["sh", "-c", script], env=environment, check=True)
    AlembicCommands(alchemy_config(url)).upgrade()

    plain = url.difference_update_query(["passfile"])
    account = plain.set(username=f"app_{mark}", password=environment["APP_PASSWORD"])
    with fresh(account) as connection:
        assert connection.scalar(text("SELECT count(*) FROM alembic_version")) == 1
        assert connection.execute(text("UPDATE users SET is_active = false")).rowcount == 0
    refused = {statement: reason for statement, reason in REFUSED.items() if "audit events" not in reason}  # of rows
    assert [statement for statement, reason in refused.items() if not is_refused(account, statement, reason)] == []
    run(url.set(database="postgres"), f"DROP DATABASE keel_{mark} WITH (FORCE);\n")
    run(url.set(database="postgres"), f"DROP ROLE app_{mark}")


@pytest.mark.unit
def test_every_message_of_the_table_is_one_of_the_code() -> None:
    """Those in the first column that are no SQL and no HTTP."""
    first = [row.split(" | ")[0] for row in re.findall(r"^\| (.+) \|$", INCIDENTS, re.MULTILINE)][2:]
    messages = [
        each.strip() for row in first for each in re.findall(r"``(.+?)``|`([^`]+)`", row) for each in each if each
    ]

    missing = [each for each in messages if each.split(": ")[-1].strip('"') not in SOURCES]

    assert len(messages) > 20
    assert missing == []
