"""SECURITY.md, part F: what is proved by a link in a mail."""

import http.client
import itertools
from base64 import urlsafe_b64decode
from concurrent.futures import ThreadPoolExecutor
from uuid import uuid4

import httpx
import pytest

from app.lib.mail.backends import html_of, text_of
from tests.attack.conftest import Keel
from tests.links import token_in
from tests.live import PASSWORD

pytestmark = pytest.mark.e2e

NEW = "an analytical engine"
EVIL = "evil.example"
FORGOTTEN = "Choose a new password"


def post(keel: Keel, path: str, *, token: str | None = None, **body: str) -> httpx.Response:
    with keel.client(token=token) as client:
        return client.post(path, json=body)


def login(keel: Keel, email: str, password: str) -> int:
    with keel.client(keel.there) as client:
        return client.post("/auth/login", json={"email": email, "password": password}).status_code


def forgot(keel: Keel, email: str) -> str:
    """The token of the newest mail."""
    post(keel, "/auth/password/forgot", email=email).raise_for_status()
    return token_in(keel.mail_to(email, subject=FORGOTTEN))


def use(keel: Keel, path: str, link: str, **body: str) -> httpx.Response:
    with keel.client(keel.there) as client:
        return client.post(path, json={"token": link, **body})


def reset(keel: Keel, link: str, password: str = NEW) -> httpx.Response:
    return use(keel, "/auth/password/reset", link, password=password)


def move(keel: Keel, access_token: str, to: str) -> str:
    """The token of the mail to the new address."""
    post(keel, "/users/me/email", token=access_token, email=to, password=PASSWORD).raise_for_status()
    return token_in(keel.mail_to(to, subject="Confirm your new address"))


def verified(keel: Keel) -> str:
    """A new account whose address is proved."""
    email = keel.sign_up()
    keel.write("UPDATE users SET is_verified = true WHERE email = :email", email=email)
    return email


@pytest.mark.attack(35)
def test_of_twenty_uses_of_a_link_on_two_processes_one_counts(keel: Keel) -> None:
    email = keel.sign_up()
    token = forgot(keel, email)
    servers = itertools.cycle([keel.here, keel.there])

    def attempt(number: int) -> tuple[int, int]:
        with keel.client(next(servers)) as client:
            answer = client.post("/auth/password/reset", json={"token": token, "password": f"{NEW} {number}"})
        return answer.status_code, number

    with ThreadPoolExecutor(20) as threads:
        answers = list(threads.map(attempt, range(20)))

    assert sorted(status for status, _ in answers) == [200, *[400] * 19]
    [winner] = [number for status, number in answers if status == 200]
    assert login(keel, email, f"{NEW} {winner}") == 200
    assert len(keel.rows("SELECT id FROM confirmations WHERE used_at IS NOT NULL AND email = :email", email=email)) == 1


@pytest.mark.attack(35)
def test_a_link_dies_when_a_newer_one_is_sent_when_its_time_is_over_and_when_the_password_changes(keel: Keel) -> None:
    email = keel.sign_up()
    first = forgot(keel, email)
    wait_no_longer(keel, email)
    post(keel, "/auth/password/forgot", email=email)
    keel.mails_about(email, subject=FORGOTTEN, number=2)
    superseded = reset(keel, first)

    wait_no_longer(keel, email)
    overdue = forgot_again(keel, email, number=3)
    keel.write("UPDATE confirmations SET expires_at = now() WHERE email = :email AND expires_at > now()", email=email)
    too_late = reset(keel, overdue)

    wait_no_longer(keel, email)
    bound = forgot_again(keel, email, number=4)
    keel.write("UPDATE users SET password_hash = 'changed' WHERE email = :email", email=email)
    unbound = reset(keel, bound)

    assert [answer.json()["code"] for answer in (superseded, too_late, unbound)] == ["invalid_token"] * 3


@pytest.mark.attack(35)
def test_links_live_no_longer_than_they_must(keel: Keel) -> None:
    email = keel.sign_up()
    forgot(keel, email)

    rows = keel.rows("SELECT purpose, expires_at - created_at AS life FROM confirmations WHERE email = :e", e=email)

    assert {row.purpose: row.life.total_seconds() / 3600 for row in rows} == {"verification": 24, "password_reset": 1}


