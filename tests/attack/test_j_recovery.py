"""SECURITY.md, lines 9 and 66: what administrators take away is away, whatever way in somebody has made meanwhile."""

from typing import Any
from uuid import UUID

import httpx
import pytest

from tests.attack.conftest import Keel
from tests.attack.test_f_address_changes import new_email, verified
from tests.attack.test_g_identities import link
from tests.attack.test_j_users import Person
from tests.fake_provider import FakeProvider
from tests.links import token_in
from tests.visitor import Visitor

pytestmark = pytest.mark.e2e


@pytest.fixture
def administrator(keel: Keel) -> Person:
    return Person(keel, is_superuser=True)


def reset_password(client: httpx.Client, user_id: str) -> httpx.Response:
    return client.post(f"/users/{user_id}/password-reset")


def change_address(client: httpx.Client, user_id: str) -> httpx.Response:
    return client.patch(f"/users/{user_id}", json={"email": new_email(), "is_verified": True})


@pytest.mark.attack(9)
@pytest.mark.parametrize("take_away", [reset_password, change_address])
def test_a_provider_that_a_thief_linked_does_not_outlive_what_an_administrator_does(
    keel: Keel, administrator: Person, fakes: dict[str, FakeProvider], take_away: Any
) -> None:
    with keel.client(token=keel.sign_in(verified(keel))["access_token"]) as thief:
        visitor = Visitor(thief, fakes["fake"])
        assert link(thief, visitor.fake) == {"linked": "fake"}
        user_id = thief.get("/users/me").json()["id"]
        under_way = visitor.arrive()["code"]
        with administrator.client() as client:
            assert take_away(client, user_id).is_success

        assert visitor.exchange(under_way).status_code == 401
        assert visitor.arrive() == {"error": "email_not_verified"}


@pytest.mark.attack(40)
def test_neither_the_key_nor_the_provider_of_a_thief_outlives_a_new_password(
    keel: Keel, fakes: dict[str, FakeProvider]
) -> None:
    email = verified(keel)
    with keel.client(token=keel.sign_in(email)["access_token"]) as thief, keel.client() as owner:
        visitor = Visitor(thief, fakes["fake"])
        assert link(thief, visitor.fake) == {"linked": "fake"}
        key = thief.post("/users/me/api-keys", json={"name": "thief", "scopes": ["items:read"]}).json()["key"]
        owner.post("/auth/password/forgot", json={"email": email}).raise_for_status()
        token = token_in(keel.mail_to(email, subject="Choose a new password"))

        reset = owner.post("/auth/password/reset", json={"token": token, "password": "four unrelated words"})

        assert reset.status_code == 200
        assert owner.get("/items", headers={"Authorization": f"Bearer {key}"}).status_code == 401
        assert visitor.arrive() == {"error": "email_not_verified"}


@pytest.mark.attack(66)
def test_an_api_key_gives_no_administrator_back_what_was_taken(keel: Keel, administrator: Person) -> None:
    former = Person(keel, is_superuser=True)
    with administrator.client() as client:
        asked = {"name": "staff", "scopes": ["users:read", "users:create", "users:update"]}
        key = client.post("/users/me/api-keys", json=asked).json()["key"]
        client.patch(f"/users/{former.id}", json={"is_active": False}).raise_for_status()
    other = Person(keel, is_superuser=True)

    with keel.client(token=key) as program:
        answers = [set_active(program, who, is_active) for who, is_active in ((former.id, True), (other.id, False))]

    assert [answer.status_code for answer in answers] == [403, 403]
    assert (former.row().is_active, other.row().is_active) == (False, True)


def set_active(client: httpx.Client, user_id: UUID, is_active: bool) -> httpx.Response:
    return client.patch(f"/users/{user_id}", json={"is_active": is_active})
