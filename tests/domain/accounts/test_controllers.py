from collections.abc import Callable
from datetime import timedelta
from email.message import EmailMessage
from typing import Any

import pytest
import time_machine
from litestar import Litestar
from litestar.testing import TestClient
from sqlalchemy import Connection, func, select
from sqlalchemy.orm import Session

from app.domain.confirmations.models import Confirmation
from app.domain.confirmations.services import MAILS_A_DAY, PAUSE
from app.domain.throttles.services import ThrottleService
from app.domain.users.models import User
from app.lib.access.guards import RECENT_SIGN_IN
from app.lib.errors import TooManyRequestsError
from app.lib.secret_keys import SecretKeys
from tests.conftest import API, SignedIn
from tests.inline_jobs import InlineJobs
from tests.links import token_in

pytestmark = pytest.mark.integration
Client = TestClient[Litestar]

REGISTRATION = {
    "email": "ada@example.com",
    "password": "correct horse battery staple",
    "first_name": "Ada",
    "last_name": "Lovelace",
}


def register(client: Client, **fields: Any) -> Any:
    return client.post(f"{API}/auth/register", json=REGISTRATION | fields)


def test_registering_makes_an_ordinary_account(client: Client, connection: Connection) -> None:
    answer = register(client, phone="+44 20 7946 0000")

    assert answer.status_code == 202
    assert answer.json() == {"email": "ada@example.com", "verification_required": False}
    row = connection.execute(select(User.__table__).where(User.email == "ada@example.com")).one()
    assert (row.is_active, row.is_verified, row.is_superuser, row.phone) == (True, False, False, "+44 20 7946 0000")
    assert row.password_hash.startswith("$argon2id$v=19$m=19456,t=2,p=1$")


def test_a_known_address_gets_the_answer_of_a_new_one(client: Client, connection: Connection) -> None:
    first = register(client)
    second = register(client, password="another password", first_name="Eve")

    assert (first.status_code, first.json()) == (second.status_code, second.json())
    assert connection.scalars(select(User.first_name).where(User.email == "ada@example.com")).all() == ["Ada"]


@pytest.mark.parametrize(
    "spelling",
    ["ADA@EXAMPLE.COM", " ada@example.com ", "ada@Example.com", "ａｄａ@example.com", "ada＠example.com"],
)
def test_other_spellings_of_an_address_are_the_same_account(
    spelling: str, client: Client, connection: Connection
) -> None:
    register(client)

    assert register(client, email=spelling).status_code == 202
    assert connection.scalar(select(func.count()).select_from(User).where(User.email.contains("ada"))) == 1


def test_an_address_of_a_test_system_is_an_address(client: Client, connection: Connection) -> None:
    assert register(client, email="Ada@Keel.test").status_code == 202
    assert connection.scalar(select(User.email).where(User.email.contains("keel"))) == "ada@keel.test"


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"email": "nobody"}, "email"),
        ({"email": "a@b@c"}, "email"),
        ({"email": "ada\ufe0f@example.com"}, "email"),
        ({"email": "ad\u200ba@example.com"}, "email"),
        ({"email": "a\r\nBcc: b@example.com"}, "email"),
        ({"email": "=?utf-8?q?a=0d=0abcc=3a_b=40e.test?=@example.com"}, "email"),
        ({"email": "x" * 250 + "@example.com"}, "email"),
        ({"password": "short"}, "password"),
        ({"password": "x" * 1025}, "password"),
        ({"first_name": ""}, "first_name"),
        ({"first_name": "Ada\u202eevE"}, "first_name"),
        ({"first_name": "Ada\u2028Eve"}, "first_name"),
        ({"first_name": "Ada\r\nBcc: x"}, "first_name"),
        ({"phone": "call me"}, "phone"),
        ({"is_superuser": True}, "data"),
        ({"is_verified": True}, "data"),
        ({"id": "x"}, "data"),
    ],
)
def test_a_bad_registration_is_400_and_names_the_field(fields: dict[str, Any], named: str, client: Client) -> None:
    answer = register(client, **fields)

    assert answer.status_code == 400
    assert named in [error["field"] for error in answer.json()["errors"]]