@pytest.mark.attack(19)
def test_a_link_works_for_its_own_purpose_only(keel: Keel) -> None:
    email = verified(keel)
    tokens = keel.sign_in(email)
    links = {
        "/auth/password/reset": forgot(keel, email),
        "/auth/email/confirm": move(keel, tokens["access_token"], to=new_email()),
    }
    links["/auth/verification/confirm"] = token_in(keel.mail_to(email, subject="Confirm your address"))
    foreign = [tokens["access_token"], tokens["refresh_token"]]

    for path in [*links, "/auth/email/undo"]:
        body = {"password": NEW} if path.endswith("reset") else {}
        others = [link for own, link in links.items() if own != path]
        for token in [
            *others,
            *[text for text in foreign if len(text) <= 200],
            "",
            "x",
            "\x00",
            "é" * 64,
            "A" * 64,
            "A" * 200,
        ]:
            assert use(keel, path, token, **body).status_code == 400, (path, token)
    for link in links.values():
        with keel.client(token=link) as client:
            assert client.get("/users/me").status_code == 401
            assert client.post("/auth/refresh", json={"refresh_token": link}).status_code == 401


@pytest.mark.attack(35)
def test_a_changed_letter_makes_a_link_worthless(keel: Keel) -> None:
    token = forgot(keel, keel.sign_up())

    spoilt = [token[:place] + ("A" if token[place] != "A" else "B") + token[place + 1 :] for place in range(0, 64, 7)]
    spoilt += [token + "=", token + "\n", " " + token, token[:-1], token.replace("-", "+").replace("_", "/") + "A"]

    assert {reset(keel, text).status_code for text in spoilt} == {400}
    assert reset(keel, token).status_code == 200


@pytest.mark.attack(36)
@pytest.mark.parametrize("path", ["/auth/password/forgot", "/auth/verification"])
def test_the_answer_is_the_same_for_everybody(path: str, keel: Keel) -> None:
    inactive, active = verified(keel), verified(keel)
    keel.write("UPDATE users SET is_active = false WHERE email = :email", email=inactive)
    nobody = new_email()

    answers = {email: post(keel, path, email=email) for email in (inactive, active, keel.sign_up(), nobody)}

    assert {answer.status_code for answer in answers.values()} == {202}
    assert all(answer.json() == {"email": email} for email, answer in answers.items())
    assert keel.mails_to(nobody) == []
    assert keel.rows("SELECT id FROM users WHERE email = :email", email=nobody) == []


@pytest.mark.attack(37)
@pytest.mark.parametrize(
    "headers",
    [
        [("Host", EVIL)],
        [("Host", "keel.test"), ("X-Forwarded-Host", EVIL)],
        [("Host", "keel.test"), ("Forwarded", f"host={EVIL};proto=http"), ("X-Forwarded-Proto", "http")],
        [("Host", "keel.test"), ("X-Forwarded-Prefix", f"//{EVIL}"), ("X-Original-URL", f"http://{EVIL}/")],
        [("Host", f"keel.test@{EVIL}"), ("Origin", f"http://{EVIL}"), ("Referer", f"http://{EVIL}/")],
        [("Host", "keel.test"), ("Host", EVIL)],
        [],
    ],
    ids=["Host", "X-Forwarded-Host", "Forwarded", "prefix", "userinfo", "two hosts", "no host"],
)
def test_links_begin_with_the_public_url_whatever_the_request_says(headers: list[tuple[str, str]], keel: Keel) -> None:
    email = keel.sign_up()
    body = f'{{"email": "{email}"}}'.encode()
    connection = http.client.HTTPConnection("127.0.0.1", keel.here.port, timeout=10)
    connection.putrequest("POST", "/api/v1/auth/password/forgot", skip_host=True)
    for name, value in [*headers, ("Content-Type", "application/json"), ("Content-Length", str(len(body)))]:
        connection.putheader(name, value)
    connection.endheaders(body)

    status = connection.getresponse().status
    connection.close()

    hosts = [value for name, value in headers if name == "Host"]
    assert status in ({202, 400} if len(hosts) != 1 else {202})
    if status == 202:
        mail = keel.mail_to(email, subject=FORGOTTEN)
        assert "http://keel.test/confirm/password_reset#token=" in text_of(mail)
        assert EVIL not in mail.as_string() + text_of(mail) + html_of(mail)


def new_email() -> str:
    return f"{uuid4().hex}@example.com"


def wait_no_longer(keel: Keel, email: str) -> None:
    """Two minutes have passed since the last mail."""
    keel.write("UPDATE confirmations SET created_at = created_at - interval '2 minutes' WHERE email = :e", e=email)


def forgot_again(keel: Keel, email: str, *, number: int) -> str:
    post(keel, "/auth/password/forgot", email=email).raise_for_status()
    return max(
        (token_in(mail) for mail in keel.mails_about(email, subject=FORGOTTEN, number=number)), key=urlsafe_b64decode
    )
