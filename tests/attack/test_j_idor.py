"""SECURITY.md, line 65: every id of every path, also of tomorrow's, named by somebody to whom it does not belong."""

from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import httpx
import pytest

from app.db.metadata import METADATA
from tests.attack.access_matrix import API, body_of
from tests.attack.conftest import Keel
from tests.attack.crowd import Crowd, Person
from tests.attack.test_every_route import BAD_IDS, Operation, is_refused, operations
from tests.live import wait_until

pytestmark = pytest.mark.e2e

POLICY = ("roles", "role_parents", "role_assignments", "permission_grants")
IF_400 = " (400: its body is missing in BODIES in tests/attack/access_matrix.py)"
WRONG_SORTS = ["password_hash", "-password_hash", "owner_id", "user_id", "key_hash", "id", "__class__", "title;--", ""]


class Scene:
    """Two who own one of everything, and those who are after what the first one has."""

    def __init__(self, keel: Keel) -> None:
        self.keel, self.crowd = keel, Crowd(keel)
        self.victim, self.other, nobody = self.crowd.people(3)
        [viewer], [superuser] = self.crowd.people(1, role="viewer"), self.crowd.people(1, is_superuser=True)
        self.people = {"nobody": nobody, "viewer": viewer, "superuser": superuser}
        self.operations = [one for one in operations(keel) if not one.is_public]
        self.naming = [one for one in self.operations if "{" in one.path]
        self.things: dict[str, str] = {}
        self.paths = {str(one): self.crowd.path(one.path, self.victim, self.things) for one in self.naming}
        self._client = keel.client(base_url=keel.here.url)
        posts = Operation("get", f"{API}/posts", False, None, {})
        wait_until(lambda: self.ask(posts, posts.path, "viewer").status_code == 200, seconds=5)

    def ask(self, operation: Operation, path: str, who: str, **options: Any) -> httpx.Response:
        """With a body that is about the victim, where one is wanted."""
        headers = {"Authorization": f"Bearer {self.people[who].token}"}
        route = str(operation).replace(API, "")
        return self._client.request(operation.method, path, headers=headers, **body_of(route, self.victim), **options)

    def stored(self) -> dict[str, list[Any]]:
        """All rows of the victim, in every table that knows of users, and the whole policy."""
        of_users = {
            f"{table.name}.{key.parent.name}": f"SELECT * FROM {table.name} WHERE {key.parent.name} = :id ORDER BY id"
            for table in METADATA.sorted_tables
            for key in table.foreign_keys
            if key.column.table.name == "users"
        }
        policy = {name: f"SELECT * FROM {name} ORDER BY id" for name in POLICY}
        account = {"users": "SELECT * FROM users WHERE id = :id"}
        return {
            name: self.keel.rows(query, **({"id": self.victim.id} if ":id" in query else {}))
            for name, query in (of_users | policy | account).items()
        }

    def close(self) -> None:
        self._client.close()
        self.crowd.leave()


@pytest.fixture(scope="module")
def scene(keel: Keel) -> Iterator[Scene]:
    scene = Scene(keel)
    yield scene
    scene.close()


def shows_nothing_of(person: Person, answer: httpx.Response) -> bool:
    return not any(known in answer.text for known in (person.secret, person.email))


def said(answer: httpx.Response) -> tuple[int, str, str]:
    problem = answer.json()
    return answer.status_code, problem["code"], problem["detail"]


@pytest.mark.attack(65)
@pytest.mark.parametrize("attacker", ["nobody", "viewer"])
def test_what_belongs_to_somebody_else_looks_like_what_does_not_exist_and_stays(attacker: str, scene: Scene) -> None:
    before = scene.stored()
    for operation in scene.naming:
        theirs = scene.ask(operation, scene.paths[str(operation)], attacker)
        missing = scene.ask(operation, operation.url(str(uuid4())), attacker)

        assert said(theirs) == said(missing), operation
        assert theirs.status_code in {403, 404}, f"{operation}{IF_400}"
        assert shows_nothing_of(scene.victim, theirs), operation
    assert {"items.owner_id", "posts.owner_id", "api_keys.user_id"} <= {name for name, rows in before.items() if rows}
    assert scene.stored() == before


@pytest.mark.attack(65)
@pytest.mark.parametrize("asker", ["nobody", "viewer", "superuser"])
def test_what_was_deleted_is_gone_for_everybody(asker: str, scene: Scene) -> None:
    leaving, things = Crowd(scene.keel), dict[str, str]()
    [person] = leaving.people(1)
    paths = [leaving.path(operation.path, person, things) for operation in scene.naming]
    leaving.leave()

    for operation, path in zip(scene.naming, paths, strict=True):
        gone = scene.ask(operation, path, asker)

        assert gone.status_code in ({404} if asker == "superuser" else {403, 404}), f"{operation}{IF_400}"
        assert shows_nothing_of(person, gone)


@pytest.mark.attack(65)
@pytest.mark.parametrize("asker", ["viewer", "superuser"])
def test_an_id_that_is_none_is_refused_whoever_asks(asker: str, scene: Scene) -> None:
    before = scene.stored()
    answers = [
        (str(operation), value[:20], scene.ask(operation, operation.url(value), asker).status_code)
        for operation in scene.naming
        for value in BAD_IDS
    ]

    assert [said for said in answers if not is_refused(said[2])] == []
    assert scene.stored() == before


@pytest.mark.attack(65)
def test_what_belongs_to_one_is_not_found_below_another(scene: Scene) -> None:
    """As a superuser, whom no guard stops: `DELETE users/{one}/permissions/{of the other}`."""
    nested = [one for one in scene.naming if one.path.count("{") > 1 and one.method != "put"]
    things = dict[str, str]()
    others = [scene.crowd.path(operation.path, scene.other, things) for operation in nested]
    before = scene.stored()

    for operation, path in zip(nested, others, strict=True):
        mixed = f"{path.rpartition('/')[0]}/{scene.things[operation.path]}"

        assert mixed not in {path, scene.paths[str(operation)]}
        assert scene.ask(operation, mixed, "superuser").status_code == 404, operation
    assert len(nested) >= 4
    assert scene.stored() == before


@pytest.mark.attack(65)
def test_lists_filters_sorting_and_search_show_nothing_of_others(scene: Scene) -> None:
    victim = scene.victim
    values = [victim.secret, victim.email, str(victim.id), "%", "true", "false", ""]
    lists = [one for one in scene.operations if one.method == "get" and "{" not in one.path]
    for operation in lists:
        if scene.ask(operation, operation.path, "viewer").status_code == 403:
            continue
        for name, schema in operation.queries.items():
            for value in [*schema.get("enum", values), "100"]:
                answer = scene.ask(operation, operation.path, "viewer", params={"limit": "100", name: value})

                assert answer.status_code in {200, 400}, (operation, name, value)
                assert shows_nothing_of(victim, answer), (operation, name, value)
                assert str(victim.id) not in answer.text, (operation, name, value)
                assert value != victim.secret or answer.json().get("total", 0) == 0, (operation, name)


@pytest.mark.attack(65)
@pytest.mark.parametrize("asker", ["viewer", "superuser"])
def test_no_list_is_sorted_by_what_it_does_not_show(asker: str, scene: Scene) -> None:
    sorted_lists = [one for one in scene.operations if "sort" in one.queries]
    answers = [
        (str(operation), sort, scene.ask(operation, operation.path, asker, params={"sort": sort}).status_code)
        for operation in sorted_lists
        if "{" not in operation.path
        for sort in WRONG_SORTS
    ]

    assert answers
    assert [said for said in answers if said[2] not in {400, 403}] == []
