"""SECURITY.md, part D: cookies, and requests that other pages forge with them."""

from collections.abc import Iterator
from typing import NamedTuple

import httpx
import pytest

from tests.attack.conftest import Keel
from tests.cookies import (
    ACCESS_COOKIE,
    CSRF_COOKIE,
    LOGIN,
    LOGOUT,
    REFRESH,
    REFRESH_COOKIE,
    meant,
    set_cookies,
    sign_in_with_cookies,
)
from tests.live import PASSWORD

pytestmark = pytest.mark.e2e

OWN, EVIL = "http://keel.test", "https://evil.example"
FOREIGN = [
    {"Origin": EVIL},
    {"Origin": "null"},
    {"Origin": f"{OWN}.evil.example"},
    {"Origin": "https://keel.test"},
    {"Origin": f"{OWN}:8000"},
    {"Sec-Fetch-Site": "cross-site"},
    {"Sec-Fetch-Site": "cross-site", "Origin": OWN},
    {"Sec-Fetch-Site": "same-origin", "Origin": EVIL},
]
WRITES = [
    ("POST", "/items"),
    ("POST", "/auth/logout"),
    ("POST", "/auth/reauthentication"),
    ("POST", LOGOUT),
    ("POST", REFRESH),
    ("PATCH", "/users/me"),
    ("PUT", "/users/me/avatar"),
    ("DELETE", "/users/me/sessions"),
    ("DELETE", "/users/me/sessions/0192f0c1-0000-7000-8000-000000000001"),
]


class Browser(NamedTuple):
    client: httpx.Client
    email: str
    csrf_token: str


@pytest.fixture
def ada(keel: Keel) -> Iterator[Browser]:
    """Signed in with cookies."""
    with keel.client() as client:
        email = keel.sign_up()
        yield Browser(client, email, sign_in_with_cookies(client, email))


