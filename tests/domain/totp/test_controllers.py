import secrets
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pyotp
import pytest
import time_machine
from litestar import Litestar
from litestar.testing import TestClient
from sqlalchemy import Connection, func, select, update
from sqlalchemy.orm import Session

from app.domain.totp.models import Authenticator, RecoveryCode
from app.domain.users.models import User
from app.lib.db.models import utc_now
from app.lib.passwords import Passwords
from app.lib.settings import Settings
from tests.conftest import API, SignedIn
from tests.inline_jobs import InlineJobs

pytestmark = pytest.mark.integration
Client = TestClient[Litestar]
PASSWORD = "correct horse battery staple"


@pytest.fixture
def ada(as_user: Callable[..., SignedIn], clock: time_machine.Traveller) -> SignedIn:
    return as_user(password_hash=Passwords(concurrency=1).hash(PASSWORD))


@pytest.fixture
def app_of_ada(ada: SignedIn, clock: time_machine.Traveller) -> "App":
    """Ada's telephone, enrolled; a period later, so that its next code is a new one."""
    app = App(ada.post("/users/me/totp").json()["secret"])
    answer = ada.post("/users/me/totp/confirm", json={"totp": app.code()})
    assert answer.status_code == 200
    app.recovery_codes = answer.json()["recovery_codes"]
    clock.shift(timedelta(seconds=30))
    return app


class App:
    """An authenticator app."""

    def __init__(self, secret: str) -> None:
        self._totp = pyotp.TOTP(secret)
        self.recovery_codes: list[str] = []

    def code(self, *, periods: int = 0) -> str:
        """Of now, or of so many periods later."""
        return self._totp.at(datetime.now().astimezone(), counter_offset=periods)

    def wrong_code(self) -> str:
        near = {self.code(periods=periods) for periods in (-1, 0, 1)}
        return next(code for code in ("000000", "111111", "222222", "333333") if code not in near)


def login(client: Client, user: User, totp: str | None = None, password: str = PASSWORD) -> Any:
    body = {"email": user.email, "password": password} | ({} if totp is None else {"totp": totp})
    return client.post(f"{API}/auth/login", json=body)


def test_it_is_off_at_first_and_what_is_there_is_told(ada: SignedIn) -> None:
    answer = ada.get("/users/me/totp")

    assert answer.json() == {"is_enabled": False, "confirmed_at": None, "recovery_codes_left": 0}


def test_enrolling_gives_one_secret_in_three_forms(ada: SignedIn) -> None:
    answer = ada.post("/users/me/totp")

    assert answer.status_code == 201
    enrolment = answer.json()
    uri = urlsplit(enrolment["otpauth_uri"])
    assert (uri.scheme, uri.netloc, uri.path) == ("otpauth", "totp", f"/Keel:{ada.user.email.replace('@', '%40')}")
    assert parse_qs(uri.query) == {"secret": [enrolment["secret"]], "issuer": ["Keel"]}
    assert enrolment["qr_svg"].startswith("<svg")
    assert "script" not in enrolment["qr_svg"]
    assert answer.headers["cache-control"] == "no-store"


def test_a_secret_that_is_not_confirmed_changes_nothing_and_is_replaced(ada: SignedIn, client: Client) -> None:
    first, second = (App(ada.post("/users/me/totp").json()["secret"]) for _ in range(2))

    assert login(client, ada.user).status_code == 200
    refused = ada.post("/users/me/totp/confirm", json={"totp": first.code()})
    confirmed = ada.post("/users/me/totp/confirm", json={"totp": second.code()})

    assert (refused.status_code, refused.json()["code"]) == (400, "wrong_code")
    assert refused.json()["errors"][0]["field"] == "totp"
    assert confirmed.status_code == 200


def test_confirming_enables_it_and_gives_ten_recovery_codes(ada: SignedIn, app_of_ada: App) -> None:
    status = ada.get("/users/me/totp").json()

    assert (status["is_enabled"], status["recovery_codes_left"]) == (True, 10)
    assert status["confirmed_at"] is not None
    assert len({code for code in app_of_ada.recovery_codes if len(code) == 19}) == 10


