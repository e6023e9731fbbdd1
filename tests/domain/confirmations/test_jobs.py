from datetime import timedelta
from email.message import EmailMessage
from uuid import UUID, uuid4

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session

from app.domain.confirmations import jobs as confirmation_jobs
from app.domain.confirmations.jobs import KEEP_EXPIRED, remove_expired_confirmations, send_confirmation
from app.domain.confirmations.models import Confirmation, Purpose
from app.domain.confirmations.services import ConfirmationService
from app.domain.users.models import User
from app.lib.db.models import utc_now
from app.lib.jobs.broker import enqueue
from app.lib.link_tokens import LinkTokens
from app.lib.mail.mailer import Mailer
from tests.factories.users import UserFactory
from tests.inline_jobs import InlineJobs
from tests.links import token_in

pytestmark = pytest.mark.integration


@pytest.fixture
def user(session: Session) -> User:
    user: User = UserFactory.build()
    session.add(user)
    session.flush()
    return user


def send(session: Session, jobs: InlineJobs, confirmation_id: UUID) -> None:
    send_confirmation(session, jobs.resources[Mailer], jobs.resources[LinkTokens], confirmation_id=confirmation_id)


@pytest.mark.parametrize("purpose", Purpose)
def test_a_repeated_job_sends_the_same_mail(
    purpose: Purpose, session: Session, jobs: InlineJobs, mailbox: list[EmailMessage], user: User
) -> None:
    made = ConfirmationService(session).issue(purpose, user)

    for _ in range(2):
        send(session, jobs, made)

    first, second = mailbox
    assert first["To"] == f"Ada Lovelace <{user.email}>"
    assert (first["Message-ID"], token_in(first)) == (second["Message-ID"], token_in(second))


def test_a_link_that_would_not_work_is_not_sent(
    session: Session, jobs: InlineJobs, mailbox: list[EmailMessage], user: User
) -> None:
    service = ConfirmationService(session)
    superseded = service.issue(Purpose.EMAIL_CHANGE, user, email="one@example.com")
    service.issue(Purpose.EMAIL_CHANGE, user, email="two@example.com")
    used = service.issue(Purpose.VERIFICATION, user)
    service.claim(
        jobs.resources[LinkTokens].issue(used, purpose="verification"), Purpose.VERIFICATION, jobs.resources[LinkTokens]
    )

    for nothing in (superseded, used, uuid4()):
        send(session, jobs, nothing)

    assert mailbox == []


def test_what_expired_a_day_ago_is_removed(
    session: Session, jobs: InlineJobs, user: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(confirmation_jobs, "BATCH", 1)
    kept, gone = (ConfirmationService(session).issue(purpose, user) for purpose in list(Purpose)[:2])
    session.get_one(Confirmation, gone).expires_at = utc_now() - KEEP_EXPIRED - timedelta(hours=1)
    enqueue(session, remove_expired_confirmations)
    session.commit()

    jobs.run()

    assert session.scalars(select(Confirmation.id)).all() == [kept]
    assert jobs.queued == [("confirmations.remove_expired_confirmations", {})]
