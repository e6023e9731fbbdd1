"""What becomes of an event when its unit of work commits, rolls back, is repeated, or is in doubt."""

from collections.abc import Callable, Iterator
from typing import Any
from uuid import UUID, uuid4

import msgspec
import pytest
from sqlalchemy import URL, NullPool, Row, create_engine, select, text
from sqlalchemy.exc import IntegrityError, OperationalError
from sqlalchemy.orm import Session

from app.domain.accounts.schemas import AccountUpdate
from app.domain.audit.models import Action, AuditEvent, Outcome
from app.domain.audit.services import AuditService, differences
from app.lib.db.database import Database
from app.lib.db.unit_of_work import WriteInReadError
from app.lib.errors import ApplicationError, PermissionDeniedError
from app.lib.origin import Origin, originating
from tests.factories.users import UserFactory

pytestmark = pytest.mark.integration


class RefusedButRecordedError(ApplicationError):
    keeps_writes = True


@pytest.fixture
def database(live_database: URL) -> Iterator[Database]:
    database = Database(live_database, pool_size=2)
    yield database
    database.dispose()


@pytest.fixture
def events(live_database: URL) -> Callable[[], list[Row[Any]]]:
    """What is stored, on a fresh connection."""

    def read() -> list[Row[Any]]:
        with create_engine(live_database, poolclass=NullPool).connect() as fresh:
            return list(fresh.execute(select(AuditEvent.__table__).order_by(AuditEvent.id)))

    return read


def outcomes(events: Callable[[], list[Row[Any]]]) -> list[tuple[str, str]]:
    return [(event.action, event.outcome) for event in events()]


def record(session: Session, action: Action = Action.USER_UPDATED, **details: Any) -> None:
    AuditService(session).record(action, **details)


def test_an_event_is_committed_with_its_transaction(database: Database, events: Any) -> None:
    database.write(record)

    assert outcomes(events) == [("user.updated", "success")]


@pytest.mark.parametrize(
    ("recorded", "kept"),
    [(Outcome.SUCCESS, "failure"), (Outcome.FAILURE, "failure"), (Outcome.DENIED, "denied")],
)
def test_of_what_is_rolled_back_the_event_stays_as_a_failure(
    database: Database, events: Any, recorded: Outcome, kept: str
) -> None:
    def refuse(session: Session) -> None:
        session.add(UserFactory.build())
        record(session, outcome=recorded, subject=("user", 1))
        raise PermissionDeniedError

    with pytest.raises(PermissionDeniedError):
        database.write(refuse)
    assert outcomes(events) == [("user.updated", kept)]


def test_a_commit_that_is_refused_leaves_a_failure(database: Database, events: Any) -> None:
    def break_at_flush(session: Session) -> None:
        record(session)
        session.add_all([UserFactory.build(email="ada@example.com") for _ in range(2)])

    with pytest.raises(IntegrityError):
        database.write(break_at_flush)
    assert outcomes(events) == [("user.updated", "failure")]


def test_a_refusal_that_keeps_what_was_written_is_recorded_once_and_as_it_was(database: Database, events: Any) -> None:
    def refuse(session: Session) -> None:
        record(session, Action.SESSION_CREATED, outcome=Outcome.FAILURE)
        raise RefusedButRecordedError

    with pytest.raises(RefusedButRecordedError):
        database.write(refuse)
    assert outcomes(events) == [("session.created", "failure")]


def test_a_unit_of_work_that_is_repeated_is_recorded_once(database: Database, events: Any) -> None:
    attempts: list[int] = []

    def succeed_at_last(session: Session) -> None:
        record(session)
        attempts.append(1)
        if len(attempts) == 1:
            session.execute(text("DO $$ BEGIN RAISE serialization_failure; END $$"))

    database.write(succeed_at_last)

    assert len(attempts) == 2
    assert outcomes(events) == [("user.updated", "success")]


def test_one_that_fails_twice_is_one_failure(database: Database, events: Any) -> None:
    def fail(session: Session) -> None:
        record(session)
        session.execute(text("DO $$ BEGIN RAISE serialization_failure; END $$"))

    with pytest.raises(OperationalError):
        database.write(fail)
    assert outcomes(events) == [("user.updated", "failure")]


