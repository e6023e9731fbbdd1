"""SECURITY.md, lines 16, 40 and 49: what was sent before an account was taken back, and is still under way."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import uuid4

import httpx
import pytest
from sqlalchemy import NullPool, create_engine, text

from tests.attack.conftest import Keel
from tests.fake_provider import FakeProvider
from tests.live import PASSWORD, wait_until
from tests.visitor import Visitor, fragment

pytestmark = pytest.mark.e2e

NEW = "an analytical engine"
LOCK = text("SELECT id FROM users WHERE email = :email FOR UPDATE")
TAKE_BACK = text("UPDATE users SET password_hash = NULL WHERE email = :email")
END = text("UPDATE sessions SET revoked_at = now() FROM users WHERE users.id = user_id AND email = :email")
WAITING = "SELECT pid FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"


def overtaken(keel: Keel, email: str, send: Callable[[], httpx.Response]) -> httpx.Response:
    """What is answered to a request that waits for the account while its owner takes it back."""
    with create_engine(keel.url, poolclass=NullPool).connect() as owner, ThreadPoolExecutor(1) as thread:
        owner.execute(LOCK, {"email": email})
        answer = thread.submit(send)
        wait_until(lambda: bool(keel.rows(WAITING)), seconds=4, what="the request to wait")
        for statement in (TAKE_BACK, END):
            owner.execute(statement, {"email": email})
        owner.commit()
        return answer.result()


@pytest.mark.attack(40)
def test_a_sign_in_with_the_old_password_does_not_outlive_the_reset(keel: Keel) -> None:
    email = keel.sign_up()

    def send() -> httpx.Response:
        with keel.client() as client:
            return client.post("/auth/login", json={"email": email, "password": PASSWORD})

    answer = overtaken(keel, email, send)

    assert (answer.status_code, answer.json()["code"]) == (401, "invalid_credentials")
    sessions = "SELECT sessions.id FROM sessions JOIN users ON users.id = user_id WHERE email = :email"
    assert keel.rows(sessions, email=email) == []


@pytest.mark.attack(16)
@pytest.mark.parametrize("has_password", [True, False], ids=["password", "none"])
@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("PUT", "/users/me/password", {"current_password": PASSWORD, "password": NEW}),
        ("POST", "/users/me/email", {"email": f"{uuid4().hex}@example.com", "password": PASSWORD}),
        ("DELETE", "/users/me", None),
        ("POST", "/users/me/api-keys", {"name": "way back in", "scopes": ["items:read"]}),
    ],
    ids=["password", "email", "delete", "api key"],
)
def test_a_thief_loses_the_race(
    method: str, path: str, body: dict[str, Any] | None, has_password: bool, keel: Keel
) -> None:
    email = keel.sign_up()
    access_token = keel.sign_in(email)["access_token"]
    if not has_password:
        keel.write("UPDATE users SET password_hash = NULL WHERE email = :email", email=email)
        body = body and {name: None if value == PASSWORD else value for name, value in body.items()}

    def send() -> httpx.Response:
        with keel.client(token=access_token) as client:
            return client.request(method, path, json=body)

    assert overtaken(keel, email, send).status_code == 401
    [row] = keel.rows("SELECT id, password_hash, is_active FROM users WHERE email = :email", email=email)
    assert (row.password_hash, row.is_active) == (None, True)
    assert keel.rows("SELECT id FROM api_keys WHERE user_id = :id", id=row.id) == []


@pytest.mark.attack(49)
def test_an_identity_that_is_being_linked_does_not_outlive_the_session(
    keel: Keel, fakes: dict[str, FakeProvider]
) -> None:
    email, fake = keel.sign_up(), fakes["fake"]
    with keel.client(token=keel.sign_in(email)["access_token"]) as thief:
        url = (
            thief.post("/users/me/identities", json={"provider": fake.name}).raise_for_status().json()["authorize_url"]
        )

        answer = overtaken(keel, email, lambda: Visitor(thief, fake).come_back(url))

    assert fragment(answer) == {"error": "not_authenticated"}
    assert keel.rows("SELECT id FROM identities WHERE subject = :subject", subject=fake.person["sub"]) == []
