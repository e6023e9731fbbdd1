"""What a unit of work does once its outcome is known."""

from collections.abc import Callable

import pytest
from sqlalchemy import text
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session

from app.lib.db.database import Database
from app.lib.db.unit_of_work import after_commit, after_rollback
from tests.factories.users import UserFactory
from tests.lib.db.conftest import RefusedButRecordedError, RefusedError, add

pytestmark = pytest.mark.integration


def test_acts_after_commit_happen_only_if_it_commits(database: Database) -> None:
    done: list[str] = []

    def refuse(session: Session) -> None:
        after_commit(session, lambda: done.append("refused"))
        raise RefusedError

    database.write(lambda session: after_commit(session, lambda: done.append("committed")))
    with pytest.raises(RefusedError):
        database.write(refuse)
    assert done == ["committed"]


def test_an_act_after_commit_that_fails_undoes_nothing_and_stops_no_other(
    database: Database, names: Callable[[], list[str]]
) -> None:
    done: list[str] = []

    def work(session: Session) -> None:
        add(session, "Ada")
        after_commit(session, lambda: database.write(_deadlock))
        after_commit(session, lambda: done.append("the next"))

    database.write(work)

    assert names() == ["Ada"]
    assert done == ["the next"]


def test_records_after_rollback_outlive_what_was_rolled_back(
    database: Database, names: Callable[[], list[str]]
) -> None:
    def work(session: Session) -> None:
        add(session, "Ada")
        after_rollback(session, lambda fresh: fresh.add(UserFactory.build(first_name="Record")))
        raise RefusedError

    with pytest.raises(RefusedError):
        database.write(work)
    assert names() == ["Record"]


def test_records_after_rollback_are_dropped_when_it_commits(database: Database, names: Callable[[], list[str]]) -> None:
    def work(session: Session, *, error: type[Exception] | None) -> None:
        after_rollback(session, lambda fresh: fresh.add(UserFactory.build(first_name="Record")))
        if error:
            raise error

    database.write(lambda session: work(session, error=None))
    with pytest.raises(RefusedButRecordedError):
        database.write(lambda session: work(session, error=RefusedButRecordedError))
    assert names() == []


def test_records_of_a_repeated_unit_of_work_are_written_once(
    database: Database, names: Callable[[], list[str]]
) -> None:
    def work(session: Session) -> None:
        after_rollback(session, lambda fresh: fresh.add(UserFactory.build(first_name="Record")))
        session.execute(text("DO $$ BEGIN RAISE serialization_failure; END $$"))

    with pytest.raises(OperationalError):
        database.write(work)
    assert names() == ["Record"]


def _deadlock(session: Session) -> None:
    session.execute(text("DO $$ BEGIN RAISE deadlock_detected; END $$"))
