"""What one process does to a session, every other process knows at once."""

import functools
import logging
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from statistics import median

import httpx
import pytest
from sqlalchemy import URL, NullPool, create_engine, text

from tests.live import LiveServer, wait_until

pytestmark = pytest.mark.e2e
logger = logging.getLogger(__name__)

ROUNDS = 20
LISTENERS = text(
    "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'keel-events'"
)


class Pair:
    """Two servers on one database, and a connection to each."""

    def __init__(self, url: URL, start_server: Callable[..., LiveServer], stack: ExitStack) -> None:
        self._engine = create_engine(url, poolclass=NullPool, isolation_level="AUTOCOMMIT")
        self.first = start_server(url)
        firsts_listener = self.listeners()
        self.second = start_server(url)
        self._firsts_listener = firsts_listener
        self._at_first = stack.enter_context(self.first.client())
        self._at_second = stack.enter_context(self.second.client())
        self._email = self.first.sign_up()

    def listeners(self) -> set[int]:
        """The backends they listen with."""
        with self._engine.connect() as connection:
            return set(connection.scalars(LISTENERS))

    def seconds_listener(self) -> int:
        """Waits until it has one."""
        wait_until(lambda: len(self.listeners()) == 2, seconds=5, what="both to listen")
        (listener,) = self.listeners() - self._firsts_listener
        return listener

    def kill_seconds_listener(self) -> None:
        self.killed = self.seconds_listener()
        with self._engine.connect() as connection:
            assert connection.scalar(text("SELECT pg_terminate_backend(:pid)"), {"pid": self.killed})

    def sign_in(self) -> dict[str, str]:
        """At the first; the headers that prove it."""
        return {"Authorization": f"Bearer {self.first.sign_in(self._email)['access_token']}"}

    def log_out(self, headers: dict[str, str]) -> None:
        assert self._at_first.post("/auth/logout", headers=headers).status_code == httpx.codes.NO_CONTENT

    def status_at_second(self, headers: dict[str, str]) -> int:
        return self._at_second.get("/users/me", headers=headers).status_code

    def seconds_until_refused(self, headers: dict[str, str], *, limit: float) -> float:
        return wait_until(lambda: self.status_at_second(headers) == httpx.codes.UNAUTHORIZED, seconds=limit)


@pytest.fixture(scope="module")
def pair(shared_database: URL, start_shared: Callable[..., LiveServer]) -> Iterator[Pair]:
    with ExitStack() as stack:
        yield Pair(shared_database, functools.partial(start_shared, LiveServer), stack)


def test_a_token_signed_out_at_one_is_refused_by_the_other_within_100_ms(pair: Pair) -> None:
    delays = []
    for _ in range(ROUNDS):
        token = pair.sign_in()
        assert pair.status_at_second(token) == httpx.codes.OK
        pair.log_out(token)
        delays.append(pair.seconds_until_refused(token, limit=3))
    logger.info("median %.1f ms, worst %.1f ms", median(delays) * 1000, max(delays) * 1000)
    assert median(delays) < 0.1


def test_it_is_refused_within_3_s_when_the_listener_has_just_been_killed(pair: Pair) -> None:
    token = pair.sign_in()
    assert pair.status_at_second(token) == httpx.codes.OK
    pair.kill_seconds_listener()
    pair.log_out(token)
    logger.info("refused after %.2f s", pair.seconds_until_refused(token, limit=3))


def test_good_tokens_are_believed_while_the_listener_comes_back(pair: Pair) -> None:
    token = pair.sign_in()
    statuses = []

    def is_back() -> bool:
        statuses.append(pair.status_at_second(token))
        listeners = pair.listeners()
        return len(listeners) == 2 and pair.killed not in listeners

    pair.kill_seconds_listener()
    wait_until(is_back, seconds=5)

    assert set(statuses) == {httpx.codes.OK}
    pair.log_out(token)
    assert pair.seconds_until_refused(token, limit=1) < 1
