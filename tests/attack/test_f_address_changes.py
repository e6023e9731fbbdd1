"""SECURITY.md, part F: links that scanners open, changes of the address, and what a new password does not do."""

from base64 import urlsafe_b64decode
from uuid import uuid4

import httpx
import pytest

from tests.attack.conftest import Keel
from tests.links import token_in
from tests.live import PASSWORD, wait_until

pytestmark = pytest.mark.e2e

NEW = "an analytical engine"
CHANGED = "Your address at Keel was changed"
FORGOTTEN = "Choose a new password"


def new_email() -> str:
    return f"{uuid4().hex}@example.com"


def verified(keel: Keel) -> str:
    """A new account whose address is proved."""
    email = keel.sign_up()
    keel.write("UPDATE users SET is_verified = true WHERE email = :email", email=email)
    return email


def post(keel: Keel, path: str, *, access_token: str | None = None, **body: str) -> httpx.Response:
    with keel.client(keel.there, token=access_token) as client:
        return client.post(path, json=body)


def assert_signed_out(keel: Keel, tokens: dict[str, str]) -> None:
    """At once where `post` has ended the session; at the other process as soon as PostgreSQL has told it."""
    headers = {"Authorization": f"Bearer {tokens['access_token']}"}
    with keel.client(keel.there, headers=headers) as there, keel.client(keel.here, headers=headers) as here:
        assert there.get("/users/me").status_code == 401
        wait_until(lambda: here.get("/users/me").status_code == 401, seconds=5)


def login(keel: Keel, email: str, password: str = PASSWORD) -> int:
    return post(keel, "/auth/login", email=email, password=password).status_code


def change(keel: Keel, email: str, to: str) -> str:
    """Ask to move the account. Returns the token of the mail to the new address."""
    access_token = keel.sign_in(email)["access_token"]
    post(keel, "/users/me/email", access_token=access_token, email=to, password=PASSWORD).raise_for_status()
    return token_in(keel.mail_to(to, subject="Confirm your new address"))


def move(keel: Keel, email: str, to: str) -> str:
    """Move the account. Returns the token with which the old address takes it back."""
    post(keel, "/auth/email/confirm", token=change(keel, email, to)).raise_for_status()
    return token_in(keel.mail_to(email, subject=CHANGED))


def flags(keel: Keel, email: str) -> tuple[bool, bool]:
    [row] = keel.rows("SELECT is_active, is_verified FROM users WHERE email = :email", email=email)
    return row.is_active, row.is_verified


@pytest.mark.attack(38)
def test_opening_a_link_consumes_nothing_signs_nobody_in_and_tells_nobody(keel: Keel) -> None:
    email = keel.sign_up()
    token = token_in(keel.mail_to(email, subject="Confirm your address"))
    with httpx.Client(base_url=keel.here.url) as scanner:
        page, head = (scanner.request(method, f"/confirm/verification#token={token}") for method in ("GET", "HEAD"))
        guesses = [
            scanner.get(f"/api/v1/auth/verification/confirm?token={token}"),
            scanner.get(f"/confirm/verification?token={token}"),
            scanner.get(f"/confirm/{token}"),
            scanner.get("/confirm/static/nothing.js"),
        ]

    assert (page.status_code, head.status_code, page.headers.get("set-cookie")) == (200, 200, None)
    assert page.headers["referrer-policy"] == "no-referrer"
    assert page.headers["cache-control"] == "no-store"
    assert (
        "script-src 'self'; style-src 'self'; connect-src 'self'; form-action 'none'"
        in (page.headers["content-security-policy"])
    )
    assert token not in page.text
    assert [guess.status_code for guess in guesses] == [405, 200, 404, 404]
    assert flags(keel, email) == (True, False)
    assert post(keel, "/auth/verification/confirm", token=token).json() == {"email": email}


