"""SECURITY.md, line 9: whoever is deactivated, demoted, moved or deleted is out, in both processes at once."""

from collections.abc import Callable
from typing import Any
from uuid import uuid4

import httpx
import pytest

from tests.attack.conftest import Keel
from tests.live import PASSWORD, wait_until

pytestmark = pytest.mark.e2e
ALL_SCOPES = ["items:read", "profile:read"]
Act = Callable[[httpx.Client, str], httpx.Response]


def administrator(keel: Keel) -> httpx.Client:
    """At `here`."""
    email = keel.sign_up()
    keel.write("UPDATE users SET is_superuser = true WHERE email = :email", email=email)
    return keel.client(token=keel.sign_in(email)["access_token"])


def make_key(keel: Keel, token: str, scopes: list[str] = ALL_SCOPES) -> str:
    with keel.client(token=token) as client:
        made = client.post("/users/me/api-keys", json={"name": "attack", "scopes": scopes}).raise_for_status()
    return str(made.json()["key"])


def statuses(keel: Keel, tokens: list[str]) -> list[int]:
    """Of each token at each process."""
    found = []
    for server in (keel.here, keel.there):
        for token in tokens:
            with keel.client(server, token=token) as client:
                found.append(client.get("/items").status_code)
    return found


ENDINGS: dict[str, Act] = {
    "deactivated": lambda admin, user: admin.patch(f"/users/{user}", json={"is_active": False}),
    "demoted": lambda admin, user: admin.patch(f"/users/{user}", json={"is_superuser": False}),
    "email_changed": lambda admin, user: admin.patch(f"/users/{user}", json={"email": f"{uuid4().hex}@example.com"}),
    "password_reset": lambda admin, user: admin.post(f"/users/{user}/password-reset"),
    "deleted": lambda admin, user: admin.delete(f"/users/{user}"),
}


@pytest.mark.attack(9)
@pytest.mark.parametrize("reason", ENDINGS)
def test_tokens_and_api_keys_are_dead_at_both_processes_on_the_next_request(reason: str, keel: Keel) -> None:
    email = keel.sign_up()
    keel.write("UPDATE users SET is_superuser = true WHERE email = :email", email=email)
    pair, other = keel.sign_in(email), keel.sign_in(email)
    key = make_key(keel, pair["access_token"])
    [user] = keel.rows("SELECT id FROM users WHERE email = :email", email=email)
    credentials = [pair["access_token"], other["access_token"], key]
    assert statuses(keel, credentials) == [200] * 6

    with administrator(keel) as admin:
        assert ENDINGS[reason](admin, str(user.id)).is_success
    assert_dead(keel, credentials)

    with keel.client(keel.there) as there:
        refreshed = there.post("/auth/refresh", json={"refresh_token": other["refresh_token"]})
    assert refreshed.status_code == 401
    live = keel.rows(
        "SELECT 1 FROM sessions WHERE user_id = :id AND revoked_at IS NULL "
        "UNION ALL SELECT 1 FROM api_keys WHERE user_id = :id AND revoked_at IS NULL",
        id=user.id,
    )
    assert live == []


def assert_dead(keel: Keel, credentials: list[str]) -> None:
    """Here at once; there as soon as PostgreSQL has told, which takes milliseconds."""
    with keel.client() as here:
        for token in credentials:
            assert here.get("/items", headers={"Authorization": f"Bearer {token}"}).status_code == 401
    wait_until(lambda: statuses(keel, credentials) == [401] * 6, seconds=10)


@pytest.mark.attack(9)
def test_a_forced_sign_out_ends_sessions_and_leaves_api_keys(keel: Keel) -> None:
    email = keel.sign_up()
    token = keel.sign_in(email)["access_token"]
    key = make_key(keel, token)
    [user] = keel.rows("SELECT id FROM users WHERE email = :email", email=email)
    assert statuses(keel, [token, key]) == [200] * 4

    with administrator(keel) as admin:
        assert admin.delete(f"/users/{user.id}/sessions").status_code == 204

    wait_until(lambda: statuses(keel, [token, key]) == [401, 200, 401, 200], seconds=10)


@pytest.mark.attack(9)
def test_somebody_who_is_deactivated_cannot_sign_in_again_and_an_old_password_does_not_work(keel: Keel) -> None:
    blocked, reset = keel.sign_up(), keel.sign_up()
    ids = {
        row.email: row.id
        for row in keel.rows("SELECT id, email FROM users WHERE email IN (:a, :b)", a=blocked, b=reset)
    }
    with administrator(keel) as admin:
        admin.patch(f"/users/{ids[blocked]}", json={"is_active": False}).raise_for_status()
        admin.post(f"/users/{ids[reset]}/password-reset").raise_for_status()

    answers = [login(keel, email) for email in (blocked, reset, f"{uuid4().hex}@example.com")]

    assert {answer.status_code for answer in answers} == {401}
    assert {answer.json()["code"] for answer in answers} == {"invalid_credentials"}
    assert keel.mail_to(reset, subject="assword")


def login(keel: Keel, email: str, **more: Any) -> httpx.Response:
    with keel.client(keel.there) as client:
        return client.post("/auth/login", json={"email": email, "password": PASSWORD, **more})
