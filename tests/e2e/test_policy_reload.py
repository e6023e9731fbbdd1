"""While another process changes the policy: no wrong allow, no wrong deny, no error."""

import logging
import sys
from collections.abc import Callable, Hashable, Iterator
from contextlib import ExitStack
from statistics import median
from uuid import UUID, uuid4

import httpx
import pytest
from sqlalchemy import URL, NullPool, create_engine
from sqlalchemy.orm import Session

from app.domain.access.models import Permission
from app.domain.posts.models import Post
from app.lib.access.control import AccessControl
from app.lib.access.guards import Principal
from app.lib.events import EventFeed
from app.server.policy import PolicyFollower
from tests.factories.users import UserFactory
from tests.live import LiveServer, wait_until
from tests.policy_history import AnotherProcess, Answer, History, asking

pytestmark = pytest.mark.e2e
logger = logging.getLogger(__name__)

CHANGES = 200
READERS = 4
BOUND = 1.0
BOUND_AMONG_BUSY_THREADS = 3.0
"""Seconds after the COMMIT, after which no question that is put may be answered as before."""


def report(what: str, history: History, answers: dict[Hashable, list[Answer]]) -> None:
    logger.info(
        "%s: %d answers, %d changes seen after %.1f ms (median), %.1f ms (longest)",
        what,
        sum(map(len, answers.values())),
        len(history.delays),
        median(history.delays) * 1000,
        max(history.delays) * 1000,
    )


@pytest.fixture
def other(live_database: URL) -> Iterator[AnotherProcess]:
    other = AnotherProcess(live_database)
    yield other
    other.close()


class Person:
    """Somebody signed in at one server."""

    def __init__(self, server: LiveServer, token: str, stack: ExitStack) -> None:
        self._client = stack.enter_context(server.client(headers={"Authorization": f"Bearer {token}"}))

    @property
    def id(self) -> UUID:
        return UUID(self._client.get("/users/me").json()["id"])

    def may_read(self) -> bool:
        """Raises AssertionError when the answer is neither yes nor no."""
        answer = self._client.get("/posts?limit=1")
        assert answer.status_code in (httpx.codes.OK, httpx.codes.FORBIDDEN), answer.text
        return answer.status_code == httpx.codes.OK


@pytest.fixture
def people(
    live_database: URL, start_server: Callable[..., LiveServer], other: AnotherProcess
) -> Iterator[dict[tuple[str, int], Person]]:
    """Ada, of whom each test decides; Bob, who has the right; Eve, who does not. Each at two servers."""
    servers = [start_server(live_database) for _ in range(2)]
    with ExitStack() as stack:
        tokens = {name: servers[0].sign_in(servers[0].sign_up())["access_token"] for name in ("ada", "bob", "eve")}
        people = {
            (name, number): Person(server, token, stack)
            for name, token in tokens.items()
            for number, server in enumerate(servers)
        }
        other.set_role(people["bob", 0].id, "viewer", is_given=True)
        for number in range(2):
            wait_until(people["bob", number].may_read, seconds=BOUND)
        yield people


def test_two_servers_are_right_while_a_third_process_changes_the_policy_200_times(
    people: dict[tuple[str, int], Person], other: AnotherProcess
) -> None:
    ada, history = people["ada", 0].id, History(0, 1)
    watching: dict[Hashable, Callable[[], bool]] = {number: people["ada", number].may_read for number in range(2)}

    with asking({who: person.may_read for who, person in people.items()}, threads=READERS, pause=0.005) as answers:
        for _ in range(CHANGES):
            history.flip(lambda is_given: other.set_role(ada, "viewer", is_given=is_given), watching, bound=BOUND)

    report("two servers", history, answers)
    for number in range(2):
        assert history.wrong(number, answers["ada", number]) == []
        assert {answer.is_allowed for answer in answers["bob", number]} == {True}
        assert {answer.is_allowed for answer in answers["eve", number]} == {False}


@pytest.fixture
def access(live_database: URL) -> Iterator[AccessControl]:
    """That of this process, which follows the database."""
    access = AccessControl()
    follower = PolicyFollower(access, live_database)
    feed = EventFeed(live_database, follower, name="keel-policy-events")
    feed.start(wait=5)
    yield access
    feed.stop()
    follower.close()


def somebody() -> Principal:
    return Principal(id=uuid4(), session_id=uuid4(), is_superuser=False, authenticated_at=0)


def account(url: URL) -> Principal:
    with Session(create_engine(url, poolclass=NullPool)) as session:
        user = UserFactory.build()
        session.add(user)
        session.commit()
        return Principal(id=user.id, session_id=uuid4(), is_superuser=False, authenticated_at=0)


def test_threads_get_right_answers_while_policies_are_swapped_under_them(
    live_database: URL, access: AccessControl, other: AnotherProcess
) -> None:
    """Far more questions than HTTP lets through, kept answers and new ones, at a tiny switch interval."""
    ada, bob = account(live_database), account(live_database)
    other.set_role(bob.id, "editor", is_given=True)
    wait_until(lambda: access.may(bob, Permission.POSTS_CREATE), seconds=BOUND)
    draft = Post(id=uuid4(), owner_id=uuid4(), title="", body="", published=False)
    history = History("here")
    questions: dict[Hashable, Callable[[], bool]] = {
        "ada": lambda: access.may(ada, Permission.POSTS_CREATE),
        "ada's": lambda: access.allows(ada, Permission.POSTS_READ, draft),
        "bob": lambda: access.may(bob, Permission.POSTS_CREATE),
        "bob's": lambda: access.allows(bob, Permission.POSTS_READ, Post(id=uuid4(), owner_id=bob.id, published=False)),
        "eve": lambda: access.may(somebody(), Permission.POSTS_CREATE),
        "eve's": lambda: access.allows(somebody(), Permission.POSTS_READ, draft),
    }

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-4)
    try:
        with asking(questions, threads=READERS, pause=0.001) as answers:
            for _ in range(CHANGES):
                history.flip(
                    lambda is_given: other.set_role(ada.id, "editor", is_given=is_given),
                    {"here": questions["ada"]},
                    bound=BOUND_AMONG_BUSY_THREADS,
                )
    finally:
        sys.setswitchinterval(interval)

    report("threads", history, answers)
    assert [history.wrong("here", answers[name]) for name in ("ada", "ada's")] == [[], []]
    assert {answer.is_allowed for name in ("bob", "bob's") for answer in answers[name]} == {True}
    assert {answer.is_allowed for name in ("eve", "eve's") for answer in answers[name]} == {False}
