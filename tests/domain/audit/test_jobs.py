from datetime import timedelta
from uuid import UUID

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session

from app.domain.audit import jobs as audit_jobs
from app.domain.audit.jobs import remove_old_audit_events
from app.domain.audit.models import AuditEvent
from app.lib.db.models import utc_now
from app.lib.jobs.broker import enqueue
from app.lib.settings import Settings
from tests.factories.audit_events import AuditEventFactory
from tests.inline_jobs import InlineJobs

pytestmark = pytest.mark.integration


def store(session: Session, *, days: float) -> UUID:
    """An event of so many days ago."""
    event = AuditEventFactory.build(created_at=utc_now() - timedelta(days=days))
    session.add(event)
    session.commit()
    return event.id


def stored(session: Session) -> set[UUID]:
    return set(session.scalars(select(AuditEvent.id)))


def test_what_is_older_than_the_retention_goes_and_nothing_else(
    session: Session, jobs: InlineJobs, settings: Settings
) -> None:
    old = store(session, days=settings.audit_retention_days + 0.01)
    young = store(session, days=settings.audit_retention_days - 0.01)
    enqueue(session, remove_old_audit_events)
    session.commit()

    jobs.run()

    assert young in stored(session)
    assert old not in stored(session)


def test_after_a_full_batch_comes_another(
    session: Session, jobs: InlineJobs, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audit_jobs, "BATCH", 1)
    store(session, days=settings.audit_retention_days + 1)
    enqueue(session, remove_old_audit_events)
    session.commit()

    jobs.run()

    assert [name for name, _ in jobs.queued] == ["audit.remove_old_audit_events"]
