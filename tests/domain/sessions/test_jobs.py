from datetime import timedelta

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session

from app.domain.sessions import jobs as session_jobs
from app.domain.sessions.jobs import KEEP_ENDED, remove_ended_sessions, remove_used_refresh_tokens
from app.domain.sessions.models import RefreshToken, UserSession
from app.lib.db.models import utc_now
from app.lib.jobs.broker import enqueue
from tests.factories.sessions import UserSessionFactory
from tests.factories.users import UserFactory
from tests.inline_jobs import InlineJobs

pytestmark = pytest.mark.integration
LONG_AGO = utc_now() - KEEP_ENDED - timedelta(hours=1)


def add(session: Session, **fields: object) -> UserSession:
    user = UserFactory.build()
    session.add(user)
    session.flush()
    row = UserSessionFactory.build(user_id=user.id, **fields)
    session.add(row)
    session.flush()
    return row


def test_sessions_that_ended_long_ago_are_removed(session: Session, jobs: InlineJobs) -> None:
    add(session, expires_at=LONG_AGO)
    add(session, revoked_at=LONG_AGO)
    kept = [add(session), add(session, revoked_at=utc_now()), add(session, expires_at=utc_now())]
    enqueue(session, remove_ended_sessions)
    session.commit()

    jobs.run()

    assert set(session.scalars(select(UserSession.id))) == {row.id for row in kept}
    assert jobs.queued == []


def test_what_is_left_of_a_full_batch_is_the_next_jobs(
    session: Session, jobs: InlineJobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session_jobs, "BATCH", 1)
    add(session, expires_at=LONG_AGO)
    enqueue(session, remove_ended_sessions)
    session.commit()

    jobs.run()

    assert jobs.queued == [("sessions.remove_ended_sessions", {})]


def test_of_a_long_chain_of_refresh_tokens_the_old_links_are_removed(session: Session, jobs: InlineJobs) -> None:
    row = add(session)
    for number, used_at in enumerate([LONG_AGO, utc_now(), None]):
        session.add(RefreshToken(session_id=row.id, token_hash=bytes([number]) * 32, used_at=used_at))
    enqueue(session, remove_used_refresh_tokens)
    session.commit()

    jobs.run()

    assert sorted(session.scalars(select(RefreshToken.token_hash))) == [b"\1" * 32, b"\2" * 32]
