"""SECURITY.md, lines 65 and 67: every route, asked by everybody, answers as the table in `access_matrix.py` says."""

from collections.abc import Iterator

import httpx
import pytest

from app.lib.access.guards import guarded_routes
from app.lib.settings import Settings
from app.server.asgi import build_app
from tests.attack.access_matrix import API, CALLERS, body_of, row, rows
from tests.attack.conftest import Keel, new_address
from tests.attack.crowd import Crowd, Person
from tests.attack.test_every_route import operations
from tests.live import SECRET_KEY, wait_until

pytestmark = pytest.mark.e2e

ROLES = ("viewer", "editor", "admin")


class Matrix:
    """Whoever changes something is somebody new, and so is whoever owns what they try it on."""

    def __init__(self, keel: Keel) -> None:
        self._keel, self._crowd = keel, Crowd(keel)
        self._client = keel.client(base_url=keel.here.url)
        self.paths = paths_of_routes(keel)
        unsafe = [route for route in self.paths if not is_safe(route)]
        number = 1 + len(unsafe)
        people = {role: self._crowd.people(number, role=role) for role in ROLES}
        people["nobody"] = self._crowd.people(number)
        people["superuser"] = self._crowd.people(number, is_superuser=True)
        self._owners = self._crowd.people(1 + sum(needs_owner(route, caller) for route in unsafe for caller in CALLERS))
        self._new = {caller: [person.token for person in some] for caller, some in people.items()}
        self._same = {caller: tokens.pop() for caller, tokens in self._new.items()}
        self._same["key"] = self._crowd.key_of(people["superuser"][-1], "items:read")
        self._same["inactive"] = self._deactivated().token
        self._owner = self._owners.pop()
        self._owns: dict[str, str] = {}
        self._crowd.path(f"{API}/avatars/{{avatar_id}}", self._owner, self._owns)
        self._wait_for_roles()

    def ask(self, route: str, caller: str) -> httpx.Response:
        """Of the process `here`; nothing is left of earlier requests."""
        owner = self._owners.pop() if needs_owner(route, caller) else self._owner
        token = owner.token if caller == "owner" else self._token(route, caller)
        headers = {"X-Forwarded-For": new_address()} | ({"Authorization": f"Bearer {token}"} if token else {})
        self._client.cookies.clear()
        path = self._crowd.path(self.paths[route], owner, self._owns if owner is self._owner else {})
        return self._client.request(route.partition(" ")[0], path, headers=headers, **body_of(route, owner))

    def close(self) -> None:
        self._client.close()
        self._crowd.leave()

    def _token(self, route: str, caller: str) -> str | None:
        if caller == "anonymous":
            return None
        return self._same[caller] if is_safe(route) or caller in ("key", "inactive") else self._new[caller].pop()

    def _deactivated(self) -> Person:
        [person], [administrator] = self._crowd.people(1), self._crowd.people(1, is_superuser=True)
        with self._keel.client(token=administrator.token) as client:
            client.patch(f"/users/{person.id}", json={"is_active": False}).raise_for_status()
        return person

    def _wait_for_roles(self) -> None:
        wait_until(lambda: {self.ask("GET /posts", role).status_code for role in ROLES} == {200}, seconds=5)


def paths_of_routes(keel: Keel) -> dict[str, str]:
    """By the names that routes have in the table: of all that the server has, which are more than it describes."""
    settings = Settings(_env_file=None, app_env="test", secret_key=SECRET_KEY)
    routes = guarded_routes(build_app(settings, keel.url))
    paths = {f"{route.method} {route.path.removeprefix(API) or '/'}": route.path for route in routes}
    described = {f"{one.method.upper()} {one.path.removeprefix(API)}" for one in operations(keel)}
    assert described <= paths.keys()
    return paths


def is_safe(route: str) -> bool:
    return route.startswith(("GET ", "HEAD "))


def needs_owner(route: str, caller: str) -> bool:
    """Of its own: what is theirs may be gone afterwards."""
    return not is_safe(route) and (caller == "owner" or "{" in route)


@pytest.fixture(scope="module")
def matrix(keel: Keel) -> Iterator[Matrix]:
    matrix = Matrix(keel)
    yield matrix
    matrix.close()


@pytest.mark.attack(65, 67)
@pytest.mark.parametrize("route", rows())
def test_everybody_gets_the_answer_that_the_table_says(route: str, matrix: Matrix) -> None:
    answers = {caller: matrix.ask(route, caller) for caller in CALLERS}
    statuses = tuple(answer.status_code for answer in answers.values())

    assert row(route, statuses) == row(route, rows()[route])


@pytest.mark.attack(67)
def test_every_route_has_a_row_in_the_table(matrix: Matrix) -> None:
    missing = [
        row(route, tuple(matrix.ask(route, caller).status_code for caller in CALLERS))
        for route in sorted(matrix.paths.keys() - rows().keys(), key=lambda route: route.split()[1])
    ]

    assert not missing, "add these to TABLE, if they are right (400: BODIES lacks its body):\n" + "\n".join(missing)
    assert rows().keys() <= matrix.paths.keys()
