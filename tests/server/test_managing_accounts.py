"""Accounts, as administrators manage them: the part of `domain.accounts` below `/users`."""

from collections.abc import Callable
from datetime import timedelta
from email.message import EmailMessage
from typing import Any
from uuid import uuid4

import pyotp
import pytest
import time_machine
from sqlalchemy import Connection, func, select
from sqlalchemy.orm import Session

from app.domain.confirmations.models import Confirmation, Purpose
from app.domain.confirmations.services import ConfirmationService
from app.domain.sessions.models import UserSession
from app.domain.users.models import User
from app.lib.access.guards import RECENT_SIGN_IN
from app.lib.db.models import utc_now
from tests.conftest import API, SignedIn
from tests.factories.users import UserFactory
from tests.inline_jobs import InlineJobs

pytestmark = pytest.mark.integration
PASSWORD = "correct horse battery staple"
AsUser = Callable[..., SignedIn]
NEW = {"email": "grace@example.com", "first_name": "Grace", "last_name": "Hopper"}


@pytest.fixture
def admin(as_user: AsUser) -> SignedIn:
    return as_user(is_superuser=True, first_name="Root", last_name="Administrator")


def names(answer: Any) -> list[str]:
    return [user["first_name"] for user in answer.json()["items"]]


@pytest.fixture
def people(session: Session) -> dict[str, User]:
    """Last names in the order of the alphabet, sign-ins in the reverse one, and one who never signed in."""
    rows = [
        UserFactory.build(first_name="Ada", last_name="Aa", last_login=utc_now(), is_verified=False),
        UserFactory.build(first_name="Bob", last_name="Bb", last_login=utc_now() - timedelta(hours=1)),
        UserFactory.build(first_name="Cyd", last_name="Cc", is_active=False),
    ]
    session.add_all(rows)
    session.commit()
    return {row.first_name: row for row in rows}


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ({"sort": "last_name"}, ["Ada", "Root", "Bob", "Cyd"]),
        ({"sort": "last_login"}, ["Bob", "Ada"]),
        ({"sort": "-last_login"}, ["Ada", "Bob"]),
        ({"is_active": "false"}, ["Cyd"]),
        ({"is_verified": "false"}, ["Ada"]),
        ({"is_superuser": "true"}, ["Root"]),
        ({"is_superuser": "false", "is_verified": "true", "sort": "created_at"}, ["Bob", "Cyd"]),
        ({"q": "bob bb"}, ["Bob"]),
        ({"q": "_"}, []),
    ],
)
@pytest.mark.usefixtures("people")
def test_accounts_are_filtered_sorted_and_searched(query: dict[str, str], found: list[str], admin: SignedIn) -> None:
    assert names(admin.get("/users", params=query))[: max(len(found), 1)] == found


def test_an_order_with_gaps_is_not_walked(admin: SignedIn) -> None:
    answer = admin.get("/users", params={"sort": "last_login", "cursor": ""})

    assert (answer.status_code, answer.json()["errors"][0]["field"]) == (400, "cursor")


def test_an_account_with_a_password_can_sign_in(admin: SignedIn, jobs: InlineJobs) -> None:
    answer = admin.post("/users", json={**NEW, "password": PASSWORD, "is_verified": True})

    assert answer.status_code == 201
    assert (answer.json()["email"], answer.json()["is_verified"]) == ("grace@example.com", True)
    login = {"email": NEW["email"], "password": PASSWORD}
    assert admin.client.post(f"{API}/auth/login", json=login).status_code == 200
    assert jobs.queued == []


def test_an_account_without_a_password_is_invited(
    admin: SignedIn, jobs: InlineJobs, mailbox: list[EmailMessage]
) -> None:
    assert admin.post("/users", json=NEW).status_code == 201

    jobs.run()

    assert [(mail["To"], mail["Subject"]) for mail in mailbox] == [(NEW["email"], "Choose a password at Keel")]


def test_an_address_that_is_taken_is_a_conflict(admin: SignedIn, people: dict[str, User]) -> None:
    taken = people["Ada"].email

    answers = [
        admin.post("/users", json={**NEW, "email": taken.upper()}),
        admin.patch(f"/users/{people['Bob'].id}", json={"email": taken}),
    ]

    assert {(answer.status_code, answer.json()["code"]) for answer in answers} == {(409, "email_taken")}
    assert admin.patch(f"/users/{people['Ada'].id}", json={"email": taken}).status_code == 200


def test_a_new_address_is_unverified_unless_said_otherwise_and_ends_the_sessions(
    admin: SignedIn, as_user: AsUser
) -> None:
    ada, bob = as_user(), as_user()

    moved = admin.patch(f"/users/{ada.user.id}", json={"email": "Ada@New.example"}).json()
    trusted = admin.patch(f"/users/{bob.user.id}", json={"email": "bob@new.example", "is_verified": True}).json()

    assert (moved["email"], moved["is_verified"]) == ("ada@new.example", False)
    assert (trusted["email"], trusted["is_verified"]) == ("bob@new.example", True)
    assert {ada.get("/users/me").status_code, bob.get("/users/me").status_code} == {401}


