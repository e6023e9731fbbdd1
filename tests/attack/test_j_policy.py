"""SECURITY.md, lines 68 and 69: a change of the policy counts everywhere, and one that failed nowhere."""

from collections.abc import Callable, Hashable, Iterator
from contextlib import ExitStack
from functools import partial
from typing import Any
from uuid import UUID

import httpx
import pytest

from tests.attack.conftest import Keel
from tests.live import LiveServer, wait_until
from tests.policy_history import Answer, History, asking

pytestmark = pytest.mark.e2e

BOUND = 1.0
BOUND_WITHOUT_LISTENERS = 3.0
"""Seconds after the COMMIT, after which no question that is put may be answered as before."""
LISTENERS = "datname = current_database() AND application_name = 'keel-policy-events'"


class Person:
    """Somebody new, signed in at both processes."""

    def __init__(self, keel: Keel, stack: ExitStack, *, is_superuser: bool = False) -> None:
        email = keel.sign_up()
        if is_superuser:
            keel.write("UPDATE users SET is_superuser = true WHERE email = :email", email=email)
        token = keel.sign_in(email)["access_token"]
        self.at = {server: stack.enter_context(keel.client(server, token=token)) for server in (keel.here, keel.there)}
        self.id = UUID(self.at[keel.here].get("/users/me").json()["id"])

    def may_read(self, server: LiveServer) -> bool:
        """Raises AssertionError when the answer is neither yes nor no."""
        answer = self.at[server].get("/posts?limit=1")
        assert answer.status_code in (httpx.codes.OK, httpx.codes.FORBIDDEN), answer.text
        return answer.status_code == httpx.codes.OK

    def set_role(self, user: "Person", role: str, *, is_given: bool, server: LiveServer) -> httpx.Response:
        return self.at[server].request("PUT" if is_given else "DELETE", f"/users/{user.id}/roles/{role}")


class Scene:
    """Root changes what Ada may do. Bob may always, Eve never."""

    def __init__(self, keel: Keel, stack: ExitStack) -> None:
        self.keel = keel
        self.root = Person(keel, stack, is_superuser=True)
        self.ada, self.bob, self.eve = (Person(keel, stack) for _ in range(3))
        self.history = History(keel.here, keel.there)
        self.set_role(self.bob, is_given=True, server=keel.here)

    def set_role(self, user: Person, *, is_given: bool, server: LiveServer) -> None:
        self.root.set_role(user, "viewer", is_given=is_given, server=server).raise_for_status()

    def questions(self, **people: Person) -> dict[Hashable, Callable[[], bool]]:
        servers = (self.keel.here, self.keel.there)
        return {(name, at): partial(person.may_read, at) for name, person in people.items() for at in servers}

    def flip(self, act: Callable[[bool], None], *, bound: float) -> None:
        watching: dict[Hashable, Callable[[], bool]] = {
            server: partial(self.ada.may_read, server) for server in (self.keel.here, self.keel.there)
        }
        self.history.flip(act, watching, bound=bound)

    def check(self, answers: dict[Hashable, list[Answer]]) -> None:
        for server in (self.keel.here, self.keel.there):
            assert self.history.wrong(server, answers["ada", server]) == []
            assert {answer.is_allowed for answer in answers["bob", server]} == {True}
            assert {answer.is_allowed for answer in answers["eve", server]} == {False}


@pytest.fixture
def scene(keel: Keel) -> Iterator[Scene]:
    with ExitStack() as stack:
        yield Scene(keel, stack)


@pytest.mark.attack(68)
def test_what_one_process_gives_or_takes_counts_there_at_once_and_at_the_other_within_a_second(scene: Scene) -> None:
    everybody = scene.questions(ada=scene.ada, bob=scene.bob, eve=scene.eve)

    def change_at(server: LiveServer, is_given: bool) -> None:
        scene.set_role(scene.ada, is_given=is_given, server=server)
        assert scene.ada.may_read(server) is is_given

    with asking(everybody, threads=2, pause=0.005) as answers:
        for server in [scene.keel.here, scene.keel.there, scene.keel.there, scene.keel.here] * 3:
            scene.flip(partial(change_at, server), bound=BOUND)

    scene.check(answers)


@pytest.mark.attack(68)
def test_without_listeners_a_change_counts_within_three_seconds(scene: Scene) -> None:
    def listening() -> list[Any]:
        return scene.keel.rows(f"SELECT pid FROM pg_stat_activity WHERE {LISTENERS}")

    def change(is_given: bool) -> None:
        killed = scene.keel.rows(f"SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE {LISTENERS}")
        assert len(killed) == 2
        scene.set_role(scene.ada, is_given=is_given, server=scene.keel.here)

    with asking(scene.questions(ada=scene.ada, bob=scene.bob, eve=scene.eve), threads=2, pause=0.005) as answers:
        for _ in range(2):
            wait_until(lambda: len(listening()) == 2, seconds=10, what="both processes to listen")
            scene.flip(change, bound=BOUND_WITHOUT_LISTENERS)

    scene.check(answers)


AT_COMMIT = "RAISE ''not today''"
KILLED = "PERFORM pg_terminate_backend(pg_backend_pid())"
NOT_SERIALISABLE = "RAISE EXCEPTION USING ERRCODE = ''serialization_failure''"


@pytest.fixture
def failing(scene: Scene) -> Iterator[Callable[[str, str], None]]:
    """Let the database fail whenever Ada is given a role."""

    def fail(kind: str, act: str) -> None:
        scene.keel.write(
            f"CREATE FUNCTION fail_ada() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN {act}; RETURN NEW; END'"
        )
        scene.keel.write(
            f"CREATE {kind} FOR EACH ROW WHEN (NEW.user_id = '{scene.ada.id}') EXECUTE FUNCTION fail_ada()"
        )

    yield fail
    scene.keel.write("DROP FUNCTION fail_ada CASCADE")


IN_THE_MIDDLE = "TRIGGER fail_ada BEFORE INSERT ON role_assignments"
AT_THE_END = "CONSTRAINT TRIGGER fail_ada AFTER INSERT ON role_assignments DEFERRABLE INITIALLY DEFERRED"


@pytest.mark.attack(69)
@pytest.mark.parametrize(
    ("kind", "act", "status"),
    [
        (AT_THE_END, AT_COMMIT, httpx.codes.INTERNAL_SERVER_ERROR),
        (AT_THE_END, KILLED, httpx.codes.SERVICE_UNAVAILABLE),
        (IN_THE_MIDDLE, KILLED, httpx.codes.SERVICE_UNAVAILABLE),
        (AT_THE_END, NOT_SERIALISABLE, httpx.codes.SERVICE_UNAVAILABLE),
    ],
    ids=["refused at commit", "killed at commit", "killed in the middle", "not serialisable"],
)
def test_a_change_that_is_not_committed_counts_nowhere(
    kind: str, act: str, status: int, scene: Scene, failing: Callable[[str, str], None]
) -> None:
    failing(kind, act)

    with asking(scene.questions(ada=scene.ada), threads=2, pause=0.005) as answers:
        refused = scene.root.set_role(scene.ada, "viewer", is_given=True, server=scene.keel.here)
        scene.set_role(scene.eve, is_given=True, server=scene.keel.here)
        wait_until(lambda: scene.eve.may_read(scene.keel.there), seconds=BOUND, what="a policy after that one")

    assert refused.status_code == status
    assert {answer.is_allowed for each in answers.values() for answer in each} == {False}
    assert scene.keel.rows("SELECT 1 FROM role_assignments WHERE user_id = :id", id=scene.ada.id) == []
