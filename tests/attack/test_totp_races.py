"""SECURITY.md, lines 35 and 40: whoever has proved less than a second factor, at the moment when it is enabled."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import httpx
import pyotp
import pytest
from sqlalchemy import NullPool, create_engine, text

from tests.attack.conftest import Keel, new_address
from tests.attack.test_f_address_changes import move, new_email, post, verified
from tests.attack.test_f_races import WAITING
from tests.attack.test_g_identities import link, vouch
from tests.fake_provider import FakeProvider
from tests.live import PASSWORD, wait_until
from tests.visitor import Visitor

pytestmark = pytest.mark.e2e

HOLD = {
    "password": text("SELECT id FROM throttles FOR UPDATE"),  # of the known network: past the question for a code
    "provider": text("LOCK TABLE refresh_tokens IN EXCLUSIVE MODE"),
}


def end_connections(keel: Keel) -> None:
    """Those of the servers' pools. They open others when they need them."""
    ours = "FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'keel'"
    ended = {row.pid for row in keel.rows(f"SELECT pid, pg_terminate_backend(pid) {ours}")}
    wait_until(lambda: ended.isdisjoint(row.pid for row in keel.rows(f"SELECT pid {ours}")), seconds=5)


def signing_in(client: httpx.Client, fake: FakeProvider, email: str, how: str) -> Callable[[], httpx.Response]:
    visitor = Visitor(client, fake)
    if how == "password":
        return lambda: client.post("/auth/login", json={"email": email, "password": PASSWORD})
    vouch(fake, email)
    return lambda: visitor.exchange(visitor.arrive()["code"])


@pytest.mark.attack(35)
@pytest.mark.parametrize("how", ["password", "provider"])
def test_a_sign_in_that_was_asked_for_no_code_ends_when_one_is_asked_for(
    keel: Keel, fakes: dict[str, FakeProvider], how: str
) -> None:
    email = verified(keel)
    with (
        keel.client(headers={"X-Forwarded-For": new_address()}) as elsewhere,
        keel.client(keel.there, token=keel.sign_in(email)["access_token"]) as ada,
        create_engine(keel.url, poolclass=NullPool).connect() as holder,
        ThreadPoolExecutor(2) as threads,
    ):
        sign_in = signing_in(elsewhere, fakes["fake"], email, how)
        sign_in().raise_for_status()
        secret = ada.post("/users/me/totp").json()["secret"]
        code = pyotp.TOTP(secret).now()
        holder.execute(HOLD[how])
        thief = threads.submit(sign_in)
        wait_until(lambda: bool(keel.rows(WAITING)), seconds=4, what="the sign-in to wait")
        enabling = threads.submit(lambda: ada.post("/users/me/totp/confirm", json={"totp": code}))
        wait_until(lambda: enabling.done() or len(keel.rows(WAITING)) == 2, seconds=4, what="the code to be taken")
        holder.commit()
        assert enabling.result().status_code == 200
        answer = thief.result()

    assert answer.status_code == 200
    with keel.client(keel.there, token=answer.json()["access_token"]) as client:
        assert client.get("/users/me").status_code == 401


@pytest.mark.attack(39)
def test_taking_an_account_back_and_exchanging_a_code_of_its_thief_do_not_block_each_other(
    keel: Keel, fakes: dict[str, FakeProvider]
) -> None:
    """A deadlock would be broken and repeated, a second later: so it is counted."""
    email, fake = new_email(), fakes["fake"]
    undo = move(keel, verified(keel), email)
    [before] = keel.rows("SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()")
    with keel.client(token=keel.sign_in(email)["access_token"]) as client:
        assert link(client, fake) == {"linked": "fake"}
        visitor = Visitor(client, fake)
        code = visitor.arrive()["code"]
    with (
        keel.client() as elsewhere,
        create_engine(keel.url, poolclass=NullPool).connect() as holder,
        ThreadPoolExecutor(2) as threads,
    ):
        holder.execute(text("SELECT id FROM users WHERE email = :email FOR UPDATE"), {"email": email})
        undone = threads.submit(lambda: post(keel, "/auth/email/undo", token=undo))
        wait_until(lambda: len(keel.rows(WAITING)) == 1, seconds=4, what="the owner to wait")
        elsewhere.cookies = visitor.client.cookies
        exchanged = threads.submit(lambda: elsewhere.post("/auth/providers/exchange", json={"code": code}))
        wait_until(lambda: len(keel.rows(WAITING)) == 2, seconds=4, what="the thief to wait")
        holder.commit()
        answers = [undone.result().status_code, exchanged.result().status_code]

    assert answers == [200, 401]
    end_connections(keel)  # a process of PostgreSQL writes its statistics at the latest when it ends
    [after] = keel.rows("SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()")
    assert after == before