def post(client: Client, path: str, **fields: str) -> Any:
    return client.post(f"{API}/auth/{path}", json=fields)


def row_of(connection: Connection, email: str = "ada@example.com") -> Any:
    return connection.execute(select(User.__table__).where(User.email == email)).one_or_none()


def sign_in(client: Client, password: str, email: str = "ada@example.com") -> Any:
    return post(client, "login", email=email, password=password)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"password": "seven 7"}, "Use at least 8 characters."),
        ({"password": "Password1"}, "This is one of the passwords that are guessed first. Choose another one."),
        ({"password": "Lovelace1815"}, "Do not make the password of your name, your address or Keel."),
        ({"password": "keel-keel"}, "Do not make the password of your name, your address or Keel."),
        ({"email": "countess@example.com", "password": "countess!"}, None),
        ({"password": "nul\0nul\0nul"}, "The password contains a character that cannot be typed."),
    ],
)
def test_a_password_that_is_guessed_first_is_refused_in_words(
    fields: dict[str, Any], message: str | None, client: Client
) -> None:
    answer = register(client, **fields)

    assert answer.status_code == 400
    [error] = answer.json()["errors"]
    assert error == {
        "field": "password",
        "message": message or "Do not make the password of your name, your address or Keel.",
        "source": "body",
    }


def test_after_a_reset_strangers_elsewhere_do_not_keep_its_owner_out(
    client: Client, session: Session, jobs: InlineJobs, mailbox: list[EmailMessage]
) -> None:
    register(client)
    post(client, "password/forgot", email="ada@example.com")
    jobs.run()
    post(client, "password/reset", token=token_in(mailbox[-1]), password="Analytical Engine").raise_for_status()

    throttles, keys = ThrottleService(session), SecretKeys(client.app.state.settings.secret_key)
    for _ in range(6):
        throttles.fail(throttles.begin_sign_in(email="ada@example.com", address="192.0.2.9", keys=keys))
    with pytest.raises(TooManyRequestsError):
        throttles.begin_sign_in(email="ada@example.com", address="198.51.100.7", keys=keys)
    session.commit()

    assert sign_in(client, "Analytical Engine").status_code == 200


def test_the_link_verifies_once(
    client: Client, connection: Connection, jobs: InlineJobs, mailbox: list[EmailMessage]
) -> None:
    register(client)
    jobs.run()
    token = token_in(mailbox[0])

    first, second = (post(client, "verification/confirm", token=token) for _ in range(2))

    assert (first.status_code, first.json()) == (200, {"email": "ada@example.com"})
    assert (second.status_code, second.json()["code"]) == (400, "invalid_token")
    assert row_of(connection).is_verified


def test_a_new_link_replaces_the_older_one(
    client: Client, jobs: InlineJobs, mailbox: list[EmailMessage], clock: time_machine.Traveller
) -> None:
    register(client)
    clock.shift(PAUSE)
    post(client, "verification", email="ADA@example.com")
    jobs.run()

    [message] = mailbox  # the first one was not sent any more
    assert post(client, "verification/confirm", token=token_in(message)).status_code == 200


@pytest.mark.parametrize(("path", "purpose"), [("verification", "verification"), ("password/forgot", "password_reset")])
def test_mails_are_few_however_often_somebody_asks(
    path: str, purpose: str, client: Client, connection: Connection, clock: time_machine.Traveller
) -> None:
    register(client)

    for _ in range(15):
        clock.shift(PAUSE)
        for _ in range(2):
            assert post(client, path, email="ada@example.com").status_code == 202

    rows = select(func.count()).select_from(Confirmation).where(Confirmation.purpose == purpose)
    assert connection.scalar(rows) == MAILS_A_DAY