def refusal(answer: httpx.Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["code"]


@pytest.mark.attack(26)
def test_cookies_say_who_may_have_them_and_for_how_long(keel: Keel, ada: Browser) -> None:
    answer = ada.client.post(LOGIN, json={"email": ada.email, "password": PASSWORD})

    cookies = {name: set(text.split("; ")[1:]) for name, text in set_cookies(answer).items()}
    assert cookies[ACCESS_COOKIE] == {"HttpOnly", "SameSite=lax", "Path=/", "Max-Age=900"}
    assert cookies[REFRESH_COOKIE] - {"Max-Age=604799", "Max-Age=604800"} == {
        *("HttpOnly", "SameSite=lax", "Path=/api/v1/auth/cookie")
    }
    assert "HttpOnly" not in cookies[CSRF_COOKIE]
    assert set(cookies) == {ACCESS_COOKIE, REFRESH_COOKIE, CSRF_COOKIE}
    assert (answer.content, answer.headers["cache-control"]) == (b"", "no-store")
    assert not any(value in answer.headers.get("location", "") for value in answer.cookies.values())


@pytest.mark.attack(26)
def test_no_token_is_in_any_log(keel: Keel, ada: Browser) -> None:
    secrets = [*ada.client.cookies.values(), ada.csrf_token, PASSWORD]
    ada.client.post("/items", json={"title": 1}, headers=meant(ada.csrf_token))
    ada.client.post(REFRESH, headers=meant("wrong"))

    logs = "".join(process.log.read_text() for process in keel.processes)

    assert not [secret for secret in secrets if secret in logs]


@pytest.mark.attack(27)
@pytest.mark.parametrize(("method", "path"), WRITES)
def test_nothing_is_changed_for_a_page_without_the_token_of_the_session(
    method: str, path: str, keel: Keel, ada: Browser
) -> None:
    with keel.client() as other:
        of_another_session = sign_in_with_cookies(other, ada.email)
    wrong = ["", "0" * 64, of_another_session, ada.csrf_token[:-1], ada.csrf_token + "x", "x y"]

    sent: list[dict[str, str]] = [{}, *map(meant, wrong)]
    answers = [ada.client.request(method, path, headers=headers) for headers in sent]

    assert {refusal(answer) for answer in answers} == {(403, "csrf_failed")}
    assert ada.client.get("/users/me").status_code == 200
    [row] = keel.rows(
        "SELECT count(*) AS live FROM sessions JOIN users ON users.id = user_id "
        "WHERE email = :email AND revoked_at IS NULL",
        email=ada.email,
    )
    assert row.live == 2


@pytest.mark.attack(27)
@pytest.mark.parametrize("headers", FOREIGN)
def test_nothing_is_changed_for_a_foreign_page_even_with_the_token(headers: dict[str, str], ada: Browser) -> None:
    forged = meant(ada.csrf_token, **headers)

    answers = [ada.client.request(method, path, headers=forged) for method, path in WRITES]

    assert {refusal(answer) for answer in answers} == {(403, "csrf_failed")}


@pytest.mark.attack(27)
@pytest.mark.parametrize("headers", [{}, {"Origin": OWN}, {"Origin": OWN, "Sec-Fetch-Site": "same-origin"}])
def test_a_page_of_ours_changes_something(headers: dict[str, str], ada: Browser) -> None:
    answer = ada.client.post("/items", json={"title": "x"}, headers=meant(ada.csrf_token, **headers))

    assert answer.status_code == 201


@pytest.mark.attack(28)
@pytest.mark.parametrize(
    "media_type", ["text/plain", "text/plain; x=application/json", "application/x-www-form-urlencoded", "", None]
)
def test_json_that_needs_no_preflight_is_refused(media_type: str | None, keel: Keel, ada: Browser) -> None:
    declared = {} if media_type is None else {"Content-Type": media_type}
    with_token = ada.client.post("/items", content=b'{"title": "x"}', headers=meant(ada.csrf_token, **declared))
    credentials = f'{{"email": "{ada.email}", "password": "{PASSWORD}"}}'.encode()
    with keel.client(headers=declared) as stranger:
        signed_in = stranger.post(LOGIN, content=credentials)
    without = [ada.client.post(path, content=b"{}", headers=declared) for path in ("/items", LOGOUT, REFRESH)]

    assert [refusal(with_token), refusal(signed_in)] == [(415, "unsupported_media_type")] * 2
    assert not set_cookies(signed_in)
    assert {refusal(answer) for answer in without} == {(403, "csrf_failed")}


@pytest.mark.attack(29)
@pytest.mark.parametrize("headers", FOREIGN)
def test_no_foreign_page_signs_its_visitors_in(headers: dict[str, str], keel: Keel, ada: Browser) -> None:
    with keel.client() as visitor:
        answer = visitor.post(LOGIN, json={"email": ada.email, "password": PASSWORD}, headers=headers)

    assert refusal(answer) == (403, "csrf_failed")
    assert not set_cookies(answer)


@pytest.mark.attack(29)
@pytest.mark.parametrize("headers", [{}, {"Origin": EVIL}, {"Origin": "null", "Sec-Fetch-Site": "cross-site"}])
def test_a_bearer_token_is_never_blocked(headers: dict[str, str], keel: Keel, ada: Browser) -> None:
    """No browser sends one by itself. Cookies that happen to come along change nothing."""
    token = keel.sign_in(ada.email)["access_token"]

    for client in (keel.client(token=token), keel.client(token=token, cookies=ada.client.cookies)):
        with client:
            assert client.post("/items", json={"title": "x"}, headers=headers).status_code == 201
            assert client.delete("/users/me/sessions", headers=headers).status_code == 204


@pytest.mark.attack(30)
def test_of_two_people_in_one_request_the_bearer_of_the_token_is_who_asks(keel: Keel, ada: Browser) -> None:
    eve = keel.sign_up()
    for server in (keel.here, keel.there):
        token = keel.sign_in(eve)["access_token"]
        with keel.client(server, token=token, cookies=ada.client.cookies) as both:
            assert both.get("/users/me").json()["email"] == eve
            [current] = [row["id"] for row in both.get("/users/me/sessions").json()["items"] if row["is_current"]]
            assert both.delete(f"/users/me/sessions/{current}").status_code == 204
            assert both.get("/users/me").status_code == 401
            assert ada.client.get("/users/me").json()["email"] == ada.email


@pytest.mark.attack(30)
@pytest.mark.parametrize("authorization", ["", "Bearer", "Bearer x.y.z", "Basic YTpi", "Token x"])
def test_a_bad_authorization_header_does_not_fall_back_to_the_cookie(authorization: str, ada: Browser) -> None:
    headers = meant(ada.csrf_token, Authorization=authorization)

    answers = [ada.client.get("/users/me", headers=headers), ada.client.post("/items", headers=headers)]
    answers += [ada.client.post(path, headers=headers) for path in (REFRESH, LOGOUT)]

    assert [answer.status_code for answer in answers] == [401] * 4


@pytest.mark.attack(30)
def test_no_header_or_parameter_replaces_the_method(keel: Keel, ada: Browser) -> None:
    overrides = dict.fromkeys(("X-HTTP-Method-Override", "X-HTTP-Method", "X-Method-Override"), "DELETE")

    read = ada.client.get("/users/me/sessions?_method=DELETE", headers=overrides)
    posted = ada.client.post("/users/me/sessions?_method=GET", headers=overrides | {"X-HTTP-Method-Override": "GET"})

    assert (read.status_code, posted.status_code) == (200, 405)