@pytest.mark.attack(39)
def test_an_address_changes_when_the_new_one_confirms_and_the_old_one_may_undo_it(keel: Keel) -> None:
    old, new = verified(keel), new_email()
    link = change(keel, old, new)
    assert (login(keel, old), login(keel, new)) == (200, 401)

    assert post(keel, "/auth/email/confirm", token=link).json() == {"email": new}
    assert (login(keel, old), login(keel, new)) == (401, 200)
    thief = keel.sign_in(new)

    undo = token_in(keel.mail_to(old, subject=CHANGED))
    assert post(keel, "/auth/email/undo", token=undo).json() == {"email": old}

    assert_signed_out(keel, thief)
    assert (login(keel, old), login(keel, new)) == (401, 401)  # the thief knows the password
    reset = token_in(keel.mail_to(old, subject="Choose a password"))
    assert post(keel, "/auth/password/reset", token=reset, password=NEW).status_code == 200
    assert login(keel, old, NEW) == 200


@pytest.mark.attack(39)
def test_an_address_that_was_taken_meanwhile_is_409_and_changes_nothing(keel: Keel) -> None:
    email, wanted = verified(keel), new_email()
    link = change(keel, email, wanted)
    keel.sign_up(wanted)

    taken = post(keel, "/auth/email/confirm", token=link)

    assert (taken.status_code, taken.json()["code"]) == (409, "email_taken")
    assert (login(keel, email), login(keel, wanted)) == (200, 200)


@pytest.mark.attack(39)
def test_an_address_in_use_is_not_told_to_whoever_wants_it_but_to_its_owner(keel: Keel) -> None:
    email, owner = verified(keel), verified(keel)
    access_token = keel.sign_in(email)["access_token"]

    answers = {
        wanted: post(keel, "/users/me/email", access_token=access_token, email=wanted, password=PASSWORD)
        for wanted in (owner, new_email(), email)
    }
    wrong = post(keel, "/users/me/email", access_token=access_token, email=new_email(), password=NEW)

    assert {answer.status_code for answer in answers.values()} == {202}
    assert all(answer.json() == {"email": wanted} for wanted, answer in answers.items())
    keel.mail_to(owner, subject="Somebody wanted your address")
    assert (wrong.status_code, wrong.json()["code"]) == (400, "wrong_password")


@pytest.mark.attack(39)
def test_a_thief_who_moves_on_and_asks_for_passwords_does_not_get_rid_of_the_way_back(keel: Keel) -> None:
    victim, first, second = verified(keel), new_email(), new_email()
    undo = move(keel, victim, first)
    later_undo = move(keel, first, second)
    post(keel, "/auth/password/forgot", email=second)
    link = token_in(keel.mail_to(second, subject=FORGOTTEN))
    post(keel, "/auth/password/reset", token=link, password=NEW).raise_for_status()
    post(keel, "/auth/email/undo", token=later_undo).raise_for_status()

    assert post(keel, "/auth/email/undo", token=undo).json() == {"email": victim}
    assert post(keel, "/auth/email/undo", token=later_undo).status_code == 400


@pytest.mark.attack(39)
def test_nobody_registers_the_old_address_while_it_can_be_taken_back(keel: Keel) -> None:
    old, new = verified(keel), new_email()
    undo = move(keel, old, new)

    keel.sign_up(old)  # answers as ever

    assert login(keel, old) == 401
    assert len(keel.mails_about(old, subject=CHANGED, number=2)) == 2
    assert post(keel, "/auth/email/undo", token=undo).status_code == 200


@pytest.mark.attack(39)
def test_whoever_squats_an_address_and_moves_on_leaves_it_free(keel: Keel) -> None:
    squatted, elsewhere = keel.sign_up(), new_email()
    post(keel, "/auth/email/confirm", token=change(keel, squatted, elsewhere)).raise_for_status()

    keel.sign_up(squatted, password=NEW)

    assert login(keel, squatted, NEW) == 200
    assert keel.rows("SELECT id FROM confirmations WHERE purpose = 'email_undo' AND email = :e", e=squatted) == []


