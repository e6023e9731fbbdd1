from collections.abc import Callable
from datetime import timedelta
from email.message import EmailMessage
from typing import Any
from uuid import uuid4

import pytest
import time_machine
from sqlalchemy import select, update
from sqlalchemy.orm import Session

from app.domain.sessions.errors import InvalidRefreshTokenError
from app.domain.sessions.models import UserSession
from app.domain.sessions.services import SessionService
from app.domain.users.errors import InvalidCredentialsError
from app.domain.users.models import User
from app.lib.errors import NotAuthenticatedError, NotFoundError
from app.lib.mail.backends import text_of
from app.lib.sign_ins import Device, Grant
from tests.factories.users import UserFactory
from tests.inline_jobs import InlineJobs

pytestmark = pytest.mark.integration

WEEK, IDLE = timedelta(days=7), timedelta(hours=36)
FIREFOX = "Mozilla/5.0 (Windows NT 10.0; Win64; x64; rv:{0}) Gecko/20100101 Firefox/{0}"
CHROME = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/{0} Safari/537.36"
NOTICE = "sessions.send_new_device_notice"


@pytest.fixture
def sessions(session: Session) -> SessionService:
    return SessionService(session)


@pytest.fixture
def ada(session: Session) -> User:
    user = UserFactory.build()
    session.add(user)
    session.commit()
    return user


SignIn = Callable[..., Grant]


@pytest.fixture
def sign_in(sessions: SessionService, ada: User, session: Session) -> SignIn:
    """Ada, who is looked up anew."""

    def sign_in(user_agent: str = "Lynx", address: str = "198.51.100.7") -> Grant:
        session.refresh(ada)
        grant = sessions.sign_in(ada, device=Device(address=address, user_agent=user_agent), lifetime=WEEK)
        session.commit()
        return grant

    return sign_in


def row_of(session: Session, grant: Grant) -> UserSession:
    return session.get_one(UserSession, grant.principal.session_id, populate_existing=True)


def test_a_sign_in_costs_one_statement_more_for_the_audit_log(sign_in: SignIn, statements: list[str]) -> None:
    sign_in()
    statements.clear()

    sign_in()

    assert [each.split()[:3] for each in statements if "audit_events" in each] == [["INSERT", "INTO", "audit_events"]]


def test_a_session_that_nobody_refreshed_for_long_has_ended(
    sessions: SessionService, sign_in: SignIn, clock: time_machine.Traveller
) -> None:
    grant = sign_in()

    clock.shift(IDLE - timedelta(minutes=1))
    grant = sessions.refresh(grant.refresh_token, max_idle=IDLE)
    clock.shift(IDLE - timedelta(minutes=1))
    grant = sessions.refresh(grant.refresh_token, max_idle=IDLE)
    clock.shift(IDLE + timedelta(minutes=1))

    with pytest.raises(InvalidRefreshTokenError):
        sessions.refresh(grant.refresh_token, max_idle=IDLE)


def test_a_session_ends_however_often_it_is_refreshed(
    sessions: SessionService, sign_in: SignIn, clock: time_machine.Traveller
) -> None:
    grant = sign_in()
    for _ in range(6):
        clock.shift(timedelta(days=1))
        grant = sessions.refresh(grant.refresh_token, max_idle=IDLE)
    clock.shift(timedelta(days=1, minutes=1))

    with pytest.raises(InvalidRefreshTokenError):
        sessions.refresh(grant.refresh_token, max_idle=IDLE)


def test_a_refresh_carries_on_when_the_session_was_proved(
    sessions: SessionService, sign_in: SignIn, session: Session, clock: time_machine.Traveller
) -> None:
    grant = sign_in()
    clock.shift(timedelta(hours=1))

    refreshed = sessions.refresh(grant.refresh_token, max_idle=IDLE)

    assert refreshed.principal == grant.principal
    assert row_of(session, grant).last_seen_at - row_of(session, grant).authenticated_at >= timedelta(hours=1)


def test_proving_it_again_is_remembered_and_carried_on(
    sessions: SessionService, sign_in: SignIn, ada: User, clock: time_machine.Traveller
) -> None:
    grant = sign_in()
    clock.shift(timedelta(hours=1))

    row = sessions.reauthenticate(ada, grant.principal.session_id)

    proved = int(row.authenticated_at.timestamp())
    assert proved >= grant.principal.authenticated_at + 3600
    assert sessions.refresh(grant.refresh_token, max_idle=IDLE).principal.authenticated_at == proved


