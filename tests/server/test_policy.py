"""Each process follows the stored policy, whoever changes it, and lets nobody in while it does not know it."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from uuid import UUID, uuid4

import pytest
from litestar import Litestar
from litestar.testing import TestClient
from sqlalchemy import URL, Engine, NullPool, create_engine, text
from sqlalchemy.exc import IntegrityError, OperationalError
from sqlalchemy.orm import Session

from app.domain.access.services import PolicyService
from app.lib.access.guards import Principal
from app.lib.db.database import Database
from app.lib.errors import ApplicationError
from app.lib.events import POLL_SECONDS
from app.lib.settings import Settings
from app.server.asgi import build_app
from app.server.resources import access_tokens
from tests.conftest import API
from tests.factories.users import UserFactory
from tests.live import wait_until

pytestmark = pytest.mark.integration

GRANT = """
    INSERT INTO permission_grants
    SELECT gen_random_uuid(), NULL, :user, 'audit', 'read', NULL, NULL, 'allow', NULL, now(), now()
"""
REVOKE = "DELETE FROM permission_grants WHERE user_id = :user"
UNIQUE_LATER = """
    CREATE TABLE later (n int UNIQUE DEFERRABLE INITIALLY DEFERRED);
    INSERT INTO later VALUES (1)
"""
KILL_MYSELF = text("SELECT pg_terminate_backend(pg_backend_pid())")
KILL_LISTENERS = text(
    "SELECT count(pg_terminate_backend(pid, 5000)) FROM pg_stat_activity "
    "WHERE datname = current_database() AND application_name = 'keel-policy-events'"
)


@pytest.fixture
def engine(live_database: URL) -> Engine:
    """Somebody with psql."""
    return create_engine(live_database, poolclass=NullPool)


@pytest.fixture
def ada(engine: Engine) -> UUID:
    with Session(engine) as session:
        user = UserFactory.build()
        session.add(user)
        session.commit()
        return user.id


@contextmanager
def running(app: Litestar) -> Iterator[TestClient[Litestar]]:
    with TestClient(app, raise_server_exceptions=False) as client:
        yield client


@pytest.fixture
def app(settings: Settings, live_database: URL) -> Iterator[Litestar]:
    app = build_app(settings, live_database)
    with running(app):
        yield app


def write(engine: Engine, statement: str, **values: object) -> None:
    with engine.begin() as connection:
        connection.execute(text(statement), values)


def may(app: Litestar, user_id: UUID) -> bool:
    user = Principal(id=user_id, session_id=uuid4(), is_superuser=False, authenticated_at=int(time.time()))
    return bool(app.state.access.may(user, "audit:read"))


def test_a_change_in_sql_is_heard(app: Litestar, engine: Engine, ada: UUID) -> None:
    assert not may(app, ada)

    write(engine, GRANT, user=ada)
    wait_until(lambda: may(app, ada), seconds=1)
    write(engine, REVOKE, user=ada)
    wait_until(lambda: not may(app, ada), seconds=1)


def test_what_no_event_tells_is_noticed_by_the_next_poll(app: Litestar, engine: Engine, ada: UUID) -> None:
    write(engine, "ALTER TABLE permission_grants DISABLE TRIGGER ALL")
    write(engine, GRANT, user=ada)
    write(engine, "UPDATE policy_versions SET number = number + 1")

    wait_until(lambda: may(app, ada), seconds=POLL_SECONDS + 1)


def test_a_new_connection_takes_no_number_for_an_answer(app: Litestar, engine: Engine, ada: UUID) -> None:
    """As after a restoration, or on a standby that lacks the last changes."""
    write(engine, "ALTER TABLE permission_grants DISABLE TRIGGER ALL")
    write(engine, GRANT, user=ada)
    with engine.begin() as connection:
        assert connection.scalar(KILL_LISTENERS) == 1

    wait_until(lambda: may(app, ada), seconds=3)


def test_who_changes_the_policy_waits_until_their_own_process_knows(app: Litestar, ada: UUID) -> None:
    database: Database = app.state.database

    def change(statement: str) -> Callable[[Session], object]:
        def work(session: Session) -> None:
            PolicyService(session).begin_change()
            session.execute(text(statement), {"user": ada})

        return work

    for _ in range(20):
        database.write(change(GRANT))
        assert may(app, ada)
        database.write(change(REVOKE))
        assert not may(app, ada)


class RefusalError(ApplicationError):
    pass


def test_a_change_reads_the_policy_only_when_this_process_has_another(app: Litestar, engine: Engine) -> None:
    access = app.state.access
    known = access.policy

    assert app.state.database.write(lambda session: PolicyService(session).begin_change()) is known

    write(engine, "UPDATE policy_versions SET number = number + 1")
    begun = app.state.database.write(lambda session: PolicyService(session).begin_change())
    assert (begun is known, begun.version) == (False, known.version + 1)


def refused(session: Session) -> None:
    raise RefusalError


def refused_at_commit(session: Session) -> None:
    session.execute(text("INSERT INTO later VALUES (1)"))


def killed(session: Session) -> None:
    session.execute(KILL_MYSELF)


def not_serialisable(session: Session) -> None:
    session.execute(text("DO $$ BEGIN RAISE EXCEPTION USING ERRCODE = 'serialization_failure'; END $$"))


@pytest.mark.parametrize("act", [refused, refused_at_commit, killed, not_serialisable])
def test_a_change_that_is_not_committed_is_neither_stored_nor_believed(
    act: Callable[[Session], None], app: Litestar, engine: Engine, ada: UUID
) -> None:
    write(engine, UNIQUE_LATER)
    before = app.state.access.policy

    def work(session: Session) -> None:
        assert not PolicyService(session).begin_change().may(ada, "audit:read")
        session.execute(text(GRANT), {"user": ada})
        assert PolicyService(session).load().may(ada, "audit:read")
        act(session)

    with pytest.raises((RefusalError, IntegrityError, OperationalError)):
        app.state.database.write(work)

    with Session(engine) as fresh:
        stored = PolicyService(fresh).load()
    assert not stored.may(ada, "audit:read")
    assert app.state.access.policy is before
    assert stored.version == before.version


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.server.lifespan.START_PATIENCE", 0.1)


@pytest.mark.usefixtures("impatient")
def test_before_the_policy_is_known_nobody_is_refused_for_good(
    settings: Settings, live_database: URL, engine: Engine, ada: UUID
) -> None:
    write(engine, "ALTER TABLE permission_grants RENAME TO away")
    principal = Principal(id=ada, session_id=uuid4(), is_superuser=False, authenticated_at=int(time.time()))
    headers = {"Authorization": f"Bearer {access_tokens(settings).issue(principal)}"}

    with running(build_app(settings, live_database)) as client:
        early, ready = client.get(f"{API}/posts", headers=headers), client.get("/health/ready")
        write(engine, "ALTER TABLE away RENAME TO permission_grants")
        wait_until(lambda: client.get("/health/ready").status_code == 200, seconds=3)
        late = client.get(f"{API}/posts", headers=headers)

    assert (early.status_code, early.json()["code"], early.headers["retry-after"]) == (503, "overloaded", "2")
    assert (ready.status_code, ready.json()["checks"]["policy"]) == (503, "not connected")
    assert late.status_code == 403