def test_what_is_sent_unchanged_ends_nothing(admin: SignedIn, as_user: AsUser) -> None:
    ada = as_user()

    whole = {"email": ada.user.email, "is_active": True, "is_superuser": False, "first_name": "Augusta", "phone": None}
    answer = admin.patch(f"/users/{ada.user.id}", json=whole).json()

    assert (answer["first_name"], answer["is_verified"]) == ("Augusta", True)
    assert ada.get("/users/me").status_code == 200


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", "/users", {**NEW, "is_superuser": True}),
        ("PATCH", "/users/{id}", {"is_superuser": True}),
        ("PATCH", "/users/{id}", {"email": "new@example.com"}),
        ("DELETE", "/users/{id}", None),
    ],
)
def test_what_could_hand_an_account_over_needs_a_recent_sign_in(
    method: str, path: str, body: Any, clock: time_machine.Traveller, admin: SignedIn, people: dict[str, User]
) -> None:
    clock.shift(RECENT_SIGN_IN + 2)

    answer = admin.request(method, path.format(id=people["Bob"].id), json=body)

    assert (answer.status_code, answer.json()["code"]) == (403, "reauthentication_required")


def test_an_administrator_who_has_just_ceased_to_be_one_changes_nothing(
    admin: SignedIn, as_user: AsUser, people: dict[str, User], session: Session
) -> None:
    as_user(is_superuser=True)
    admin.user.is_superuser = False
    session.commit()

    answers = [
        admin.patch(f"/users/{people['Bob'].id}", json={"is_active": False}),
        admin.post("/users", json={**NEW, "is_superuser": True}),
        admin.delete(f"/users/{people['Bob'].id}"),
        admin.post(f"/users/{people['Bob'].id}/password-reset"),
    ]

    assert {(answer.status_code, answer.json()["code"]) for answer in answers} == {(403, "permission_denied")}


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", ""), ("PATCH", ""), ("DELETE", ""), ("DELETE", "/sessions"), ("POST", "/password-reset")],
)
def test_an_account_that_is_not_there_is_not_found(method: str, path: str, admin: SignedIn) -> None:
    assert admin.request(method, f"/users/{uuid4()}{path}", json={} if method == "PATCH" else None).status_code == 404


def test_a_forced_reset_takes_the_password_and_all_access(
    admin: SignedIn, as_user: AsUser, session: Session, jobs: InlineJobs, mailbox: list[EmailMessage]
) -> None:
    ada = as_user(password_hash="$argon2id$")

    assert admin.post(f"/users/{ada.user.id}/password-reset").status_code == 202
    jobs.run()

    session.refresh(ada.user)
    assert ada.user.password_hash is None
    assert ada.get("/users/me").status_code == 401
    assert [mail["To"] for mail in mailbox] == [f"Ada Lovelace <{ada.user.email}>"]


def test_a_forced_reset_leaves_the_owner_of_an_earlier_address_the_way_back(
    admin: SignedIn, people: dict[str, User], session: Session
) -> None:
    confirmations = ConfirmationService(session)
    links = {
        purpose: confirmations.issue(purpose, people["Bob"], email="bob@before.test")
        for purpose in (Purpose.EMAIL_UNDO, Purpose.EMAIL_CHANGE)
    }

    admin.post(f"/users/{people['Bob'].id}/password-reset").raise_for_status()

    still_open = session.scalars(
        select(Confirmation.id).where(Confirmation.is_open(), Confirmation.id.in_(links.values()))
    )
    assert still_open.all() == [links[Purpose.EMAIL_UNDO]]


def test_a_deleted_account_is_gone_with_all_that_belongs_to_it(
    admin: SignedIn, as_user: AsUser, connection: Connection, jobs: InlineJobs
) -> None:
    ada = as_user()
    ada.post("/items", json={"title": "x"})

    assert admin.delete(f"/users/{ada.user.id}").status_code == 204

    assert ada.get("/items").status_code == 401
    assert admin.get(f"/users/{ada.user.id}").status_code == 404
    assert ada.user.email not in str(admin.get("/users").json())
    jobs.run()
    assert connection.scalar(select(func.count()).where(UserSession.user_id == ada.user.id)) == 0


def test_a_second_factor_is_taken_off_whoever_has_lost_it(
    admin: SignedIn, as_user: AsUser, jobs: InlineJobs, mailbox: list[EmailMessage]
) -> None:
    ada = as_user()
    totp = pyotp.TOTP(ada.post("/users/me/totp").json()["secret"])
    ada.post("/users/me/totp/confirm", json={"totp": totp.now()})

    answers = [admin.delete(f"/users/{ada.user.id}/totp").status_code for _ in range(2)]
    jobs.run()

    assert answers == [204, 404]
    assert ada.get("/users/me/totp").json()["is_enabled"] is False
    assert "off" in mailbox[-1]["Subject"]
