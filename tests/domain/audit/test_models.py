"""The triggers, asked in plain SQL by the account of the application, which owns the table."""

import re
from datetime import timedelta

import psycopg
import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from app.domain.audit.models import Action, AuditEvent
from app.domain.audit.services import AuditService
from app.lib.db.models import utc_now
from app.lib.settings import CHECKOUT
from tests.factories.audit_events import AuditEventFactory

pytestmark = pytest.mark.integration

CHANGES = [
    "UPDATE audit_events SET actor_id = NULL",
    "UPDATE audit_events SET count = count",
    "DELETE FROM audit_events",
    "TRUNCATE audit_events",
    "INSERT INTO audit_events SELECT * FROM audit_events ON CONFLICT (id) DO UPDATE SET outcome = 'success'",
    "MERGE INTO audit_events AS a USING (SELECT 1) AS b ON true WHEN MATCHED THEN DELETE",
]


@pytest.fixture(autouse=True)
def old(session: Session) -> AuditEvent:
    """An event of ten days ago."""
    event = AuditEventFactory.build(created_at=utc_now() - timedelta(days=10))
    session.add(event)
    session.commit()
    return event


def refusal(session: Session, statement: str) -> str | None:
    """The SQLSTATE."""
    with pytest.raises(DBAPIError) as refused, session.begin_nested():
        session.execute(text(statement))
    assert isinstance(refused.value.orig, psycopg.Error)
    return refused.value.orig.sqlstate


@pytest.mark.parametrize("statement", CHANGES)
def test_nobody_changes_or_removes_an_event(session: Session, statement: str) -> None:
    assert refusal(session, statement) == "42501"


@pytest.mark.parametrize("statement", [each for each in CHANGES if "DELETE" not in each])
def test_the_job_that_removes_old_ones_can_do_nothing_else(session: Session, statement: str) -> None:
    session.execute(text("SET LOCAL keel.audit_retention = 1"))

    assert refusal(session, statement) == "42501"


@pytest.mark.parametrize(("days", "sqlstate"), [("11", "42501"), ("0", "42501"), ("-1", "42501"), ("x", "22P02")])
def test_it_removes_none_that_is_younger_than_it_says_or_than_a_day(session: Session, days: str, sqlstate: str) -> None:
    session.execute(text(f"SET LOCAL keel.audit_retention = '{days}'"))

    assert refusal(session, "DELETE FROM audit_events") == sqlstate


def test_it_removes_what_is_older(session: Session, old: AuditEvent) -> None:
    session.execute(text("SET LOCAL keel.audit_retention = 9"))

    removed = session.execute(text("DELETE FROM audit_events WHERE id = :id RETURNING id"), {"id": old.id})

    assert removed.all() == [(old.id,)]


def test_every_action_is_documented() -> None:
    named = set(re.findall(r"`(\w+\.\w+)`", (CHECKOUT / "docs" / "audit.md").read_text()))

    assert set(Action) <= named


def test_an_account_that_does_not_own_the_table_needs_no_more_than_its_rights_and_gets_round_nothing(
    session: Session,
) -> None:
    session.execute(text("CREATE ROLE keel_without_table"))
    session.execute(text("GRANT SELECT, INSERT, UPDATE, DELETE ON audit_events TO keel_without_table"))
    session.execute(text("SET LOCAL ROLE keel_without_table"))

    for statement in [
        "ALTER TABLE audit_events DISABLE TRIGGER ALL",
        "DROP TRIGGER refuse_change ON audit_events",
        "SET LOCAL session_replication_role = replica",
        *CHANGES,
    ]:
        assert refusal(session, statement) == "42501"
    assert AuditService(session).remove_older(days=9) == 1
