"""SECURITY.md, part B: passwords."""

import unicodedata
from uuid import uuid4

import httpx
import pytest
from argon2 import PasswordHasher

from tests.attack.conftest import Keel
from tests.links import token_in
from tests.live import PASSWORD

pytestmark = pytest.mark.e2e

NEW = "an analytical engine"
JSON = {"Content-Type": "application/json"}
COMMON = [
    "password",
    "Password1",
    "QWERTYUIOP",
    "iloveyou",
    "trustno1",
    "1234567890",
    "87654321",
    "aaaaaaaa",
    "12341234",
]
OF_THE_CONTEXT = ["keel-2026", "Lovelace1815!", "adalovelace", "{local_part}", "{local_part}99"]


def register(keel: Keel, password: str, *, email: str | None = None) -> httpx.Response:
    email = email or f"{uuid4().hex}@example.com"
    account = {"email": email, "password": password, "first_name": "Ada", "last_name": "Lovelace"}
    with keel.client() as client:
        return client.post("/auth/register", json=account)


def login(keel: Keel, email: str, password: str) -> int:
    with keel.client(keel.there) as client:
        return client.post("/auth/login", json={"email": email, "password": password}).status_code


def forgot(keel: Keel, email: str) -> str:
    """The token of the mail."""
    with keel.client() as client:
        client.post("/auth/password/forgot", json={"email": email}).raise_for_status()
    return token_in(keel.mail_to(email, subject="Choose a new password"))


@pytest.mark.attack(10)
@pytest.mark.parametrize(
    ("password", "status"),
    [
        ("7 chars", 400),
        ("8 chars.", 202),
        ("no capitals no digits", 202),
        ("x" * 64, 202),
        ("x" * 1024, 202),
        ("x" * 1025, 400),
        ("     8     spaces", 202),
        ("пароль из слов", 202),
        ("🐎🔋📎🌧🚲🎺🍋🪁", 202),
    ],
)
def test_only_the_length_counts(password: str, status: int, keel: Keel) -> None:
    assert register(keel, password).status_code == status


@pytest.mark.attack(10)
def test_nothing_is_cut_off_trimmed_or_folded(keel: Keel) -> None:
    email = keel.sign_up(password="x" * 72 + "Aa ")

    twins = ["x" * 72 + "Bb ", "x" * 72, "x" * 72 + "Aa", "x" * 72 + "aa ", " " + "x" * 72 + "Aa "]

    assert {login(keel, email, twin) for twin in twins} == {401}
    assert login(keel, email, "x" * 72 + "Aa ") == 200


@pytest.mark.attack(11)
def test_passwords_that_are_guessed_first_are_refused_wherever_one_is_chosen(keel: Keel) -> None:
    local_part = uuid4().hex
    email = f"{local_part}@example.com"
    refused = [*COMMON, *[password.format(local_part=local_part) for password in OF_THE_CONTEXT]]
    keel.sign_up(email)
    tokens = keel.sign_in(email)
    link = forgot(keel, email)

    with keel.client(token=tokens["access_token"]) as client:
        for password in refused:
            chosen = [
                register(keel, password, email=email),
                client.put("/users/me/password", json={"current_password": PASSWORD, "password": password}),
                client.post("/auth/password/reset", json={"token": link, "password": password}),
            ]
            assert [answer.status_code for answer in chosen] == [400] * 3, password
            assert {answer.json()["errors"][0]["field"] for answer in chosen} == {"password"}


@pytest.mark.attack(11)
def test_a_refused_password_tells_nothing_of_who_has_an_account(keel: Keel) -> None:
    known, unknown = keel.sign_up(), f"{uuid4().hex}@example.com"

    answers = [register(keel, "password", email=email).json() for email in (known, unknown)]

    assert answers[0] | {"request_id": ""} == answers[1] | {"request_id": ""}


@pytest.mark.attack(12)
def test_both_unicode_forms_of_a_password_are_one(keel: Keel) -> None:
    composed, decomposed = (unicodedata.normalize(form, "Åsa ångrar sig") for form in ("NFC", "NFD"))
    assert composed != decomposed

    for chosen in (composed, decomposed):
        email = keel.sign_up(password=chosen)
        assert [login(keel, email, form) for form in (composed, decomposed)] == [200, 200]


@pytest.mark.attack(13)
@pytest.mark.parametrize(
    "password",
    [r"\u0000" * 10, r"long enough \ud800", r"long enough \udfff\ud800", "x" * 900_000],
    ids=ascii,
)
def test_what_nobody_can_type_is_400_wherever_a_password_goes(password: str, keel: Keel) -> None:
    email = keel.sign_up()
    tokens = keel.sign_in(email)
    bodies = {
        ("POST", "/auth/register"): '{"email": "%s", "first_name": "A", "last_name": "L", "password": "%s"}',
        ("POST", "/auth/login"): '{"email": "%s", "password": "%s"}',
        ("POST", "/users/me/email"): '{"email": "%s", "password": "%s"}',
    }

    with keel.client(token=tokens["access_token"], headers=JSON) as client:
        answers = [
            client.request(method, path, content=body % (email, password)) for (method, path), body in bodies.items()
        ]
        answers += [
            client.put("/users/me/password", content=f'{{"current_password": "{first}", "password": "{second}"}}')
            for first, second in ((PASSWORD, password), (password, NEW))
        ]
        answers.append(client.post("/auth/password/reset", content=f'{{"token": "x", "password": "{password}"}}'))

    assert {answer.status_code for answer in answers} <= {400, 401}


@pytest.mark.attack(14)
def test_hashes_are_argon2id_and_an_old_one_is_replaced_by_signing_in(keel: Keel) -> None:
    email = keel.sign_up()
    weak = PasswordHasher(time_cost=1, memory_cost=8 * 1024, parallelism=1).hash(PASSWORD)
    keel.write("UPDATE users SET password_hash = :weak WHERE email = :email", weak=weak, email=email)

    assert login(keel, email, PASSWORD) == 200

    [row] = keel.rows("SELECT password_hash FROM users WHERE email = :email", email=email)
    assert row.password_hash.startswith("$argon2id$v=19$m=19456,t=2,p=1$")
    assert login(keel, email, PASSWORD) == 200


@pytest.mark.attack(16)
def test_a_new_password_needs_the_old_one_and_ends_all_that_stood_on_it(keel: Keel) -> None:
    email = keel.sign_up()
    mine, elsewhere = keel.sign_in(email), keel.sign_in(email)
    link = forgot(keel, email)
    with keel.client(token=mine["access_token"]) as client:
        wrong = client.put("/users/me/password", json={"current_password": NEW, "password": NEW})
        without = client.put("/users/me/password", json={"current_password": None, "password": NEW})
        right = client.put("/users/me/password", json={"current_password": PASSWORD, "password": NEW})

    with keel.client(keel.there) as client:
        reset = client.post("/auth/password/reset", json={"token": link, "password": PASSWORD})
        refreshed = client.post("/auth/refresh", json={"refresh_token": elsewhere["refresh_token"]})
    keel.assert_ended({"Authorization": f"Bearer {elsewhere['access_token']}"})
    with keel.client(keel.there, token=mine["access_token"]) as client:
        still_mine = client.get("/users/me")

    assert [answer.status_code for answer in (wrong, without, right)] == [400, 400, 204]
    assert [answer.status_code for answer in (reset, refreshed, still_mine)] == [400, 401, 200]
    assert (login(keel, email, PASSWORD), login(keel, email, NEW)) == (401, 200)
    keel.mail_to(email, subject="Your password at Keel was changed")
