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
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from app.domain.accounts.jobs import (
    send_address_notice,
    send_farewell,
    send_password_notice,
)
from app.domain.files.models import File
from app.domain.registrations.jobs import send_registration_notice
from app.domain.users.models import User
from app.lib.db.models import utc_now
from app.lib.mail.backends import html_of, text_of
from app.lib.mail.mailer import Mailer
from tests.conftest import API, SignedIn
from tests.factories.files import FileFactory
from tests.inline_jobs import InlineJobs
from tests.links import about

pytestmark = pytest.mark.integration
Client = TestClient[Litestar]

NOTICE = "registrations.send_registration_notice"
EVIL = "evil.example"


def register(client: Client, email: str = "ada@example.com", **headers: str) -> None:
    account = {"email": email, "password": "correct horse", "first_name": "Ada", "last_name": "Lovelace"}
    assert client.post(f"{API}/auth/register", json=account, headers=headers).status_code == 202


def links(message: EmailMessage) -> set[str]:
    return set(re.findall(r"https?://[^\s\"<]+", text_of(message) + html_of(message)))


def test_a_new_address_is_asked_to_confirm(client: Client, jobs: InlineJobs, mailbox: list[EmailMessage]) -> None:
    register(client)
    assert [name for name, _ in jobs.queued] == ["confirmations.send_confirmation"]

    jobs.run()

    [message] = mailbox
    assert (message["To"], message["Subject"]) == ("ada@example.com", "Confirm your address at Keel")
    [link] = links(message)
    assert link.startswith("http://localhost:8000/confirm/verification#token=")


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
    assert text_of(message).startswith("Hello Zoë Brontë,\n\nOn ")


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

    assert all(link.startswith("http://localhost:8000/confirm/") for link in links(mailbox[0]))
    assert EVIL not in mailbox[0].as_string()


def test_a_name_is_not_repeated_before_its_address_is_verified(
    client: Client, as_user: Callable[..., SignedIn], jobs: InlineJobs, mailbox: list[EmailMessage]
) -> None:
    stranger = as_user(first_name="Win at https://evil.example", is_verified=False).user

    register(client, stranger.email)
    jobs.run()

    assert EVIL not in mailbox[0].as_string()
    assert text_of(mailbox[0]).startswith("Hello,\n")


def test_a_name_is_not_told_to_an_address_that_is_not_its_own(
    as_user: Callable[..., SignedIn], jobs: InlineJobs, mailbox: list[EmailMessage]
) -> None:
    stranger = as_user(first_name="Win at https://evil.example")

    assert stranger.post("/users/me/email", json={"email": "victim@example.com"}).status_code == 202
    jobs.run()

    assert mailbox[0]["To"] == "victim@example.com"
    assert EVIL not in mailbox[0].as_string()


def test_a_repeated_job_sends_the_same_message_id_and_another_day_has_another(
    as_user: Callable[..., SignedIn], session: Session, jobs: InlineJobs, mailbox: list[EmailMessage]
) -> None:
    user_id, mailer = as_user().user.id, jobs.resources[Mailer]

    for day in (date(2026, 11, 24), date(2026, 11, 24), date(2026, 11, 25)):
        send_registration_notice(session, mailer, user_id=user_id, day=day)

    first, repeated, next_day = (message["Message-ID"] for message in mailbox)
    assert first == repeated != next_day


@pytest.mark.parametrize(
    ("job", "arguments"),
    [
        (send_registration_notice, {"user_id": uuid4(), "day": date.max}),
        (send_address_notice, {"user_id": uuid4(), "day": date.max}),
        (send_password_notice, {"user_id": uuid4(), "changed_at": utc_now()}),
        (send_farewell, {"closure_id": uuid4()}),
    ],
)
def test_whoever_is_gone_meanwhile_gets_no_mail(
    job: Any, arguments: dict[str, Any], session: Session, jobs: InlineJobs, mailbox: list[EmailMessage]
) -> None:
    job(session, jobs.resources[Mailer], **arguments)

    assert mailbox == []


def test_a_deleted_account_says_farewell_and_goes_with_its_files(
    as_user: Callable[..., SignedIn], session: Session, jobs: InlineJobs, mailbox: list[EmailMessage]
) -> None:
    ada = as_user()
    email, user_id = ada.user.email, ada.user.id
    session.add(FileFactory.build(owner_id=user_id))
    session.commit()

    assert ada.delete("/users/me").status_code == 204
    jobs.run()
    left = [name for name, _ in jobs.queued]

    assert [message["To"] for message in about("was deleted", mailbox)] == [email]
    assert left == ["files.delete_blob"]
    assert session.scalar(select(func.count()).select_from(User).where(User.id == user_id)) == 0
    assert session.scalar(select(func.count()).select_from(File).where(File.owner_id == user_id)) == 0