@pytest.mark.parametrize("path", ["verification", "password/forgot"])
def test_nobody_learns_from_the_answer_who_has_an_account(
    path: str, client: Client, as_user: Callable[..., SignedIn], jobs: InlineJobs, mailbox: list[EmailMessage]
) -> None:
    addresses = ["nobody@example.com", as_user(is_active=False, is_verified=False).user.email]
    if path == "verification":
        addresses.append(as_user().user.email)

    answers = [post(client, path, email=address) for address in addresses]
    jobs.run()

    assert [(answer.status_code, answer.json()) for answer in answers] == [(202, {"email": a}) for a in addresses]
    assert mailbox == []


def test_a_forgotten_password_is_replaced_and_everything_else_ends(
    client: Client, as_user: Callable[..., SignedIn], jobs: InlineJobs, mailbox: list[EmailMessage]
) -> None:
    ada = as_user(email="ada@example.com", is_verified=False)
    post(client, "password/forgot", email="ada@example.com")
    jobs.run()
    token = token_in(mailbox[0])

    refused = post(client, "password/reset", token=token, password="lovelace")
    done = post(client, "password/reset", token=token, password="Analytical Engine")
    again = post(client, "password/reset", token=token, password="Difference Engine")
    jobs.run()

    assert [answer.status_code for answer in (refused, done, again)] == [400, 200, 400]
    assert sign_in(client, "Analytical Engine").status_code == 200
    assert ada.get("/users/me").status_code == 401
    assert mailbox[-1]["Subject"] == "Your password at Keel was changed"
    assert as_user(ada.user).get("/users/me").json()["is_verified"]


def test_a_link_for_a_password_dies_with_the_password(
    client: Client, as_user: Callable[..., SignedIn], jobs: InlineJobs, mailbox: list[EmailMessage]
) -> None:
    ada = as_user()
    post(client, "password/forgot", email=ada.user.email)
    jobs.run()

    changed = ada.put("/users/me/password", json={"current_password": None, "password": "Analytical Engine"})
    late = post(client, "password/reset", token=token_in(mailbox[0]), password="Difference Engine")

    assert (changed.status_code, late.json()["code"]) == (204, "invalid_token")


def test_only_who_has_no_password_may_leave_it_out(as_user: Callable[..., SignedIn]) -> None:
    ada = as_user()

    first = ada.put("/users/me/password", json={"current_password": None, "password": "Analytical Engine"})
    second = ada.put("/users/me/password", json={"current_password": None, "password": "Difference Engine"})
    third = ada.post("/users/me/email", json={"email": "other@example.com"})

    assert [first.status_code, second.status_code, third.status_code] == [204, 400, 400]
    assert second.json()["errors"][0]["field"] == "current_password"


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("PUT", "/users/me/password", {"current_password": None, "password": "Analytical Engine"}),
        ("POST", "/users/me/email", {"email": "other@example.com"}),
        ("DELETE", "/users/me", None),
    ],
)
def test_without_a_password_the_sign_in_must_be_recent(
    method: str, path: str, body: Any, as_user: Callable[..., SignedIn], clock: time_machine.Traveller
) -> None:
    ada = as_user()
    clock.shift(timedelta(seconds=RECENT_SIGN_IN + 1))

    answer = ada.request(method, path, json=body)

    assert (answer.status_code, answer.json()["code"]) == (403, "reauthentication_required")


def test_i_see_my_account_as_the_contract_lists_it(as_user: Callable[..., SignedIn]) -> None:
    ada = as_user()

    answer = ada.get("/users/me").json()

    assert list(answer) == [
        *("id", "email", "first_name", "last_name", "phone", "avatar_url", "is_active", "is_verified"),
        *("is_superuser", "created_at", "updated_at", "last_login"),
    ]
    assert answer["id"] == str(ada.user.id)


def test_i_change_my_name_and_nothing_else(as_user: Callable[..., SignedIn], session: Session) -> None:
    ada = as_user(phone="+44 20 7946 0000")

    answer = ada.patch("/users/me", json={"first_name": "Augusta", "phone": None})
    refused = ada.patch("/users/me", json={"is_superuser": True})

    assert (answer.json()["first_name"], answer.json()["phone"]) == ("Augusta", None)
    assert refused.status_code == 400
    session.refresh(ada.user)
    assert (ada.user.first_name, ada.user.is_superuser) == ("Augusta", False)
