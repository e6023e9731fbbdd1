import re
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from email.message import EmailMessage
from typing import Any
from uuid import uuid4

import pytest
import time_machine
from litestar import Litestar
from litestar.testing import TestClient
from sqlalchemy import select
from sqlalchemy.orm import Session

from app.domain.users.jobs import (
    KEEP_UNVERIFIED,
    remove_unverified_accounts,
    send_registration_notice,
    send_welcome_email,
)
from app.domain.users.models import User
from app.lib.db.models import utc_now
from app.lib.mail.backends import text_of
from app.lib.mail.mailer import Mailer
from app.lib.settings import Settings
from tests.conftest import API, SignedIn
from tests.factories.users import UserFactory
from tests.inline_jobs import InlineJobs

pytestmark = pytest.mark.integration
Client = TestClient[Litestar]

WELCOME, NOTICE = "users.send_welcome_email", "users.send_registration_notice"
EVIL = "evil.example"


def register(client: Client, email: str = "ada@example.com", **headers: str) -> None:
    account = {"email": email, "password": "correct horse", "first_name": "Ada", "last_name": "Lovelace"}
    assert client.post(f"{API}/auth/register", json=account, headers=headers).status_code == 202


def links(message: EmailMessage) -> list[str]:
    return re.findall(r"https?://[^\s\"<]+", message.as_string())


def test_a_new_address_is_welcomed(client: Client, jobs: InlineJobs, mailbox: list[EmailMessage]) -> None:
    register(client)
    assert [name for name, _ in jobs.queued] == [WELCOME]

    jobs.run()

    [message] = mailbox
    assert (message["To"], message["Subject"]) == ("ada@example.com", "Welcome to Keel")
    assert set(links(message)) == {"http://localhost:8000/api/v1/docs"}


@pytest.mark.usefixtures("clock")
def test_a_known_address_is_told_and_nothing_says_who_asked(
    client: Client, as_user: Callable[..., SignedIn], jobs: InlineJobs, mailbox: list[EmailMessage]
) -> None:
    zoe = as_user(first_name="Zoë", last_name="Brontë").user

    register(client, zoe.email)
    assert jobs.queued == [(NOTICE, {"user_id": str(zoe.id), "day": str(datetime.now(UTC).date())})]
    jobs.run()

    [message] = mailbox
    assert message["To"] == f"Zoë Brontë <{zoe.email}>"
    assert message["Subject"] == "You already have an account at Keel"
    assert text_of(message).startswith("Hello Zoë Brontë,\n\non ")


def test_a_known_address_is_told_once_a_day(
    client: Client,
    as_user: Callable[..., SignedIn],
    jobs: InlineJobs,
    mailbox: list[EmailMessage],
    clock: time_machine.Traveller,
) -> None:
    email = as_user().user.email
    for _ in range(3):
        register(client, email)
        register(client, email)
        jobs.run()
    assert len(mailbox) == 1

    clock.shift(timedelta(days=1))
    register(client, email)
    jobs.run()

    assert len(mailbox) == 2


def test_links_lead_to_the_public_url_whatever_the_request_says(
    client: Client, jobs: InlineJobs, mailbox: list[EmailMessage]
) -> None:
    register(client, Host=EVIL, **{"X-Forwarded-Host": EVIL, "Forwarded": f"host={EVIL}", "Origin": f"http://{EVIL}"})

    jobs.run()

    assert set(links(mailbox[0])) == {"http://localhost:8000/api/v1/docs"}
    assert EVIL not in mailbox[0].as_string()


def test_a_name_is_not_repeated_before_its_address_is_verified(
    client: Client, as_user: Callable[..., SignedIn], jobs: InlineJobs, mailbox: list[EmailMessage]
) -> None:
    stranger = as_user(first_name="Win at https://evil.example", is_verified=False).user

    register(client, stranger.email)
    jobs.run()

    assert EVIL not in mailbox[0].as_string()
    assert text_of(mailbox[0]).startswith("Hello,\n")


def test_a_repeated_job_sends_the_same_message_id_and_another_day_has_another(
    as_user: Callable[..., SignedIn], session: Session, jobs: InlineJobs, mailbox: list[EmailMessage]
) -> None:
    user_id, mailer = as_user().user.id, jobs.resources[Mailer]

    for day in (date(2026, 11, 24), date(2026, 11, 24), date(2026, 11, 25)):
        send_registration_notice(session, mailer, user_id=user_id, day=day)

    first, repeated, next_day = (message["Message-ID"] for message in mailbox)
    assert first == repeated != next_day


@pytest.mark.parametrize(
    ("job", "arguments"), [(send_welcome_email, {}), (send_registration_notice, {"day": date.max})]
)
def test_whoever_is_gone_meanwhile_gets_no_mail(
    job: Any, arguments: dict[str, Any], session: Session, jobs: InlineJobs, mailbox: list[EmailMessage]
) -> None:
    job(session, jobs.resources[Mailer], user_id=uuid4(), **arguments)

    assert mailbox == []


@pytest.mark.parametrize(
    ("needs_verified", "left"), [(True, {"new", "verified", "signed in", "administrator"}), (False, None)]
)
def test_accounts_that_nobody_verified_or_used_are_removed_where_verification_is_needed(
    needs_verified: bool, left: set[str] | None, session: Session, settings: Settings
) -> None:
    old = {"is_verified": False, "created_at": utc_now() - KEEP_UNVERIFIED - timedelta(hours=1)}
    users = [
        UserFactory.build(first_name="abandoned", **old),
        UserFactory.build(first_name="new", is_verified=False),
        UserFactory.build(first_name="verified", **old | {"is_verified": True}),
        UserFactory.build(first_name="signed in", **old, last_login=utc_now()),
        UserFactory.build(first_name="administrator", **old, is_superuser=True),
    ]
    session.add_all(users)
    session.flush()

    remove_unverified_accounts(session, settings.model_copy(update={"require_verified_email": needs_verified}))

    found = set(session.scalars(select(User.first_name)))
    assert found == (left or {user.first_name for user in users})
