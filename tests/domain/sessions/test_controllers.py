import base64
import json
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from argon2 import PasswordHasher
from litestar import Litestar
from litestar.testing import TestClient
from sqlalchemy import Connection, func, select, update
from sqlalchemy.orm import Session

from app.domain.sessions.models import RefreshToken, UserSession
from app.domain.users.models import User
from app.lib.db.models import utc_now
from app.lib.passwords import Passwords
from tests.conftest import API, SignedIn
from tests.factories.sessions import UserSessionFactory
from tests.factories.users import UserFactory

pytestmark = pytest.mark.integration
Client = TestClient[Litestar]
PASSWORD = "correct horse battery staple"
FIREFOX = "Mozilla/5.0 (Windows NT 10.0; Win64; x64; rv:131.0) Gecko/20100101 Firefox/131.0"


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


def test_proving_again_who_one_is_gives_an_access_token_that_says_so(
    client: Client, ada: User, session: Session
) -> None:
    pair = login(client, ada).json()
    session.execute(update(UserSession).values(authenticated_at=func.now() - timedelta(hours=1)))
    headers = {"Authorization": f"Bearer {pair['access_token']}"}

    answer = client.post(f"{API}/auth/reauthentication", json={"password": PASSWORD}, headers=headers)

    assert answer.status_code == 200
    assert answer.json() | {"access_token": ""} == {"access_token": "", "token_type": "bearer", "expires_in": 900}
    assert auth_time(answer.json()["access_token"]) == pytest.approx(time.time(), abs=5)
    later = refresh(client, pair["refresh_token"]).json()["access_token"]
    assert auth_time(later) == auth_time(answer.json()["access_token"])


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [({}, 400, "invalid_input"), ({"password": "wrong"}, 400, "wrong_password"), ({"password": ""}, 400, None)],
)
def test_a_wrong_proof_changes_nothing(
    body: dict[str, str], status: int, code: str | None, as_user: Callable[..., SignedIn], session: Session
) -> None:
    ada = as_user()
    before = ada.session.authenticated_at

    answer = ada.post("/auth/reauthentication", json=body)

    assert answer.status_code == status
    assert code is None or answer.json()["code"] == code
    session.refresh(ada.session)
    assert ada.session.authenticated_at == before


def test_the_list_of_sessions_has_those_that_are_live_and_says_which_one_asks(
    as_user: Callable[..., SignedIn], session: Session
) -> None:
    ada = as_user()
    as_user()
    others: list[dict[str, Any]] = [
        {"user_agent": FIREFOX, "last_seen_at": utc_now() - timedelta(days=2)},
        {"revoked_at": utc_now()},
        {"expires_at": utc_now() - timedelta(seconds=1)},
        {"last_seen_at": utc_now() - timedelta(hours=73)},
    ]
    session.add_all([UserSessionFactory.build(user_id=ada.user.id, **fields) for fields in others])
    session.commit()

    found = ada.get("/users/me/sessions").json()

    assert (found["total"], found["limit"], found["offset"]) == (2, 20, 0)
    current, other = found["items"]
    assert (current["id"], current["is_current"]) == (str(ada.session.id), True)
    assert (other["device"], other["user_agent"], other["is_current"]) == ("Firefox on Windows", FIREFOX, False)
    assert set(other) == {
        *("id", "user_agent", "device", "address", "created_at", "last_seen_at", "expires_at", "is_current")
    }
    assert [row["device"] for row in ada.get("/users/me/sessions?q=firefox").json()["items"]] == ["Firefox on Windows"]
    assert ada.get("/users/me/sessions?sort=user_id").status_code == 400


def test_a_session_is_ended_by_its_owner_only(as_user: Callable[..., SignedIn]) -> None:
    ada, eve = as_user(), as_user()

    assert eve.delete(f"/users/me/sessions/{ada.session.id}").status_code == 404
    assert ada.get("/users/me").status_code == 200
    assert ada.delete(f"/users/me/sessions/{ada.session.id}").status_code == 204
    assert ada.get("/users/me").status_code == 401


def test_all_other_sessions_end_at_once(client: Client, ada: User) -> None:
    here, there = login(client, ada).json(), login(client, ada).json()

    answer = client.delete(f"{API}/users/me/sessions", headers={"Authorization": f"Bearer {here['access_token']}"})

    assert answer.status_code == 204
    assert get_me(client, here["access_token"]).status_code == 200
    assert get_me(client, there["access_token"]).status_code == 401
    assert refresh(client, there["refresh_token"]).status_code == 401


def auth_time(access_token: str) -> int:
    payload = access_token.split(".")[1]
    found: int = json.loads(base64.urlsafe_b64decode(payload + "=="))["auth_time"]
    return found
