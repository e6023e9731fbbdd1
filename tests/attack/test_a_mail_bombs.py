"""SECURITY.md, line 1: an account of an address that nobody has proved is no way to flood a stranger's mailbox."""

from collections import Counter
from typing import Any
from uuid import uuid4

import httpx
import pyotp
import pytest

from tests.attack.conftest import Keel
from tests.attack.test_g_identities import PATH, link
from tests.fake_provider import FakeProvider
from tests.live import PASSWORD

pytestmark = pytest.mark.e2e


def make_keys(client: httpx.Client, fake: FakeProvider) -> None:
    asked: dict[str, Any] = {"name": "mine", "scopes": ["profile:read"]}
    for _ in range(3):
        made = client.post("/users/me/api-keys", json=asked).raise_for_status().json()
        client.delete(f"/users/me/api-keys/{made['id']}").raise_for_status()


def change_passwords(client: httpx.Client, fake: FakeProvider) -> None:
    for old, new in ((PASSWORD, f"{PASSWORD}1"), (f"{PASSWORD}1", PASSWORD)):
        client.put("/users/me/password", json={"current_password": old, "password": new}).raise_for_status()


def switch_codes(client: httpx.Client, fake: FakeProvider) -> None:
    for _ in range(2):
        secret = client.post("/users/me/totp").raise_for_status().json()["secret"]
        client.post("/users/me/totp/confirm", json={"totp": pyotp.TOTP(secret).now()}).raise_for_status()
        client.post("/users/me/totp/recovery-codes").raise_for_status()
        client.delete("/users/me/totp").raise_for_status()


def link_and_unlink(client: httpx.Client, fake: FakeProvider) -> None:
    for _ in range(2):
        assert link(client, fake) == {"linked": fake.name}
        [identity] = client.get(PATH).json()["items"]
        client.delete(f"{PATH}/{identity['id']}").raise_for_status()


@pytest.mark.attack(1)
def test_notices_to_an_address_that_nobody_proved_come_once_a_day_of_each_kind(
    keel: Keel, fakes: dict[str, FakeProvider]
) -> None:
    email = keel.sign_up()
    with keel.client(token=keel.sign_in(email)["access_token"]) as client:
        for act in (make_keys, change_passwords, switch_codes, link_and_unlink):
            act(client, fakes["fake"])
        client.delete("/users/me").raise_for_status()
    keel.mail_to(email, subject="was deleted")

    subjects = Counter(mail["Subject"] for mail in keel.mails_to(email))
    assert [said for said in subjects.items() if said[1] > 1] == []


@pytest.mark.attack(1)
def test_registering_and_leaving_over_and_over_floods_no_mailbox(keel: Keel) -> None:
    email = f"{uuid4().hex}@example.com"
    for _ in range(12):
        keel.sign_up(email)
        with keel.client(token=keel.sign_in(email)["access_token"]) as client:
            client.delete("/users/me").raise_for_status()

    other = keel.sign_up()
    keel.mail_to(other, subject="Confirm your address")
    keel.mail_to(email, subject="was deleted")
    subjects = Counter(mail["Subject"] for mail in keel.mails_to(email))
    assert subjects["Your account at Keel was deleted"] == 1
    assert subjects["Confirm your address at Keel"] <= 10  # fewer where the account has gone before the worker comes


@pytest.mark.attack(1)
def test_many_accounts_that_want_an_address_flood_no_mailbox(keel: Keel) -> None:
    wanted = f"{uuid4().hex}@example.com"
    for _ in range(12):
        with keel.client(token=keel.sign_in(keel.sign_up())["access_token"]) as client:
            answer = client.post("/users/me/email", json={"email": wanted, "password": PASSWORD})
        assert answer.status_code == 202

    keel.mails_about(wanted, subject="", number=10)
    other = keel.sign_up()
    keel.mail_to(other, subject="Confirm your address")
    assert len(keel.mails_to(wanted)) == 10
