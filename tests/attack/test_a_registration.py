"""SECURITY.md, part A: registration."""

import itertools
from base64 import urlsafe_b64decode
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import uuid4

import httpx
import pytest

from tests.attack.conftest import Keel
from tests.links import token_in
from tests.live import PASSWORD

pytestmark = pytest.mark.e2e

CONFIRM = "Confirm your address"
FULL_WIDTH = 0xFEE0
"""From a letter or digit to the one that looks like it, which NFKC takes back."""
OTHER = "the password of somebody else"


def account(email: str, **fields: Any) -> dict[str, Any]:
    return {"email": email, "password": PASSWORD, "first_name": "Ada", "last_name": "Lovelace"} | fields


def new_email() -> str:
    return f"{uuid4().hex}@example.com"


def register(keel: Keel, email: str, **fields: Any) -> httpx.Response:
    with keel.client() as client:
        return client.post("/auth/register", json=account(email, **fields))


def login(keel: Keel, email: str, password: str) -> int:
    with keel.client(keel.there) as client:
        return client.post("/auth/login", json={"email": email, "password": password}).status_code


def confirm(keel: Keel, token: str) -> int:
    with keel.client() as client:
        return client.post("/auth/verification/confirm", json={"token": token}).status_code


def links(keel: Keel, email: str, *, number: int) -> list[str]:
    """The tokens of that many verification mails, by the time of the requests: ids that begin with it begin them."""
    return sorted(map(token_in, keel.mails_about(email, subject=CONFIRM, number=number)), key=urlsafe_b64decode)


@pytest.mark.attack(1)
def test_the_answer_for_a_known_address_is_that_for_a_new_one_and_only_its_owner_is_told(keel: Keel) -> None:
    known, new = new_email(), new_email()
    register(keel, known)
    confirm(keel, links(keel, known, number=1)[0])

    answers = [register(keel, email, password=OTHER) for email in (known, new)]

    assert [answer.status_code for answer in answers] == [202, 202]
    assert [answer.json() for answer in answers] == [
        {"email": email, "verification_required": False} for email in (known, new)
    ]
    own = {"date", "x-request-id", "server-timing"}
    assert [set(answer.headers) for answer in answers] == [set(answers[0].headers)] * 2
    assert {name: value for name, value in answers[0].headers.items() if name not in own} == {
        name: value for name, value in answers[1].headers.items() if name not in own
    }
    keel.mail_to(known, subject="You already have an account")
    assert login(keel, known, PASSWORD) == 200


@pytest.mark.attack(2)
def test_look_alikes_of_an_address_are_one_account(keel: Keel) -> None:
    name = uuid4().hex
    spellings = [
        f"{name}@bücher.example",
        f"{name.upper()}@BÜCHER.EXAMPLE",
        f" {name}@bücher.example ",
        f"{name}@xn--bcher-kva.example",
        f"{name}@bu\u0308cher.example",
        f"{chr(ord(name[0]) + FULL_WIDTH)}{name[1:]}@bücher.example",
        f"{name}\uff20bücher.example",
        f"{name}@bücher\u3002example",
    ]

    statuses = [register(keel, spelling).status_code for spelling in spellings]
    invisible = [register(keel, f"{name}{char}@bücher.example").status_code for char in "\u200b\u00ad\ufe0f\u2066"]

    assert set(statuses) == {202}
    assert set(invisible) == {400}
    assert len(keel.rows("SELECT email FROM users WHERE email LIKE :name", name=f"%{name}%")) == 1


@pytest.mark.attack(3)
def test_of_fifty_registrations_at_once_on_two_processes_one_makes_the_account(keel: Keel) -> None:
    email = new_email()
    servers = itertools.cycle([keel.here, keel.there])

    def attempt(number: int) -> tuple[int, str]:
        """Again, where too many passwords were being hashed at once."""
        with keel.client(next(servers)) as client:
            answer = client.post("/auth/register", json=account(email, first_name=f"Ada {number}"))
        is_refused = answer.status_code == 503 and "Retry-After" in answer.headers
        return attempt(number) if is_refused else (answer.status_code, answer.text)

    with ThreadPoolExecutor(50) as threads:
        answers = set(threads.map(attempt, range(50)))

    assert len(answers) == 1
    assert next(iter(answers))[0] == 202
    assert len(keel.rows("SELECT id FROM users WHERE email = :email", email=email)) == 1