def test_sessions_that_were_there_before_end(ada: SignedIn, as_user: Callable[..., SignedIn], session: Session) -> None:
    before, somebody = as_user(ada.user), as_user()
    app = App(ada.post("/users/me/totp").json()["secret"])

    ada.post("/users/me/totp/confirm", json={"totp": app.code()})

    assert [each.get("/users/me").status_code for each in (before, ada, somebody)] == [401, 200, 200]


def test_it_cannot_be_enabled_twice(ada: SignedIn, app_of_ada: App) -> None:
    answers = [ada.post("/users/me/totp"), ada.post("/users/me/totp/confirm", json={"totp": app_of_ada.code()})]

    assert [(answer.status_code, answer.json()["code"]) for answer in answers] == [(409, "totp_already_enabled")] * 2


def test_without_a_secret_there_is_nothing_to_confirm_disable_or_replace(ada: SignedIn) -> None:
    answers = [
        ada.post("/users/me/totp/confirm", json={"totp": "123456"}),
        ada.delete("/users/me/totp"),
        ada.post("/users/me/totp/recovery-codes"),
    ]

    assert [answer.status_code for answer in answers] == [404] * 3


def test_signing_in_asks_for_a_code_only_after_the_right_password(
    ada: SignedIn, app_of_ada: App, client: Client, clock: time_machine.Traveller
) -> None:
    without, wrong, wrong_password = (
        login(client, ada.user),
        login(client, ada.user, app_of_ada.wrong_code()),
        login(client, ada.user, app_of_ada.code(), password="wrong password"),
    )

    assert (without.status_code, without.json()["code"]) == (401, "totp_required")
    assert [(each.status_code, each.json()["code"]) for each in (wrong, wrong_password)] == [
        (401, "invalid_credentials")
    ] * 2
    assert wrong.json() | {"request_id": ""} == wrong_password.json() | {"request_id": ""}
    assert login(client, ada.user, app_of_ada.code()).status_code == 200


@pytest.mark.parametrize(("periods", "status"), [(-2, 401), (-1, 401), (0, 200), (1, 200), (2, 401)])
def test_a_clock_may_be_wrong_by_a_period_but_no_code_is_good_twice(
    periods: int, status: int, ada: SignedIn, app_of_ada: App, client: Client
) -> None:
    """The code of a period ago has confirmed the app."""
    assert login(client, ada.user, app_of_ada.code(periods=periods)).status_code == status


def test_the_same_code_does_not_sign_in_twice_nor_an_older_one_later(
    ada: SignedIn, app_of_ada: App, client: Client, clock: time_machine.Traveller
) -> None:
    code = f" {app_of_ada.code()[:3]} {app_of_ada.code()[3:]} "
    next_code = app_of_ada.code(periods=1)

    statuses = [login(client, ada.user, each).status_code for each in (code, code, next_code, code)]

    assert statuses == [200, 401, 200, 401]


@pytest.mark.parametrize("written", [str.lower, lambda code: code.replace("-", ""), lambda code: f" {code} "])
def test_a_recovery_code_signs_in_once_however_it_is_written(
    written: Callable[[str], str], ada: SignedIn, app_of_ada: App, client: Client
) -> None:
    code = written(app_of_ada.recovery_codes[0])

    assert [login(client, ada.user, code).status_code for _ in range(2)] == [200, 401]
    assert ada.get("/users/me/totp").json()["recovery_codes_left"] == 9


def test_new_recovery_codes_replace_the_old_ones(ada: SignedIn, app_of_ada: App, client: Client) -> None:
    answer = ada.post("/users/me/totp/recovery-codes")

    assert answer.status_code == 201
    assert len(answer.json()["recovery_codes"]) == 10
    assert login(client, ada.user, app_of_ada.recovery_codes[0]).status_code == 401
    assert login(client, ada.user, answer.json()["recovery_codes"][0]).status_code == 200