@pytest.mark.attack(40)
def test_a_new_password_makes_nobody_active(keel: Keel) -> None:
    email = verified(keel)
    post(keel, "/auth/password/forgot", email=email)
    link = token_in(keel.mail_to(email, subject=FORGOTTEN))
    keel.write("UPDATE users SET is_active = false WHERE email = :email", email=email)

    answer = post(keel, "/auth/password/reset", token=link, password=NEW)

    assert (answer.status_code, answer.json()["code"]) == (400, "invalid_token")
    assert flags(keel, email) == (False, True)
    assert login(keel, email, NEW) == 401


@pytest.mark.attack(40)
def test_a_new_password_ends_all_sessions_and_all_links_and_proves_the_address(keel: Keel) -> None:
    email, other = keel.sign_up(), new_email()
    session = keel.sign_in(email)
    verification = token_in(keel.mail_to(email, subject="Confirm your address"))
    moving = change(keel, email, other)
    post(keel, "/auth/password/forgot", email=email)
    link = token_in(keel.mail_to(email, subject=FORGOTTEN))

    post(keel, "/auth/password/reset", token=link, password=NEW).raise_for_status()

    assert post(keel, "/auth/verification/confirm", token=verification).status_code == 400
    assert post(keel, "/auth/email/confirm", token=moving).status_code == 400
    assert_signed_out(keel, session)
    assert flags(keel, email) == (True, True)
    keel.mail_to(email, subject="Your password at Keel was changed")


@pytest.mark.attack(40)
def test_a_new_password_does_not_verify_an_address_that_the_mail_did_not_go_to(keel: Keel) -> None:
    email, other = keel.sign_up(), new_email()
    post(keel, "/auth/password/forgot", email=email)
    link = token_in(keel.mail_to(email, subject=FORGOTTEN))
    keel.write("UPDATE users SET email = :other WHERE email = :email", email=email, other=other)

    assert post(keel, "/auth/password/reset", token=link, password=NEW).status_code == 400
    assert flags(keel, other) == (True, False)


@pytest.mark.attack(41)
@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("email", "ada@example.com\r\nBcc: eve@evil.example"),
        ("email", "ada@example.com\nBcc: eve@evil.example"),
        ("email", "=?utf-8?q?a=0d=0abcc=3a_eve=40evil.example?=@example.com"),
        ("first_name", "Ada\r\nBcc: eve@evil.example"),
        ("last_name", "Lovelace\u2028Bcc: eve@evil.example"),
        ("last_name", "Lovelace\x0bBcc: eve@evil.example"),
    ],
)
def test_no_name_and_no_address_forges_a_header(field: str, value: str, keel: Keel) -> None:
    account = {"email": new_email(), "password": PASSWORD, "first_name": "Ada", "last_name": "Lovelace", field: value}
    access_token = keel.sign_in(verified(keel))["access_token"]

    answers = [post(keel, "/auth/register", **account)]
    if field == "email":
        answers += [post(keel, path, email=value) for path in ("/auth/password/forgot", "/auth/verification")]
        answers.append(post(keel, "/users/me/email", access_token=access_token, email=value, password=PASSWORD))

    assert {answer.status_code for answer in answers} == {400}


@pytest.mark.attack(24)
def test_the_database_holds_nothing_that_opens_a_link(keel: Keel) -> None:
    token = token_in(keel.mail_to(keel.sign_up(), subject="Confirm your address"))
    secret = urlsafe_b64decode(token)[16:]

    jobs = "SELECT convert_from(job, 'UTF8') FROM saq_jobs"
    stored = keel.rows(f"SELECT to_jsonb(c) :: text AS row FROM confirmations c UNION ALL {jobs}")

    for form in (token, token[22:], secret.hex()):
        assert all(form not in row.row for row in stored)