@pytest.mark.attack(4)
def test_whoever_registers_a_strangers_address_first_is_out_when_its_owner_confirms(keel: Keel) -> None:
    email = new_email()
    register(keel, email, password=OTHER, first_name="Eve")
    eve = keel.sign_in(email, OTHER)
    register(keel, email)
    register(keel, email, password=OTHER, first_name="Eve")  # and once more, to have the last word
    _, owners, last = links(keel, email, number=3)

    assert confirm(keel, owners) == 200

    with keel.client(keel.there, token=eve["access_token"]) as client:
        assert client.get("/users/me").status_code == 401
        refreshed = client.post("/auth/refresh", json={"refresh_token": eve["refresh_token"]})
    assert refreshed.status_code == 401
    assert (login(keel, email, OTHER), login(keel, email, PASSWORD)) == (401, 200)
    assert confirm(keel, last) == 400
    [row] = keel.rows("SELECT first_name, is_verified FROM users WHERE email = :email", email=email)
    assert (row.first_name, row.is_verified) == ("Ada", True)


@pytest.mark.attack(4)
def test_however_often_a_stranger_registers_the_owner_gets_a_way_in(keel: Keel) -> None:
    email = new_email()
    for _ in range(8):
        register(keel, email, password=OTHER)
    token = token_in(keel.mail_to(email, subject="Choose a new password"))

    with keel.client() as client:
        answer = client.post("/auth/password/reset", json={"token": token, "password": PASSWORD})

    assert answer.status_code == 200
    assert (login(keel, email, OTHER), login(keel, email, PASSWORD)) == (401, 200)
    assert [confirm(keel, link) for link in links(keel, email, number=6)] == [400] * 6


@pytest.mark.attack(4)
def test_asking_for_another_link_while_registrations_compete_gives_none_of_them_the_account(keel: Keel) -> None:
    email = new_email()
    register(keel, email, password=OTHER)
    register(keel, email, password=OTHER)
    with keel.client() as client:
        client.post("/auth/verification", json={"email": email})

    token = token_in(keel.mail_to(email, subject="Choose a new password"))

    assert confirm(keel, token) == 400  # of another kind


@pytest.mark.attack(5)
@pytest.mark.parametrize(
    "more",
    [
        {"is_superuser": True},
        {"is_active": False},
        {"is_verified": True},
        {"roles": ["admin"]},
        {"id": str(uuid4())},
        {"tenant_id": "1"},
        {"password_hash": "x"},
        {"registration": {"is_superuser": True}},
    ],
    ids=lambda more: next(iter(more)),
)
def test_nobody_registers_as_more_than_they_are(more: dict[str, Any], keel: Keel) -> None:
    email = new_email()

    answer = register(keel, email, **more)

    assert answer.status_code == 400
    assert keel.rows("SELECT id FROM users WHERE email = :email", email=email) == []


@pytest.mark.attack(4)
def test_whoever_squats_an_address_cannot_get_rid_of_its_owners_link_nor_flood_the_mailbox(keel: Keel) -> None:
    email = new_email()
    register(keel, email, password=OTHER)
    register(keel, email)
    owners = links(keel, email, number=2)[1]
    with keel.client(token=keel.sign_in(email, OTHER)["access_token"]) as eve:
        for number in range(3):
            passwords = [OTHER, *[f"{OTHER} {n}" for n in range(3)]][number : number + 2]
            body = {"current_password": passwords[0], "password": passwords[1]}
            eve.put("/users/me/password", json=body).raise_for_status()
            for _ in range(4):
                register(keel, email, password=OTHER)
        eve.patch("/users/me", json={"first_name": "Mallory"}).raise_for_status()

    assert confirm(keel, owners) == 200

    assert login(keel, email, PASSWORD) == 200
    sent = keel.rows("SELECT c.purpose FROM confirmations c JOIN users u ON u.id = user_id WHERE u.email = :e", e=email)
    assert sorted(row.purpose for row in sent) == ["password_reset", *["verification"] * 6]


@pytest.mark.attack(4)
def test_a_registration_that_waits_does_not_take_an_account_that_was_verified_meanwhile(keel: Keel) -> None:
    email = new_email()
    register(keel, email)
    register(keel, email, password=OTHER)
    waiting = links(keel, email, number=2)[1]
    keel.write("UPDATE users SET is_verified = true WHERE email = :email", email=email)  # an administrator, perhaps

    assert confirm(keel, waiting) == 400
    assert (login(keel, email, OTHER), login(keel, email, PASSWORD)) == (401, 200)