def test_a_commit_that_happened_although_it_seemed_to_fail_is_no_failure(database: Database, events: Any) -> None:
    """The connection is lost after the server has committed and before it could say so."""

    def lose(session: Session) -> None:
        record(session)
        session.flush()
        session.connection().connection.commit()
        session.execute(text("SELECT pg_terminate_backend(pg_backend_pid())"))

    with pytest.raises(OperationalError):
        database.write_once(lose)
    assert outcomes(events) == [("user.updated", "success")]


def test_who_only_reads_cannot_record(database: Database, events: Any) -> None:
    with pytest.raises(WriteInReadError):
        database.read(record)
    assert events() == []


def test_an_event_says_where_it_came_from(database: Database, events: Any) -> None:
    here = Origin("GET /items", uuid4(), uuid4(), uuid4(), "198.51.100.7", "a-request", "items:read")

    with originating(here):
        database.write(record)
    database.write(record)

    asked, by_operator = events()
    assert [getattr(asked, name) for name in here.__struct_fields__] == list(msgspec.structs.astuple(here))
    assert (by_operator.source, by_operator.actor_id, by_operator.address) == ("command line", None, None)


def test_who_has_only_now_proved_who_they_are_is_the_actor(database: Database, events: Any) -> None:
    ada = uuid4()

    with originating(Origin("POST /login")):
        database.write(lambda session: record(session, actor_id=ada))

    assert events()[0].actor_id == ada


def test_a_subject_is_a_row_or_a_kind_and_an_id(database: Database, events: Any) -> None:
    user = UserFactory.build(id=uuid4())

    database.write(lambda session: record(session, subject=user))
    database.write(lambda session: record(session, subject=("role", "editor")))

    assert [(event.subject_type, event.subject_id) for event in events()] == [
        ("user", str(user.id)),
        ("role", "editor"),
    ]


def test_text_of_strangers_is_made_harmless_and_short(database: Database, events: Any) -> None:
    nasty = "a\x00b\ud800c\r\nd"
    details = {"text": nasty, nasty: [nasty], "long": "x" * 10_000, "nan": float("nan"), "list": list(range(1000))}

    with originating(Origin("GET /", address=nasty * 50)):
        database.write(lambda session: record(session, subject=("x", nasty * 100), details=details))

    [event] = events()
    assert event.details["text"] == "a\ufffdb\ufffdc\r\nd"
    assert [len(event.details[name]) for name in ("long", "list")] == [500, 100]
    assert (len(event.subject_id), len(event.address)) == (200, 64)


def test_secrets_are_masked_wherever_they_are(database: Database, events: Any) -> None:
    changes = {
        "password_hash": [None, "$argon2id$"],
        "key_hash": [b"1", b"2"],
        "blob": [None, b"3"],
        "name": ["a", "b"],
    }

    database.write(lambda session: record(session, changes=changes, attributes={"deep": {"refresh_token": "xyz"}}))

    [event] = events()
    assert event.changes == {
        "password_hash": [None, "***"],
        "key_hash": ["***", "***"],
        "blob": [None, "***"],
        "name": ["a", "b"],
    }
    assert event.attributes == {"deep": {"refresh_token": "***"}}


def test_differences_are_the_fields_that_were_sent_and_are_not_so_already() -> None:
    user = UserFactory.build(first_name="Ada", last_name="Lovelace", phone=None)
    wanted = AccountUpdate(first_name="Ada", last_name="King", is_active=False)

    assert differences(user, wanted) == {"last_name": ["Lovelace", "King"], "is_active": [True, False]}
    assert differences(user, {"phone": "+44"}) == {"phone": [None, "+44"]}


def test_ids_and_times_are_text(database: Database, events: Any) -> None:
    some_id = UUID(int=1)

    database.write(lambda session: record(session, attributes={"id": some_id, "ids": {some_id}}))

    assert events()[0].attributes == {"id": str(some_id), "ids": [str(some_id)]}
