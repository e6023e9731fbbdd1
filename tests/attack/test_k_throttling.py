"""SECURITY.md, part K: whoever guesses passwords is slowed down, and nobody else is locked out."""

import itertools
import math
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from uuid import uuid4

import httpx
import pytest
from sqlalchemy import URL, NullPool, create_engine, text

from tests.attack.conftest import Keel, new_address
from tests.live import PASSWORD, LiveServer

pytestmark = pytest.mark.e2e
Guess = Callable[..., httpx.Response]
WRONG = "a wrong password, but long enough"


@pytest.fixture
def guess(keel: Keel) -> Iterator[Guess]:
    """One try, at a process that takes turns with the other, from a new address."""
    with keel.here.client() as here, keel.there.client() as there:
        turns = itertools.cycle([here, there])

        def guess(email: str, password: str = WRONG, *, address: str | None = None) -> httpx.Response:
            headers = {"X-Forwarded-For": address or new_address(), "X-Request-ID": "the-same-for-all"}
            return next(turns).post("/auth/login", json={"email": email, "password": password}, headers=headers)

        yield guess


def refusal(answer: httpx.Response) -> tuple[int, str, bool]:
    return answer.status_code, answer.json()["code"], int(answer.headers["Retry-After"]) >= 1


def somebody() -> str:
    return f"{uuid4().hex}@example.com"


def fail_often(keel: Keel, email: str, guess: Guess, failures: int, **options: str) -> httpx.Response:
    """The answer to the last of so many failures and one more. All but the first and the last are written by hand, so
    that what follows has longer than a second."""
    [now] = keel.rows("SELECT clock_timestamp() AS time")
    assert guess(email, **options).status_code == 401
    keel.write("UPDATE throttles SET failures = :failures WHERE updated_at > :time", failures=failures, time=now.time)
    return guess(email, **options)


@pytest.mark.attack(70)
def test_guesses_at_one_account_from_everywhere_are_stopped_at_both_processes(keel: Keel, guess: Guess) -> None:
    known, unknown = keel.sign_up(), somebody()

    answers = {
        email: [*[guess(email) for _ in range(4)], fail_often(keel, email, guess, 12), guess(email), guess(email)]
        for email in (known, unknown)
    }

    assert [answer.status_code for answer in answers[known]] == [401] * 5 + [429] * 2
    assert refusal(answers[known][-1]) == (429, "too_many_requests", True)
    assert refusal(guess(known, PASSWORD)) == (429, "too_many_requests", True)
    assert [answer.content for answer in answers[known]] == [answer.content for answer in answers[unknown]]
    assert [set(answer.headers) for answer in answers[known]] == [set(answer.headers) for answer in answers[unknown]]


@pytest.mark.attack(70)
def test_guesses_at_once_on_two_processes_do_not_outrun_the_count(keel: Keel, guess: Guess) -> None:
    email, began = keel.sign_up(), time.monotonic()
    [now] = keel.rows("SELECT clock_timestamp() AS time")

    with ThreadPoolExecutor(20) as pool:
        answers = list(pool.map(guess, [email] * 40))

    told = Counter(answer.status_code for answer in answers)
    waited_out = math.floor(math.log2(time.monotonic() - began + 1))  # after waits of 1, 2, 4 ... seconds
    assert set(told) == {401, 429}
    assert 6 <= told[401] <= 6 + waited_out
    [row] = keel.rows("SELECT max(failures) AS counted FROM throttles WHERE created_at > :time", time=now.time)
    assert row.counted == told[401]


@pytest.mark.attack(70)
def test_the_hundredth_failure_in_a_row_is_the_last_of_the_day(keel: Keel, guess: Guess) -> None:
    email = keel.sign_up()

    hundredth = fail_often(keel, email, guess, 99)

    assert hundredth.status_code == 401
    assert int(guess(email, PASSWORD).headers["Retry-After"]) > 86_300


@pytest.mark.attack(70)
@pytest.mark.parametrize("neighbour", ["{0}", "2001:db8:{1}:1::{2:x}"], ids=["IPv4", "IPv6 by /64"])
def test_guesses_at_many_accounts_from_one_network_are_stopped_and_other_networks_are_not(
    neighbour: str, keel: Keel, guess: Guess
) -> None:
    address, block = new_address(), uuid4().hex[:4]
    addresses = (neighbour.format(address, block, number) for number in range(1, 10))
    known = keel.sign_up()

    last = fail_often(keel, "", lambda _: guess(somebody(), address=next(addresses)), 60)

    assert last.status_code == 401
    assert refusal(guess(somebody(), address=next(addresses))) == (429, "too_many_requests", True)
    assert refusal(guess(known, PASSWORD, address=next(addresses))) == (429, "too_many_requests", True)
    assert guess(known, PASSWORD).status_code == 200


@pytest.mark.attack(70)
def test_a_stranger_does_not_lock_the_owner_out(keel: Keel, guess: Guess) -> None:
    email, home = keel.sign_up(), new_address()
    guess(email, PASSWORD, address=home).raise_for_status()

    fail_often(keel, email, guess, 150)

    assert guess(email, PASSWORD).status_code == 429
    assert [guess(email, password, address=home).status_code for password in (WRONG, PASSWORD)] == [401, 200]
    assert guess(email, PASSWORD).status_code == 429


@pytest.mark.attack(70)
def test_invented_addresses_change_nothing_and_a_restart_forgets_nothing(
    live_database: URL, start_server: Callable[..., LiveServer]
) -> None:
    """The server trusts no proxy."""
    server = start_server(live_database)
    spoofed = {"X-Forwarded-For": "{0}", "Forwarded": "for={0}", "X-Real-IP": "{0}"}

    def guess(at: LiveServer) -> httpx.Response:
        headers = {name: value.format(new_address()) for name, value in spoofed.items()}
        with at.client(headers=headers) as client:
            return client.post("/auth/login", json={"email": somebody(), "password": WRONG})

    assert guess(server).status_code == 401
    with create_engine(live_database, poolclass=NullPool).begin() as fresh:
        fresh.execute(text("UPDATE throttles SET failures = 60"))
    assert guess(server).status_code == 401

    assert refusal(guess(server)) == (429, "too_many_requests", True)
    server.stop()
    assert refusal(guess(start_server(live_database))) == (429, "too_many_requests", True)
