"""SECURITY.md, parts F and K, for the second factor: each code is good once, for one account, and not to be guessed."""

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any

import httpx
import pyotp
import pytest

from tests.attack.conftest import Keel, new_address
from tests.live import PASSWORD, LiveServer

pytestmark = pytest.mark.e2e


class Ada:
    """Somebody with a second factor. The code of now has confirmed it: `next_code` is good already, and unused."""

    def __init__(self, keel: Keel) -> None:
        self.keel, self.email = keel, keel.sign_up()
        self.token = keel.sign_in(self.email)["access_token"]
        with keel.client(token=self.token) as client:
            self.secret = client.post("/users/me/totp").raise_for_status().json()["secret"]
            app = pyotp.TOTP(self.secret)
            answer = client.post("/users/me/totp/confirm", json={"totp": app.now()}).raise_for_status()
        self.recovery_codes: list[str] = answer.json()["recovery_codes"]

    @property
    def next_code(self) -> str:
        return pyotp.TOTP(self.secret).at(datetime.now(UTC), counter_offset=1)

    def sign_in(self, code: str | None, server: LiveServer | None = None, *, address: str = "") -> httpx.Response:
        body: dict[str, Any] = {"email": self.email, "password": PASSWORD, "totp": code}
        with self.keel.client(server, headers={"X-Forwarded-For": address or new_address()}) as client:
            return client.post("/auth/login", json=body)


@pytest.fixture
def ada(keel: Keel) -> Ada:
    return Ada(keel)


def outcome(answer: httpx.Response) -> tuple[int, str]:
    return answer.status_code, answer.json().get("code", "")


@pytest.mark.attack(35)
def test_the_password_alone_is_not_enough_and_that_is_no_failure(keel: Keel, ada: Ada) -> None:
    answers = [ada.sign_in(None) for _ in range(7)]

    assert {outcome(answer) for answer in answers} == {(401, "totp_required")}
    assert ada.sign_in(ada.next_code).status_code == 200


@pytest.mark.attack(35)
def test_one_code_does_not_sign_in_twice_at_two_processes(keel: Keel, ada: Ada) -> None:
    code = ada.next_code

    with ThreadPoolExecutor(6) as pool:
        answers = list(pool.map(lambda server: ada.sign_in(code, server), [keel.here, keel.there] * 3))

    assert Counter(map(outcome, answers)) == {(200, ""): 1, (401, "invalid_credentials"): 5}


@pytest.mark.attack(35)
def test_one_recovery_code_used_twenty_times_at_once_signs_in_once(keel: Keel, ada: Ada) -> None:
    code = ada.recovery_codes[0]

    with ThreadPoolExecutor(20) as pool:
        answers = list(pool.map(lambda server: ada.sign_in(code, server), [keel.here, keel.there] * 10))

    statuses = Counter(answer.status_code for answer in answers)
    assert statuses[200] == 1
    assert set(statuses) <= {200, 401, 429}
    [row] = keel.rows(
        "SELECT count(*) AS used FROM recovery_codes JOIN users ON users.id = user_id "
        "WHERE email = :email AND used_at IS NOT NULL",
        email=ada.email,
    )
    assert row.used == 1
    message = keel.mail_to(ada.email, subject="recovery code was used")
    assert "9 are left" in " ".join(message.as_string().split())


@pytest.mark.attack(35)
def test_a_code_of_somebody_else_is_wrong(keel: Keel, ada: Ada) -> None:
    eve = Ada(keel)

    answers = [ada.sign_in(code) for code in (eve.next_code, eve.recovery_codes[0])]

    assert [outcome(answer) for answer in answers] == [(401, "invalid_credentials")] * 2


@pytest.mark.attack(70)
def test_codes_cannot_be_tried_out_even_with_the_password_and_the_owner_is_not_locked_out(keel: Keel, ada: Ada) -> None:
    home = new_address()
    assert ada.sign_in(ada.next_code, address=home).status_code == 200

    guesses = [ada.sign_in(f"wrong {number}", [keel.here, keel.there][number % 2]) for number in range(5)]
    # what more of them would leave, so that what follows has longer than a second
    keel.write("UPDATE throttles SET failures = 12 WHERE failures = 5")
    guesses.append(ada.sign_in("wrong"))
    right = ada.sign_in(ada.recovery_codes[0])

    assert {outcome(answer) for answer in guesses} == {(401, "invalid_credentials")}
    assert outcome(right) == (429, "too_many_requests")
    assert int(right.headers["Retry-After"]) >= 1
    assert ada.sign_in(ada.recovery_codes[0], address=home).status_code == 200


@pytest.mark.attack(33)
def test_enabling_ends_the_sessions_that_have_proved_less_at_both_processes(keel: Keel) -> None:
    email = keel.sign_up()
    before, mine = (keel.sign_in(email) for _ in range(2))
    with keel.client(token=mine["access_token"]) as client:
        secret = client.post("/users/me/totp").json()["secret"]
        client.post("/users/me/totp/confirm", json={"totp": pyotp.TOTP(secret).now()}).raise_for_status()

    with keel.client(token=before["access_token"]) as here, keel.client(keel.there) as there:
        assert here.get("/users/me").status_code == 401
        refreshed = there.post("/auth/refresh", json={"refresh_token": before["refresh_token"]})

    assert refreshed.status_code == 401


@pytest.mark.attack(24)
def test_a_dump_shows_neither_secret_nor_recovery_code(keel: Keel, ada: Ada) -> None:
    [row] = keel.rows(
        "SELECT secret FROM authenticators JOIN users ON users.id = user_id WHERE email = :email", email=ada.email
    )
    hashes = [bytes(each.code_hash) for each in keel.rows("SELECT code_hash FROM recovery_codes")]

    assert ada.secret.encode() not in bytes(row.secret)
    assert all(code.encode() not in each for code in ada.recovery_codes for each in hashes)
    assert {len(each) for each in hashes} == {32}
