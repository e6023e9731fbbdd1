from collections.abc import Callable
from email.message import EmailMessage
from typing import Any
from uuid import uuid4

import pytest
from sqlalchemy.orm import Session

from app.domain.totp.jobs import send_recovery_code_notice, send_recovery_codes_notice, send_totp_notice
from app.lib.db.models import utc_now
from app.lib.jobs.broker import enqueue
from app.lib.mail.backends import text_of
from app.lib.mail.mailer import Mailer
from tests.conftest import SignedIn
from tests.inline_jobs import InlineJobs

pytestmark = pytest.mark.integration
NOW = utc_now().replace(month=11, day=5, hour=9, minute=3)
NOTICES = [
    (send_totp_notice, {"is_enabled": True, "at_time": NOW}, "Two-factor authentication is on", "5 November"),
    (send_totp_notice, {"is_enabled": False, "at_time": NOW}, "Two-factor authentication is off", "09:03 (UTC)"),
    (send_recovery_codes_notice, {"at_time": NOW}, "You have new recovery codes", "5 November"),
    (send_recovery_code_notice, {"code_id": uuid4(), "left": 1}, "A recovery code was used", "1 is left"),
]


@pytest.mark.parametrize(("job", "arguments", "subject", "words"), NOTICES)
def test_the_owner_is_told(
    job: Any,
    arguments: dict[str, Any],
    subject: str,
    words: str,
    as_user: Callable[..., SignedIn],
    session: Session,
    jobs: InlineJobs,
    mailbox: list[EmailMessage],
) -> None:
    ada = as_user(first_name="Ada", last_name="Lovelace").user
    enqueue(session, job, user_id=ada.id, **arguments)
    session.commit()

    jobs.run()

    [message] = mailbox
    assert (message["To"], message["Subject"]) == (f"Ada Lovelace <{ada.email}>", subject)
    assert words in " ".join(text_of(message).split())


@pytest.mark.parametrize(("job", "arguments"), [notice[:2] for notice in NOTICES])
def test_a_name_is_not_repeated_before_its_address_is_verified_and_nobody_gone_gets_mail(
    job: Any,
    arguments: dict[str, Any],
    as_user: Callable[..., SignedIn],
    session: Session,
    jobs: InlineJobs,
    mailbox: list[EmailMessage],
) -> None:
    stranger = as_user(first_name="Win at https://evil.example", is_verified=False).user

    for user_id in (stranger.id, uuid4()):
        job(session, jobs.resources[Mailer], user_id=user_id, **arguments)

    [message] = mailbox
    assert "evil.example" not in message.as_string()


def test_a_secret_that_was_never_confirmed_goes_without_a_word(
    as_user: Callable[..., SignedIn], jobs: InlineJobs
) -> None:
    ada = as_user()
    ada.post("/users/me/totp")

    assert ada.delete("/users/me/totp").status_code == 204
    assert jobs.queued == []
