"""SECURITY.md, line 66: rights that one does not have can be neither given nor taken, nor had by a detour."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import uuid4

import httpx
import pytest

from tests.attack.conftest import Keel
from tests.attack.test_j_users import Person
from tests.live import wait_until

pytestmark = pytest.mark.e2e
STAFF = ["roles:read", "roles:create", "roles:update", "roles:delete", "users:read", "users:update", "posts:read"]
POLICY = """
    SELECT 'role', id, name FROM roles UNION ALL SELECT 'parent', role_id, parent_id::text FROM role_parents
    UNION ALL SELECT 'assignment', user_id, role_id::text FROM role_assignments
    UNION ALL SELECT 'grant', id, concat_ws(' ', role_id, user_id, resource, action, object_id, rule, effect)
    FROM permission_grants ORDER BY 1, 2, 3
"""


def grant(permission: str, **more: Any) -> dict[str, Any]:
    resource, action = permission.split(":")
    return {"resource": resource, "action": action, **more}


class Root(Person):
    """A superuser, who makes what the attacks need."""

    def __init__(self, keel: Keel) -> None:
        super().__init__(keel, is_superuser=True)

    def make_role(self, *permissions: str, parents: tuple[str, ...] = ()) -> str:
        name = f"r{uuid4().hex}"
        with self.client() as client:
            client.post("/roles", json={"name": name, "parents": parents}).raise_for_status()
            for permission in permissions:
                client.post(f"/roles/{name}/permissions", json=grant(permission)).raise_for_status()
        return name

    def give(self, who: Person, role: str) -> Person:
        with self.client() as client:
            client.put(f"/users/{who.id}/roles/{role}").raise_for_status()
        return who


@pytest.fixture
def root(keel: Keel) -> Iterator[Root]:
    root = Root(keel)
    yield root
    keel.write("UPDATE users SET is_superuser = false WHERE id = :id", id=root.id)


@pytest.fixture
def staff(keel: Keel, root: Root) -> Person:
    """May change the policy, and holds little else."""
    return root.give(Person(keel), root.make_role(*STAFF))


def refused(answer: httpx.Response) -> str:
    """The code of a 403."""
    assert answer.status_code == 403, (answer.request.method, answer.request.url, answer.text)
    code: str = answer.json()["code"]
    return code


@pytest.mark.attack(66)
def test_nobody_gives_or_takes_what_they_do_not_hold(keel: Keel, root: Root, staff: Person) -> None:
    mine, firm = root.make_role("posts:read"), root.make_role("jobs:read", parents=("editor",))
    ada = Person(keel)
    inherits = root.make_role(parents=(firm,))
    [jobs] = keel.rows("SELECT g.id FROM permission_grants g JOIN roles ON roles.id = role_id WHERE name = :n", n=firm)
    withheld = [grant("jobs:read", effect="deny"), grant("posts:update", rule="r.obj.published")]
    before = keel.rows(POLICY)

    with staff.client() as client:
        codes = [
            *(
                refused(client.post(path, json=body))
                for path in (f"/roles/{mine}/permissions", f"/users/{ada.id}/permissions")
                for body in (grant("jobs:read"), grant("users:delete"), grant("posts:create"), *withheld)
            ),
            refused(client.delete(f"/roles/{firm}/permissions/{jobs.id}")),
            *(refused(client.put(f"/users/{ada.id}/roles/{role}")) for role in ("admin", "editor", firm, inherits)),
            *(refused(client.put(f"/roles/{mine}/parents/{role}")) for role in ("admin", "editor", firm, inherits)),
            refused(client.delete(f"/roles/{inherits}/parents/{firm}")),
            refused(client.delete(f"/roles/{firm}")),
            *(refused(client.delete(f"/roles/{role}")) for role in ("admin", "editor")),
            *(
                refused(client.post("/roles", json={"name": f"r{uuid4().hex}", "parents": [mine, role]}))
                for role in ("admin", firm)
            ),
        ]

    assert set(codes) == {"not_held"}
    assert keel.rows(POLICY) == before


@pytest.mark.attack(66)
def test_what_one_holds_with_a_condition_goes_no_further(keel: Keel, root: Root) -> None:
    mine = root.make_role()
    conditional = {"rule": "r.obj.owner_id == r.sub.id"}
    with root.client() as client:
        role = root.make_role("roles:update", "users:update")
        client.post(f"/roles/{role}/permissions", json=grant("posts:update", **conditional)).raise_for_status()
    staff = root.give(Person(keel), role)

    with staff.client() as client:
        for body in (grant("posts:update"), grant("posts:update", rule="not r.obj.published")):
            assert refused(client.post(f"/roles/{mine}/permissions", json=body)) == "not_held"
        same = client.post(f"/roles/{mine}/permissions", json=grant("posts:update", **conditional))

    assert same.status_code == 201


@pytest.mark.attack(66)
def test_nobody_disarms_a_role_that_may_do_more(keel: Keel, root: Root, staff: Person) -> None:
    """With what they hold themselves."""
    parent = root.make_role("posts:read")
    [update] = keel.rows(
        "SELECT g.id FROM permission_grants g JOIN roles ON roles.id = role_id "
        "WHERE name = 'admin' AND resource = 'roles' AND action = 'update'"
    )
    before = keel.rows(POLICY)

    with staff.client() as client:
        codes = [
            refused(client.post("/roles/admin/permissions", json=grant("roles:update", effect="deny"))),
            refused(client.delete(f"/roles/admin/permissions/{update.id}")),
            refused(client.put(f"/roles/admin/parents/{parent}")),
        ]

    assert set(codes) == {"not_held"}
    assert keel.rows(POLICY) == before


@pytest.mark.attack(66)
def test_a_deny_is_lifted_by_nobody_who_is_under_it(keel: Keel, root: Root) -> None:
    role = root.make_role(*STAFF, "jobs:read")
    one, other = (root.give(Person(keel), role) for _ in range(2))
    with root.client() as client:
        denies = {
            who.id: client.post(f"/users/{who.id}/permissions", json=grant("jobs:read", effect="deny")).json()["id"]
            for who in (one, other)
        }

    with one.client() as client:
        assert refused(client.delete(f"/users/{one.id}/permissions/{denies[one.id]}")) == "own_rights"
        assert refused(client.delete(f"/users/{other.id}/permissions/{denies[other.id]}")) == "not_held"
        assert client.get("/jobs").status_code == 403


@pytest.mark.attack(66)
def test_nobody_shuts_out_those_who_may_do_more_by_a_role_of_theirs(keel: Keel, root: Root) -> None:
    staff = root.give(Person(keel), root.make_role("roles:update", "roles:delete"))
    common, part = root.make_role(), root.make_role("roles:update")
    firm = root.make_role("roles:update", "jobs:read", parents=(part,))
    root.give(root.give(Person(keel), firm), common)
    [held] = keel.rows("SELECT g.id FROM permission_grants g JOIN roles ON roles.id = role_id WHERE name = :n", n=part)
    before = keel.rows(POLICY)

    with staff.client() as client:
        codes = [
            *(
                refused(client.post(f"/roles/{role}/permissions", json=grant("roles:update", effect="deny")))
                for role in (firm, part, common)
            ),
            refused(client.delete(f"/roles/{part}/permissions/{held.id}")),
            refused(client.delete(f"/roles/{part}")),
            refused(client.delete(f"/roles/{firm}/parents/{part}")),
            refused(client.put(f"/roles/{common}/parents/{part}")),
        ]

    assert set(codes) <= {"outranked", "not_held"}
    assert keel.rows(POLICY) == before


@pytest.mark.attack(66)
def test_nobody_changes_their_own_rights_not_even_a_superuser(keel: Keel, root: Root) -> None:
    parent = root.make_role("posts:read")
    role = root.make_role(*STAFF, parents=(parent,))
    staff = root.give(Person(keel), role)
    [held] = keel.rows(
        "SELECT g.id FROM permission_grants g JOIN roles ON roles.id = role_id WHERE name = :name", name=parent
    )
    before = keel.rows(POLICY)

    with staff.client() as client, root.client() as superuser:
        codes = [
            *(
                refused(who.request(method, f"/users/{user_id}/roles/{name}"))
                for who, user_id in ((client, staff.id), (superuser, root.id))
                for method in ("PUT", "DELETE")
                for name in (role, parent)
            ),
            refused(client.post(f"/users/{staff.id}/permissions", json=grant("posts:read"))),
            refused(superuser.post(f"/users/{root.id}/permissions", json=grant("posts:read"))),
            *(
                refused(client.post(f"/roles/{name}/permissions", json=grant("posts:read")))
                for name in (role, parent, "everyone")
            ),
            refused(client.delete(f"/roles/{parent}/permissions/{held.id}")),
            refused(client.put(f"/roles/{parent}/parents/viewer")),
            *(refused(client.delete(f"/roles/{name}")) for name in (role, parent, "everyone")),
        ]

    assert set(codes) == {"own_rights"}
    assert keel.rows(POLICY) == before


@pytest.mark.attack(66)
def test_of_two_who_take_the_role_from_each_other_at_once_one_keeps_it(keel: Keel, root: Root) -> None:
    for _ in range(3):
        one, other = (root.give(Person(keel), "admin") for _ in range(2))
        for who in (one, other):
            wait_for_right(keel, who)

        def take(attempt: tuple[Person, Person, Any]) -> int:
            who, victim, server = attempt
            with keel.client(server, token=who.token) as client:
                return client.delete(f"/users/{victim.id}/roles/admin").status_code

        with ThreadPoolExecutor(2) as threads:
            answers = sorted(threads.map(take, [(one, other, keel.here), (other, one, keel.there)]))

        assert answers == [204, 403]
        held = "SELECT user_id FROM role_assignments WHERE user_id IN (:one, :other)"
        assert len(keel.rows(held, one=one.id, other=other.id)) == 1


@pytest.mark.attack(66)
def test_two_halves_of_a_circle_are_not_both_made(keel: Keel, root: Root) -> None:
    one, other = root.make_role(), root.make_role()

    def link(attempt: tuple[str, str, Any]) -> int:
        role, parent, server = attempt
        with keel.client(server, token=root.token) as client:
            return client.put(f"/roles/{role}/parents/{parent}").status_code

    with ThreadPoolExecutor(2) as threads:
        answers = sorted(threads.map(link, [(one, other, keel.here), (other, one, keel.there)]))

    assert answers == [200, 409]


@pytest.mark.attack(66)
def test_no_api_key_changes_the_policy(keel: Keel, root: Root) -> None:
    ada = Person(keel)
    with root.client() as client:
        scopes = client.get("/users/me/api-keys/scopes").json()["items"]
        key = client.post("/users/me/api-keys", json={"name": "all", "scopes": scopes}).json()["key"]
    assert [scope for scope in scopes if scope.startswith("roles")] == ["roles:read"]

    with keel.client(token=key) as program:
        codes = [
            refused(program.post("/roles", json={"name": "programs"})),
            refused(program.delete("/roles/viewer")),
            refused(program.put("/roles/viewer/parents/everyone")),
            refused(program.post("/roles/viewer/permissions", json=grant("users:read"))),
            refused(program.put(f"/users/{ada.id}/roles/admin")),
            refused(program.post(f"/users/{ada.id}/permissions", json=grant("users:read"))),
        ]
        assert program.get("/roles").status_code == 200

    assert set(codes) == {"scope_required"}


@pytest.mark.attack(66)
@pytest.mark.parametrize("name", ["admin", "role:admin", "everyone", "admin, p", "*", "user:*"])
def test_a_user_who_is_called_like_a_role_has_none(name: str, keel: Keel) -> None:
    eve = Person(keel)
    with eve.client() as client:
        client.patch("/users/me", json={"first_name": name, "last_name": name}).raise_for_status()
        held = [role["name"] for role in client.get("/users/me/permissions").json()["roles"]]

        assert held == ["everyone"]
        assert refused(client.get("/roles")) == "permission_denied"


def wait_for_right(keel: Keel, who: Person) -> None:
    """At the other process."""
    with keel.client(keel.there, token=who.token) as client:
        wait_until(lambda: client.get("/roles").status_code == 200, seconds=5)
