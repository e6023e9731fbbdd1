"""The stored policy, and the number that says that it has changed, on a database that commits."""

from collections.abc import Iterator
from uuid import UUID, uuid4

import psycopg
import pytest
from sqlalchemy import URL, Connection, NullPool, create_engine, select, text
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session

from app.domain.access.models import Permission, PolicyVersion, Role, RoleAssignment
from app.domain.access.services import POLICY_CHANGED, PolicyService
from app.lib.access.policy import EVERYONE, Policy
from app.lib.events import CHANNEL
from tests.factories.users import UserFactory

pytestmark = pytest.mark.integration

ASSIGN = text(
    "INSERT INTO role_assignments SELECT gen_random_uuid(), :user, id, NULL, now(), now() FROM roles WHERE name = :role"
)


def number(session: Session) -> int:
    return session.scalars(select(PolicyVersion.number)).one()


def new_user(session: Session, *roles: str) -> UUID:
    user = UserFactory.build()
    session.add(user)
    session.flush()
    for role in roles:
        session.execute(ASSIGN, {"user": user.id, "role": role})
    return user.id


def load(session: Session) -> Policy:
    return PolicyService(session).load()


def test_the_predefined_policy_knows_its_roles(session: Session) -> None:
    policy = load(session)

    assert policy.version == number(session)
    assert policy.roles_within(["admin"]) == ("admin", "editor", "viewer")
    assert {grant.permission for grant in policy.grants_of(f"role:{EVERYONE}")} >= {"posts:update", "posts:delete"}
    assert not policy.may(new_user(session), Permission.USERS_READ)


def test_what_is_stored_is_what_counts(session: Session) -> None:
    editor, granted, nobody = new_user(session, "editor"), new_user(session), new_user(session)
    post = uuid4()
    session.execute(
        text(
            "INSERT INTO permission_grants SELECT gen_random_uuid(), NULL, :user, 'posts', 'read', :post,"
            " 'r.obj.published', 'allow', NULL, now(), now()"
        ),
        {"user": granted, "post": post},
    )

    policy = load(session)

    published = {"id": post, "owner_id": nobody, "published": True}
    assert policy.may(editor, Permission.POSTS_CREATE)
    assert policy.allows(granted, Permission.POSTS_READ, published)
    assert not policy.allows(granted, Permission.POSTS_READ, published | {"id": uuid4()})
    assert not policy.allows(granted, Permission.POSTS_READ, published | {"published": False})
    assert not policy.allows(nobody, Permission.POSTS_READ, published)


@pytest.mark.parametrize(
    "statement",
    [
        "INSERT INTO roles SELECT gen_random_uuid(), 'x', '', now(), now()",
        "UPDATE roles SET name = 'x' WHERE name = 'viewer'",
        "DELETE FROM roles WHERE name = 'viewer'",
        "UPDATE role_parents SET granted_by = gen_random_uuid()",
        "DELETE FROM role_parents",
        "UPDATE role_assignments SET granted_by = gen_random_uuid()",
        "DELETE FROM role_assignments",
        "UPDATE permission_grants SET effect = 'deny' WHERE action = 'read'",
        "DELETE FROM permission_grants",
        "TRUNCATE permission_grants",
        "TRUNCATE roles CASCADE",
    ],
)
def test_every_change_in_sql_raises_the_number(statement: str, session: Session) -> None:
    new_user(session, "viewer")
    before = number(session)

    session.execute(text(statement))

    assert number(session) > before


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE roles SET name = name WHERE name = 'nobody'",
        "DELETE FROM role_parents WHERE id = gen_random_uuid()",
        "DELETE FROM permission_grants WHERE resource = 'nothing'",
    ],
)
def test_a_statement_that_finds_nothing_does_not(statement: str, session: Session) -> None:
    before = number(session)

    session.execute(text(statement))

    assert number(session) == before


@pytest.mark.parametrize(("roles", "is_a_change"), [(("viewer",), True), ((), False)])
def test_the_end_of_an_account_is_a_change_when_it_had_roles(
    roles: tuple[str, ...], session: Session, *, is_a_change: bool
) -> None:
    user_id = new_user(session, *roles)
    before = number(session)

    session.execute(text("DELETE FROM users WHERE id = :id"), {"id": user_id})

    assert (number(session) > before) is is_a_change
    assert session.scalars(select(RoleAssignment.id).where(RoleAssignment.user_id == user_id)).all() == []


def test_a_change_takes_the_number_along_when_it_is_undone(session: Session) -> None:
    before = number(session)
    with session.begin_nested() as savepoint:
        session.add(Role(name="x"))
        session.flush()
        assert number(session) == before + 1
        savepoint.rollback()

    assert number(session) == before


@pytest.fixture
def listener(live_database: URL) -> Iterator[psycopg.Connection]:
    with create_engine(live_database, poolclass=NullPool, isolation_level="AUTOCOMMIT").connect() as connection:
        connection.execute(text(f"LISTEN {CHANNEL}"))
        driver = connection.connection.driver_connection
        assert isinstance(driver, psycopg.Connection)
        yield driver


@pytest.fixture
def writer(live_database: URL) -> Iterator[Connection]:
    with create_engine(live_database, poolclass=NullPool).connect() as connection:
        yield connection


def test_every_process_hears_of_a_change_in_sql_once(listener: psycopg.Connection, writer: Connection) -> None:
    writer.execute(text("UPDATE roles SET description = 'Reads.'"))
    PolicyService(Session(writer)).begin_change()
    writer.execute(text("DELETE FROM role_parents"))
    writer.commit()

    assert [event.payload for event in listener.notifies(timeout=0.5)] == [f"{POLICY_CHANGED}:changed"]


def test_two_changes_wait_for_each_other(live_database: URL, writer: Connection) -> None:
    PolicyService(Session(writer)).begin_change()

    with create_engine(live_database, poolclass=NullPool).connect() as other, Session(other) as session:
        session.execute(text("SET lock_timeout = '50ms'"))
        with pytest.raises(OperationalError, match="lock timeout"):
            PolicyService(session).begin_change()
