"""Cookies as a transport: who asks, and whether one of our pages meant it."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from litestar import Litestar
from litestar.testing import TestClient
from sqlalchemy import URL, Connection, select
from sqlalchemy.orm import Session

from app.domain.sessions.models import RefreshToken, UserSession
from app.domain.users.models import User
from app.lib.passwords import Passwords
from app.lib.settings import Settings
from app.server import authentication
from app.server.asgi import build_app
from tests.conftest import API, SignedIn
from tests.cookies import (
    ACCESS_COOKIE,
    CSRF_COOKIE,
    CSRF_HEADER,
    LOGIN,
    LOGOUT,
    REFRESH,
    REFRESH_COOKIE,
    meant,
    set_cookies,
    sign_in_with_cookies,
)
from tests.factories.users import UserFactory
from tests.live import PASSWORD

pytestmark = pytest.mark.integration
Client = TestClient[Litestar]
OWN, APP, EVIL = "https://api.example.com", "https://app.example.com", "https://evil.example"
ME, ITEMS = f"{API}/users/me", f"{API}/items"


@pytest.fixture
def ada(session: Session) -> User:
    user = UserFactory.build(password_hash=Passwords(concurrency=1).hash(PASSWORD))
    session.add(user)
    session.commit()
    return user


@pytest.fixture
def public(settings: Settings, live_database: URL) -> Iterator[Client]:
    """The application as browsers reach it over https, with one application on another host beside it."""
    https = settings.model_copy(update={"public_url": OWN, "backend_cors_origins": (APP,)})
    with TestClient(build_app(https, live_database), base_url=OWN) as client:
        yield client


@pytest.fixture
def csrf_token(client: Client, ada: User) -> str:
    """Of Ada, who is signed in at `client`."""
    return sign_in_with_cookies(client, ada.email, prefix=API)


def live_sessions(connection: Connection, user: User) -> int:
    rows = connection.scalars(
        select(UserSession.id).where(UserSession.user_id == user.id, UserSession.revoked_at.is_(None))
    )
    return len(rows.all())


def test_signing_in_gives_three_cookies_and_no_body(client: Client, ada: User) -> None:
    answer = client.post(API + LOGIN, json={"email": ada.email, "password": PASSWORD})

    assert (answer.status_code, answer.content) == (204, b"")
    assert set(set_cookies(answer)) == {ACCESS_COOKIE, REFRESH_COOKIE, CSRF_COOKIE}
    assert answer.headers[CSRF_HEADER] == client.cookies[CSRF_COOKIE]
    assert client.get(ME).json()["email"] == ada.email


def test_what_reads_needs_no_csrf_token_and_what_writes_does(client: Client, csrf_token: str) -> None:
    assert client.get(ITEMS).status_code == client.head(ITEMS).status_code == 200

    refused = client.post(ITEMS, json={"title": "x"})
    accepted = client.post(ITEMS, json={"title": "x"}, headers=meant(csrf_token))

    assert (refused.status_code, refused.json()["code"]) == (403, "csrf_failed")
    assert refused.headers["content-type"] == "application/problem+json"
    assert accepted.status_code == 201


def test_a_public_route_goes_on_as_if_nobody_were_signed_in(client: Client, ada: User, csrf_token: str) -> None:
    assert csrf_token
    assert client.post(f"{API}/auth/login", json={"email": ada.email, "password": PASSWORD}).status_code == 200


@pytest.mark.parametrize("authorization", ["", "Bearer", "Bearer x", "Bearer a.b.c", "Basic eDp5"])
def test_beside_an_authorization_header_cookies_count_for_nothing(
    authorization: str, client: Client, csrf_token: str
) -> None:
    headers = meant(csrf_token, Authorization=authorization)

    answers = [
        client.get(ME, headers=headers),
        *[client.post(API + path, headers=headers) for path in (REFRESH, LOGOUT)],
    ]

    assert [answer.status_code for answer in answers] == [401, 401, 401]
    assert client.get(ME).status_code == 200


@pytest.mark.usefixtures("csrf_token")
def test_of_a_cookie_and_a_bearer_token_the_bearer_token_decides(as_user: Callable[..., SignedIn]) -> None:
    eve = as_user()

    assert eve.get("/users/me").json()["id"] == str(eve.user.id)
    assert eve.post("/items", json={"title": "x"}).json()["owner_id"] == str(eve.user.id)


@pytest.mark.usefixtures("csrf_token")
def test_an_access_cookie_that_comes_twice_is_nobodys(client: Client) -> None:
    token = client.cookies[ACCESS_COOKIE]
    client.cookies.clear()

    answer = client.get(ME, headers={"Cookie": f"{ACCESS_COOKIE}={token}; {ACCESS_COOKIE}={token}"})

    assert answer.status_code == 401


def test_no_cookie_is_believed_while_revocations_are_unknown(
    client: Client, csrf_token: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(authentication, "MAX_LAG", float("-inf"))

    assert client.get(ME).status_code == client.post(ITEMS, headers=meant(csrf_token)).status_code == 503


def test_refreshing_replaces_the_tokens_and_keeps_the_csrf_token(client: Client, csrf_token: str) -> None:
    before = dict(client.cookies)

    answer = client.post(API + REFRESH, headers=meant(csrf_token))

    assert (answer.status_code, answer.content) == (204, b"")
    assert answer.headers[CSRF_HEADER] == client.cookies[CSRF_COOKIE] == csrf_token
    assert all(client.cookies[name] != before[name] for name in (ACCESS_COOKIE, REFRESH_COOKIE))
    assert client.get(ME).status_code == 200


def test_a_refused_refresh_does_not_use_the_refresh_token_up(
    client: Client, csrf_token: str, connection: Connection
) -> None:
    refused = client.post(API + REFRESH), client.post(API + REFRESH, headers=meant("0" * 64))

    assert [answer.json()["code"] for answer in refused] == ["csrf_failed"] * 2
    assert connection.scalars(select(RefreshToken.used_at)).all() == [None]
    assert client.post(API + REFRESH, headers=meant(csrf_token)).status_code == 204


def test_a_refresh_cookie_that_comes_a_second_time_ends_the_session(
    client: Client, ada: User, csrf_token: str, connection: Connection
) -> None:
    old = client.cookies[REFRESH_COOKIE]
    client.post(API + REFRESH, headers=meant(csrf_token))
    client.cookies.clear()

    replayed = client.post(API + REFRESH, headers=meant(csrf_token, Cookie=f"{REFRESH_COOKIE}={old}"))

    assert (replayed.status_code, replayed.json()["code"]) == (401, "invalid_refresh_token")
    assert live_sessions(connection, ada) == 0


@pytest.mark.parametrize(
    "cookie", ["", REFRESH_COOKIE, f"{REFRESH_COOKIE}=x", f"{REFRESH_COOKIE}=a; {REFRESH_COOKIE}=b"]
)
def test_nobody_can_refresh_without_a_refresh_cookie_of_ours(cookie: str, client: Client) -> None:
    assert client.post(API + REFRESH, headers={"Cookie": cookie}).status_code == 401


def test_signing_out_ends_the_session_and_removes_the_cookies(
    client: Client, ada: User, csrf_token: str, connection: Connection
) -> None:
    kept = {**client.cookies}

    answer = client.post(API + LOGOUT, headers=meant(csrf_token))

    assert answer.status_code == 204
    assert not client.cookies
    assert live_sessions(connection, ada) == 0
    client.cookies.update(kept)
    assert client.get(ME).status_code == client.post(API + REFRESH, headers=meant(csrf_token)).status_code == 401


def test_whoever_was_away_until_the_access_cookie_ended_can_still_sign_out(
    client: Client, ada: User, csrf_token: str, connection: Connection
) -> None:
    client.cookies.delete(ACCESS_COOKIE)

    assert client.post(API + LOGOUT).status_code == 403
    assert client.post(API + LOGOUT, headers=meant(csrf_token)).status_code == 204

    assert live_sessions(connection, ada) == 0
    assert client.post(API + LOGOUT, headers=meant(csrf_token)).status_code == 401


@pytest.mark.parametrize("kept", [ACCESS_COOKIE, REFRESH_COOKIE])
def test_signing_in_ends_the_session_of_the_cookies_that_were_there(
    kept: str, client: Client, ada: User, csrf_token: str, connection: Connection
) -> None:
    for name in {ACCESS_COOKIE, REFRESH_COOKIE, CSRF_COOKIE} - {kept}:
        client.cookies.delete(name)

    assert sign_in_with_cookies(client, ada.email, prefix=API) != csrf_token

    assert live_sessions(connection, ada) == 1


def test_a_failed_sign_in_leaves_the_session_that_was_there(client: Client, ada: User, csrf_token: str) -> None:
    assert csrf_token
    wrong: dict[str, Any] = {"email": ada.email, "password": "wrong"}

    answer = client.post(API + LOGIN, json=wrong)

    assert (answer.status_code, answer.json()["code"]) == (401, "invalid_credentials")
    assert not set_cookies(answer)
    assert client.get(ME).status_code == 200


@pytest.mark.parametrize("headers", [{"Origin": EVIL}, {"Origin": "null"}, {"Sec-Fetch-Site": "cross-site"}])
def test_no_foreign_page_signs_its_visitors_in(headers: dict[str, str], client: Client, ada: User) -> None:
    answer = client.post(API + LOGIN, json={"email": ada.email, "password": PASSWORD}, headers=headers)

    assert (answer.status_code, answer.json()["code"]) == (403, "csrf_failed")
    assert not set_cookies(answer)


def test_proving_again_who_one_is_replaces_the_access_cookie(client: Client, csrf_token: str) -> None:
    before = {**client.cookies}

    answer = client.post(f"{API}/auth/reauthentication", json={"password": PASSWORD}, headers=meant(csrf_token))

    assert (answer.status_code, answer.content) == (204, b"")
    assert set(set_cookies(answer)) == {ACCESS_COOKIE}
    assert client.cookies[ACCESS_COOKIE] != before[ACCESS_COOKIE]
    assert client.get(ME).status_code == 200


def test_a_page_of_a_listed_origin_signs_in_and_acts_over_https(public: Client) -> None:
    account = {"email": "ada@example.com", "password": PASSWORD, "first_name": "Ada", "last_name": "L"}
    browser = {"Origin": APP, "Sec-Fetch-Site": "same-site"}
    public.post(f"{API}/auth/register", json=account)

    signed_in = public.post(API + LOGIN, json={"email": account["email"], "password": PASSWORD}, headers=browser)
    acted = public.post(ITEMS, json={"title": "x"}, headers=meant(signed_in.headers[CSRF_HEADER], **browser))
    forged = public.post(ITEMS, json={"title": "x"}, headers=meant(public.cookies["__Host-keel-csrf"], Origin=EVIL))

    assert set(set_cookies(signed_in)) == {"__Host-keel-access", "__Secure-keel-refresh", "__Host-keel-csrf"}
    assert all("Secure" in text and "Domain" not in text for text in set_cookies(signed_in).values())
    assert (acted.status_code, forged.status_code) == (201, 403)


def test_a_page_of_a_listed_origin_may_send_and_read_the_csrf_token(public: Client) -> None:
    asked = {"Origin": APP, "Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "x-csrf-token"}

    preflight = public.options(ITEMS, headers=asked)
    simple = public.get("/health/live", headers={"Origin": APP})

    assert "x-csrf-token" in preflight.headers["access-control-allow-headers"].lower()
    assert CSRF_HEADER in simple.headers["access-control-expose-headers"]
    assert simple.headers["access-control-allow-credentials"] == "true"
    assert simple.headers["access-control-allow-origin"] == APP
