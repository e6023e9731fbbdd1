"""SECURITY.md, part A: what a sign-in and a sign-out end."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest
from sqlalchemy import NullPool, create_engine, text

from tests.attack.conftest import Keel
from tests.cookies import (
    ACCESS_COOKIE,
    CSRF_COOKIE,
    LOGIN,
    LOGOUT,
    REFRESH,
    REFRESH_COOKIE,
    meant,
    sign_in_with_cookies,
)
from tests.live import PASSWORD, wait_until

pytestmark = pytest.mark.e2e


def statuses(keel: Keel, ask: Callable[[httpx.Client], httpx.Response]) -> list[int]:
    """Of the same request at both processes."""
    with keel.client() as here, keel.client(keel.there) as there:
        return [ask(client).status_code for client in (here, there)]


def reasons(keel: Keel, email: str) -> list[str | None]:
    rows = keel.rows(
        "SELECT revocation_reason AS reason FROM sessions JOIN users ON users.id = user_id WHERE email = :email "
        "ORDER BY sessions.created_at",
        email=email,
    )
    return [row.reason for row in rows]


@pytest.mark.attack(7)
def test_whoever_signs_in_with_a_session_cookie_gets_a_new_session_and_the_old_one_is_dead(keel: Keel) -> None:
    email = keel.sign_up()
    with keel.client() as browser:
        first = sign_in_with_cookies(browser, email)
        old = {**browser.cookies}
        second = sign_in_with_cookies(browser, email)

        assert first != second
        assert all(browser.cookies[name] != old[name] for name in (ACCESS_COOKIE, REFRESH_COOKIE, CSRF_COOKIE))
        assert browser.get("/users/me").status_code == 200
    keel.assert_ended(_cookie(old))
    assert statuses(keel, lambda client: client.post(REFRESH, headers=meant(first, **_cookie(old)))) == [401, 401]
    assert reasons(keel, email) == ["replaced", None]


@pytest.mark.attack(7)
def test_a_session_that_somebody_else_planted_in_the_browser_is_not_carried_on(keel: Keel) -> None:
    victim, attacker = keel.sign_up(), keel.sign_up()
    with keel.client() as evil, keel.client() as browser:
        sign_in_with_cookies(evil, attacker)
        planted = {**evil.cookies}
        answer = browser.post(LOGIN, json={"email": victim, "password": PASSWORD}, headers=_cookie(planted))

        assert answer.status_code == 204
        assert browser.get("/users/me").json()["email"] == victim
    keel.assert_ended(_cookie(planted))


@pytest.mark.attack(8)
def test_after_a_logout_neither_token_is_good_in_either_process(keel: Keel) -> None:
    email = keel.sign_up()
    pair = keel.sign_in(email)
    bearer = {"Authorization": f"Bearer {pair['access_token']}"}
    assert statuses(keel, lambda client: client.get("/users/me", headers=bearer)) == [200, 200]

    with keel.client() as client:
        assert client.post("/auth/logout", headers=bearer).status_code == 204

    body = {"refresh_token": pair["refresh_token"]}
    keel.assert_ended(bearer)
    assert statuses(keel, lambda client: client.post("/auth/refresh", json=body)) == [401, 401]
    assert reasons(keel, email) == ["logout"]


@pytest.mark.attack(8)
@pytest.mark.parametrize("path", [LOGOUT, "/auth/logout"])
def test_after_a_logout_no_cookie_is_good_in_either_process(path: str, keel: Keel) -> None:
    email = keel.sign_up()
    with keel.client() as browser:
        csrf_token = sign_in_with_cookies(browser, email)
        kept = {**browser.cookies}
        assert statuses(keel, lambda client: client.get("/users/me", headers=_cookie(kept))) == [200, 200]

        assert browser.post(path, headers=meant(csrf_token)).status_code == 204

    keel.assert_ended(_cookie(kept))
    assert statuses(keel, lambda client: client.post(REFRESH, headers=meant(csrf_token, **_cookie(kept)))) == [401, 401]
    bearer = {"Authorization": f"Bearer {kept[ACCESS_COOKIE]}"}
    keel.assert_ended(bearer)


@pytest.mark.attack(9)
@pytest.mark.parametrize("change", ["is_active = false", "password_hash = 'another'"])
def test_a_sign_in_that_overlaps_a_change_of_the_account_begins_no_session(change: str, keel: Keel) -> None:
    """It has seen the account as it was, and would begin after the change has ended all other sessions."""
    email = keel.sign_up()
    waiting = "SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    engine = create_engine(keel.url, poolclass=NullPool)
    with ThreadPoolExecutor(1) as thread, keel.client() as client, engine.connect() as changing:
        changing.execute(text(f"UPDATE users SET {change} WHERE email = :email"), {"email": email})
        answer = thread.submit(client.post, "/auth/login", json={"email": email, "password": PASSWORD})
        wait_until(lambda: bool(keel.rows(waiting)), seconds=5, what="the sign-in to wait")
        changing.commit()

        assert answer.result().status_code == 401
    assert reasons(keel, email) == []


def _cookie(cookies: dict[str, str]) -> dict[str, str]:
    return {"Cookie": "; ".join(f"{name}={value}" for name, value in cookies.items())}