@pytest.mark.parametrize("ending", [{"revoked_at": UserSession.created_at}, {"expires_at": UserSession.created_at}])
def test_a_session_that_has_ended_cannot_be_proved_again(
    ending: dict[str, Any], sessions: SessionService, sign_in: SignIn, ada: User, session: Session
) -> None:
    session_id = sign_in().principal.session_id
    session.execute(update(UserSession).where(UserSession.id == session_id).values(**ending))

    with pytest.raises(NotAuthenticatedError):
        sessions.reauthenticate(ada, session_id)


@pytest.mark.parametrize("change", [{"is_active": False}, {"is_superuser": True}, {"password_hash": "another"}])
def test_a_sign_in_that_overlaps_a_change_of_the_account_is_refused(
    change: dict[str, Any], sessions: SessionService, ada: User, session: Session
) -> None:
    """The account was looked at before the change, and the session would begin after all others were ended."""
    stale = select(User).where(User.id == ada.id)
    session.execute(
        update(User).where(User.id == ada.id).values(**change), execution_options={"synchronize_session": False}
    )

    with pytest.raises(InvalidCredentialsError):
        sessions.sign_in(session.scalars(stale).one(), device=Device(address="", user_agent=""), lifetime=WEEK)

    assert session.scalars(select(UserSession)).all() == []


def test_all_sessions_of_a_user_end_but_one(sessions: SessionService, sign_in: SignIn, ada: User) -> None:
    first, second, kept = sign_in(), sign_in(), sign_in()

    ended = sessions.end_all(ada.id, but=kept.principal.session_id, reason="test")

    assert set(ended) == {first.principal.session_id, second.principal.session_id}
    sessions.refresh(kept.refresh_token, max_idle=IDLE)
    with pytest.raises(InvalidRefreshTokenError):
        sessions.refresh(first.refresh_token, max_idle=IDLE)
    assert sessions.end_all(ada.id, reason="test") == [kept.principal.session_id]


def test_nobody_ends_a_session_that_is_over_or_another_persons(
    sessions: SessionService, sign_in: SignIn, ada: User
) -> None:
    session_id = sign_in().principal.session_id

    for stranger, ended in ((uuid4(), session_id), (ada.id, uuid4())):
        with pytest.raises(NotFoundError):
            sessions.end(ended, user_id=stranger)
    sessions.end(session_id, user_id=ada.id)
    with pytest.raises(NotFoundError):
        sessions.end(session_id, user_id=ada.id)


def test_only_a_device_that_is_new_to_a_known_account_is_told_of(sign_in: SignIn, jobs: InlineJobs) -> None:
    sign_in(FIREFOX.format("131.0"))
    sign_in(FIREFOX.format("131.0"))
    assert jobs.queued == []

    grant = sign_in(CHROME.format("130.0.0.0"))

    assert jobs.queued == [(NOTICE, {"session_id": str(grant.principal.session_id)})]


def test_a_browser_that_was_updated_is_no_new_device(sign_in: SignIn, jobs: InlineJobs) -> None:
    sign_in(CHROME.format("130.0.0.0"))

    sign_in(CHROME.format("131.0.1.0"))

    assert jobs.queued == []


def test_the_notice_says_when_and_from_where(sign_in: SignIn, jobs: InlineJobs, mailbox: list[EmailMessage]) -> None:
    sign_in()
    sign_in(FIREFOX.format("131.0"), "2001:db8::1")

    jobs.run()

    [message] = mailbox
    text = text_of(message)
    assert message["Subject"] == "New sign-in to your account at Keel"
    assert text.startswith("Hello Ada Lovelace,\n")
    assert "Device:   Firefox on Windows\n  Address:  2001:db8::1\n" in text


def test_the_notice_repeats_nothing_that_whoever_signs_in_may_write(
    sign_in: SignIn, jobs: InlineJobs, mailbox: list[EmailMessage]
) -> None:
    sign_in()
    sign_in("Your account is locked: visit https://evil.example", "https://evil.example")

    jobs.run()

    assert "evil" not in mailbox[0].as_string()
    assert "Device:   Unknown device\n  Address:  unknown\n" in text_of(mailbox[0])


def test_an_address_that_nobody_verified_is_told_once_a_day(
    sign_in: SignIn, ada: User, jobs: InlineJobs, session: Session, mailbox: list[EmailMessage]
) -> None:
    ada.is_verified = False
    session.commit()
    for user_agent in ("one", "two", "three"):
        sign_in(user_agent)
        jobs.run()

    assert len(mailbox) == 1
