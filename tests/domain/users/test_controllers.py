from collections.abc import Callable
from typing import Any

import pytest
from litestar import Litestar
from litestar.testing import TestClient
from sqlalchemy import Connection, func, select
from sqlalchemy.orm import Session

from app.domain.users.models import User
from tests.conftest import API, SignedIn

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
