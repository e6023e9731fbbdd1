from collections.abc import Callable
from typing import Any

import pytest
from argon2 import PasswordHasher
from litestar import Litestar
from litestar.testing import TestClient
from sqlalchemy import Connection, func, select, update
from sqlalchemy.orm import Session

from app.domain.sessions.models import RefreshToken, UserSession
from app.domain.users.models import User
from app.lib.passwords import Passwords
from tests.conftest import API, SignedIn
from tests.factories.users import UserFactory

pytestmark = pytest.mark.integration
Client = TestClient[Litestar]
PASSWORD = "correct horse battery staple"


@pytest.fixture
def ada(session: Session) -> User:
    user = UserFactory.build(password_hash=Passwords(concurrency=1).hash(PASSWORD))
    session.add(user)
    session.commit()
    return user


def login(client: Client, user: User, password: str = PASSWORD) -> Any:
    return client.post(f"{API}/auth/login", json={"email": user.email, "password": password})


def refresh(client: Client, token: str) -> Any:
    return client.post(f"{API}/auth/refresh", json={"refresh_token": token})


def get_me(client: Client, token: str) -> Any:
    return client.get(f"{API}/users/me", headers={"Authorization": f"Bearer {token}"})


def test_signing_in_gives_a_pair_and_remembers_the_device(client: Client, ada: User, connection: Connection) -> None:
    answer = client.post(
        f"{API}/auth/login", json={"email": ada.email, "password": PASSWORD}, headers={"User-Agent": "Lynx"}
    )

    assert answer.status_code == 200
    assert answer.json() | {"access_token": "", "refresh_token": ""} == {
        "access_token": "",
        "refresh_token": "",
        "token_type": "bearer",
        "expires_in": 900,
    }
    assert get_me(client, answer.json()["access_token"]).json()["last_login"] is not None
    assert connection.scalar(select(UserSession.user_agent).where(UserSession.user_id == ada.id)) == "Lynx"


def test_signing_in_does_not_change_the_account(client: Client, ada: User, session: Session) -> None:
    session.refresh(ada)
    before = ada.updated_at

    login(client, ada)

    session.refresh(ada)
    assert ada.last_login is not None
    assert ada.updated_at == before


def test_only_a_hash_of_the_refresh_token_is_stored(client: Client, ada: User, connection: Connection) -> None:
    token = login(client, ada).json()["refresh_token"]

    stored = connection.scalars(select(RefreshToken.token_hash)).all()
    assert all(len(value) == 32 and token.encode() not in value for value in stored)


def test_a_password_is_the_same_in_both_unicode_forms(client: Client, session: Session) -> None:
    user = UserFactory.build(password_hash=Passwords(concurrency=1).hash("cafe\u0301 au lait"))
    session.add(user)
    session.commit()

    assert login(client, user, "caf\u00e9 au lait").status_code == 200
    assert login(client, user, "cafe au lait").status_code == 401


def test_whatever_is_wrong_the_answer_is_the_same(client: Client, ada: User, session: Session) -> None:
    inactive = UserFactory.build(password_hash=ada.password_hash, is_active=False)
    social = UserFactory.build(password_hash=None)
    session.add_all([inactive, social])
    session.commit()

    answers = [
        login(client, ada, "wrong password"),
        login(client, inactive),
        login(client, social),
        login(client, UserFactory.build()),
        login(client, UserFactory.build(email="no address")),
        login(client, ada, ""),
    ]

    assert {answer.status_code for answer in answers} == {401}
    assert {answer.json()["code"] for answer in answers} == {"invalid_credentials"}
    assert len({answer.json()["detail"] for answer in answers}) == 1


def test_an_old_hash_is_renewed_when_its_owner_signs_in(client: Client, session: Session) -> None:
    hasher = Passwords(concurrency=1)
    user = UserFactory.build(password_hash=PasswordHasher(time_cost=1, memory_cost=8192).hash(PASSWORD))
    session.add(user)
    session.commit()
    assert user.password_hash
    assert hasher.needs_rehash(user.password_hash)

    assert login(client, user).status_code == 200

    session.refresh(user)
    assert not hasher.needs_rehash(user.password_hash)
    assert login(client, user).status_code == 200


def test_a_refresh_token_works_once_and_its_reuse_ends_the_session(
    client: Client, ada: User, connection: Connection
) -> None:
    first = login(client, ada).json()
    second = refresh(client, first["refresh_token"]).json()
    assert get_me(client, second["access_token"]).status_code == 200

    replayed = refresh(client, first["refresh_token"])

    assert (replayed.status_code, replayed.json()["code"]) == (401, "invalid_refresh_token")
    assert refresh(client, second["refresh_token"]).status_code == 401
    assert get_me(client, second["access_token"]).status_code == 401
    reason = connection.scalar(select(UserSession.revocation_reason).where(UserSession.user_id == ada.id))
    assert reason == "refresh_token_reused"


def test_refreshing_does_not_move_the_end_of_a_session(client: Client, ada: User, connection: Connection) -> None:
    ends = select(UserSession.expires_at).where(UserSession.user_id == ada.id)
    token = login(client, ada).json()["refresh_token"]
    before = connection.scalar(ends)

    token = refresh(client, token).json()["refresh_token"]
    assert connection.scalar(ends) == before

    connection.execute(update(UserSession).values(expires_at=func.now()))
    assert refresh(client, token).status_code == 401


@pytest.mark.parametrize("token", ["", "unknown", "x" * 500, "\u00e9"])
def test_an_unknown_refresh_token_is_refused(token: str, client: Client) -> None:
    assert refresh(client, token).status_code == 401


def test_a_deactivated_user_cannot_refresh(client: Client, ada: User, session: Session) -> None:
    token = login(client, ada).json()["refresh_token"]

    ada.is_active = False
    session.commit()

    assert refresh(client, token).status_code == 401


def test_signing_out_ends_this_session_and_no_other(client: Client, ada: User) -> None:
    here, there = login(client, ada).json(), login(client, ada).json()

    answer = client.post(f"{API}/auth/logout", headers={"Authorization": f"Bearer {here['access_token']}"})

    assert answer.status_code == 204
    assert get_me(client, here["access_token"]).status_code == 401
    assert refresh(client, here["refresh_token"]).status_code == 401
    assert get_me(client, there["access_token"]).status_code == 200


def test_signing_out_needs_somebody_signed_in(client: Client, as_user: Callable[..., SignedIn]) -> None:
    assert client.post(f"{API}/auth/logout").status_code == 401
    assert as_user().post("/auth/logout").status_code == 204