def test_disabling_forgets_the_secret_and_the_recovery_codes(
    ada: SignedIn, app_of_ada: App, client: Client, connection: Connection
) -> None:
    assert ada.delete("/users/me/totp").status_code == 204

    assert login(client, ada.user).status_code == 200
    for model in (Authenticator, RecoveryCode):
        assert connection.scalar(select(func.count()).select_from(model).where(model.user_id == ada.user.id)) == 0


def test_the_owner_is_told_of_each_change(ada: SignedIn, app_of_ada: App, client: Client, jobs: InlineJobs) -> None:
    login(client, ada.user, app_of_ada.recovery_codes[0])
    ada.post("/users/me/totp/recovery-codes")
    ada.delete("/users/me/totp")

    told = [(name, arguments.get("is_enabled", arguments.get("left"))) for name, arguments in jobs.queued]
    assert told == [
        ("totp.send_totp_notice", True),
        ("totp.send_recovery_code_notice", 9),
        ("totp.send_recovery_codes_notice", None),
        ("totp.send_totp_notice", False),
    ]


@pytest.mark.parametrize(
    ("method", "path"), [("POST", ""), ("POST", "/confirm"), ("DELETE", ""), ("POST", "/recovery-codes")]
)
def test_what_changes_the_second_factor_needs_a_recent_sign_in(
    method: str, path: str, as_user: Callable[..., SignedIn], client: Client, settings: Settings, session: Session
) -> None:
    ada = as_user()
    with time_machine.travel(utc_now() + timedelta(minutes=11)):
        answer = ada.request(method, f"/users/me/totp{path}", json={"totp": "123456"})

    assert (answer.status_code, answer.json()["code"]) == (403, "reauthentication_required")


def test_without_its_key_a_secret_is_lost_and_recovery_codes_are_not(
    ada: SignedIn, app_of_ada: App, client: Client, session: Session
) -> None:
    """As after a change of SECRET_KEY."""
    session.execute(update(Authenticator).values(secret=secrets.token_bytes(60)))
    session.commit()

    answers = [login(client, ada.user, code) for code in (app_of_ada.code(), app_of_ada.recovery_codes[0])]

    assert [answer.status_code for answer in answers] == [401, 200]


def test_a_secret_in_somebody_elses_row_is_no_secret(
    ada: SignedIn, app_of_ada: App, as_user: Callable[..., SignedIn], client: Client, session: Session
) -> None:
    mallory = as_user(password_hash=ada.user.password_hash).user
    session.execute(update(Authenticator).values(user_id=mallory.id))
    session.commit()

    assert login(client, mallory, app_of_ada.code()).status_code == 401


def test_only_a_ciphertext_and_hashes_are_stored(app_of_ada: App, ada: SignedIn, session: Session) -> None:
    stored = session.scalars(select(Authenticator.secret)).all()
    hashes = session.scalars(select(RecoveryCode.code_hash)).all()

    assert all(app_of_ada._totp.secret.encode() not in each for each in stored)
    assert {len(each) for each in hashes} == {32}


def test_a_code_proves_anew_who_one_is_and_the_password_alone_does_not(
    ada: SignedIn, app_of_ada: App, session: Session, clock: time_machine.Traveller
) -> None:
    clock.shift(timedelta(minutes=14))

    refused = [
        ada.post("/auth/reauthentication", json=proof)
        for proof in ({"totp": app_of_ada.wrong_code()}, {"password": PASSWORD})
    ]
    before = ada.post("/users/me/totp/recovery-codes")
    right = ada.post("/auth/reauthentication", json={"totp": app_of_ada.code()})
    ada.token = right.json()["access_token"]
    after = ada.post("/users/me/totp/recovery-codes")

    assert [(answer.status_code, answer.json()["errors"][0]["field"]) for answer in refused] == [(400, "totp")] * 2
    assert [before.status_code, right.status_code, after.status_code] == [403, 200, 201]
