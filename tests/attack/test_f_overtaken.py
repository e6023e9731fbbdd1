"""SECURITY.md, lines 9, 39 and 49: what a thief has under way while the owner takes the account back."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest
from sqlalchemy import NullPool, create_engine

from tests.attack.conftest import Keel
from tests.attack.test_f_address_changes import move, new_email, post, verified
from tests.attack.test_f_races import LOCK, WAITING
from tests.attack.test_g_identities import PATH
from tests.fake_provider import FakeProvider
from tests.live import wait_until
from tests.visitor import Visitor, fragment

pytestmark = pytest.mark.e2e


class Thief:
    """Has moved a stranger's account to an address of their own. `undo` is the link that its owner got."""

    def __init__(self, keel: Keel) -> None:
        self.keel, self.email = keel, new_email()
        self.undo = move(keel, verified(keel), self.email)
        self.token = keel.sign_in(self.email)["access_token"]

    def is_overtaken(self, send: Callable[[], httpx.Response]) -> httpx.Response:
        """The answer to what waits for the account behind its owner, who takes it back at the other process."""
        sending = [lambda: post(self.keel, "/auth/email/undo", token=self.undo), send]
        with create_engine(self.keel.url, poolclass=NullPool).connect() as row, ThreadPoolExecutor(2) as threads:
            row.execute(LOCK, {"email": self.email})
            answers = []
            for number, request in enumerate(sending, 1):
                answers.append(threads.submit(request))
                self.wait_for(number)
            row.commit()
            undone, answer = (each.result() for each in answers)
        assert undone.status_code == 200
        return answer

    def wait_for(self, number: int) -> None:
        wait_until(lambda: len(self.keel.rows(WAITING)) == number, seconds=4, what=f"{number} requests to wait")


@pytest.fixture
def thief(keel: Keel) -> Thief:
    return Thief(keel)


@pytest.mark.attack(9, 39)
def test_an_api_key_that_is_asked_for_while_the_owner_comes_back_is_not_made(keel: Keel, thief: Thief) -> None:
    def send() -> httpx.Response:
        with keel.client(token=thief.token) as client:
            return client.post("/users/me/api-keys", json={"name": "mine", "scopes": ["profile:read"]})

    answer = thief.is_overtaken(send)

    assert (answer.status_code, answer.json()["code"]) == (401, "not_authenticated")


@pytest.mark.attack(39, 49)
def test_an_identity_that_arrives_while_the_owner_comes_back_is_not_linked(
    keel: Keel, thief: Thief, fakes: dict[str, FakeProvider]
) -> None:
    with keel.client(token=thief.token) as client:
        visitor = Visitor(client, fakes["fake"])
        url = client.post(PATH, json={"provider": "fake"}).raise_for_status().json()["authorize_url"]

        answer = thief.is_overtaken(lambda: visitor.come_back(url))

        assert fragment(answer) == {"error": "not_authenticated"}
        assert visitor.arrive() == {"error": "email_not_verified"}
