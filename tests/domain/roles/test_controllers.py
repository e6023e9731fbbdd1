from collections.abc import Callable
from typing import Any
from uuid import uuid4

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session

from app.domain.access.models import RoleAssignment
from tests.conftest import SignedIn

pytestmark = pytest.mark.integration
AsUser = Callable[..., SignedIn]


@pytest.fixture
def root(as_user: AsUser) -> SignedIn:
    return as_user(is_superuser=True)


def make(root: SignedIn, name: str, **fields: Any) -> Any:
    answer = root.post("/roles", json={"name": name, **fields})
    assert answer.status_code == 201, answer.text
    return answer.json()


def names(answer: Any) -> list[str]:
    assert answer.json()["total"] == len(answer.json()["items"])
    return [item["name"] for item in answer.json()["items"]]


def test_the_predefined_roles_are_listed_searched_and_sorted(root: SignedIn) -> None:
    assert names(root.get("/roles")) == ["admin", "editor", "everyone", "viewer"]
    assert names(root.get("/roles?sort=-name&q=POSTS")) == ["viewer", "editor"]
    assert root.get("/roles?limit=1&offset=1").json()["items"][0]["parents"] == ["viewer"]
    assert root.get("/roles?sort=description").status_code == 400


def test_a_role_is_made_shown_and_deleted(root: SignedIn) -> None:
    made = make(root, "author", description="Writes.", parents=["viewer", "editor"])

    assert (made["name"], made["description"], made["parents"]) == ("author", "Writes.", ["editor", "viewer"])
    assert root.get("/roles/author").json() == made
    assert root.delete("/roles/author").status_code == 204
    assert root.get("/roles/author").status_code == 404


@pytest.mark.parametrize(
    "name",
    [
        "",
        "A",
        "1a",
        "_a",
        "a b",
        "a,b",
        "a*",
        "a:b",
        "a\n",
        "a/b",
        "a'b",
        'a"b',
        "а",
        "ａ",
        "a" * 51,
        "role::x",
        "r.sub",
    ],
)
def test_a_name_that_could_mean_something_else_is_refused(name: str, root: SignedIn) -> None:
    answer = root.post("/roles", json={"name": name})

    assert answer.status_code == 400
    assert answer.json()["errors"][0]["field"] == "name"


def test_a_role_of_the_same_name_is_a_conflict(root: SignedIn) -> None:
    answer = root.post("/roles", json={"name": "editor"})

    assert (answer.status_code, answer.json()["code"]) == (409, "role_exists")


def test_a_parent_that_is_no_role_is_named(root: SignedIn) -> None:
    answer = root.post("/roles", json={"name": "author", "parents": ["nobody"]})

    assert (answer.status_code, answer.json()["errors"][0]["field"]) == (400, "parents")
    assert root.get("/roles/author").status_code == 404


def test_parents_come_and_go(root: SignedIn) -> None:
    make(root, "author")

    assert root.put("/roles/author/parents/viewer").json()["parents"] == ["viewer"]
    assert root.put("/roles/author/parents/viewer").json()["parents"] == ["viewer"]
    assert root.delete("/roles/author/parents/viewer").status_code == 204
    assert root.delete("/roles/author/parents/viewer").status_code == 404
    assert root.put("/roles/author/parents/nobody").status_code == 404
    assert root.put("/roles/nobody/parents/author").status_code == 404


@pytest.mark.parametrize(("role", "parent"), [("viewer", "viewer"), ("viewer", "editor"), ("viewer", "admin")])
def test_no_role_inherits_from_itself(role: str, parent: str, root: SignedIn) -> None:
    answer = root.put(f"/roles/{role}/parents/{parent}")

    assert (answer.status_code, answer.json()["code"]) == (409, "role_circle")


def test_there_are_at_most_ten_levels(root: SignedIn) -> None:
    make(root, "level-1")
    for level in range(2, 11):
        make(root, f"level-{level}", parents=[f"level-{level - 1}"])

    above = root.post("/roles", json={"name": "level-11", "parents": ["level-10"]})
    below = root.put("/roles/level-1/parents/viewer")

    assert {(answer.status_code, answer.json()["code"]) for answer in (above, below)} == {(409, "too_deep_roles")}
    assert root.put("/roles/level-2/parents/viewer").status_code == 200


def test_admin_and_everyone_stay(root: SignedIn) -> None:
    answers = [root.delete("/roles/admin"), root.delete("/roles/everyone")]

    assert {(answer.status_code, answer.json()["code"]) for answer in answers} == {(409, "protected_role")}


@pytest.mark.parametrize("name", ["nobody", "ADMIN", "a%00b", "%2e%2e", "'--", "a" * 300])
def test_a_role_that_is_none_is_not_found(name: str, root: SignedIn) -> None:
    statuses = {root.request(method, f"/roles/{name}").status_code for method in ("GET", "DELETE")}

    assert statuses == {404}


def test_a_role_is_given_once_and_taken(root: SignedIn, as_user: AsUser, session: Session) -> None:
    ada = as_user()
    path = f"/users/{ada.user.id}/roles"

    given, again = root.put(f"{path}/editor"), root.put(f"{path}/editor")

    assert (given.status_code, given.json()["name"]) == (200, "editor")
    assert given.json() == again.json()
    assert given.json()["granted_by"] == str(root.user.id)
    assert names(root.get(path)) == ["editor"]
    assert names(root.get(f"{path}?q=nothing")) == []
    assert session.scalars(select(RoleAssignment.granted_by).where(RoleAssignment.user_id == ada.user.id)).all() == [
        root.user.id
    ]
    assert ada.post("/posts", json={"title": "T", "body": "B"}).status_code == 201
    assert root.delete(f"{path}/editor").status_code == 204
    assert root.delete(f"{path}/editor").status_code == 404
    assert ada.post("/posts", json={"title": "T", "body": "B"}).status_code == 403


def test_who_or_what_is_not_there_is_not_found(root: SignedIn, as_user: AsUser) -> None:
    ada = as_user()
    paths = [f"/users/{uuid4()}/roles/editor", f"/users/{ada.user.id}/roles/nobody"]

    assert {root.request(method, path).status_code for method in ("PUT", "DELETE") for path in paths} == {404}
    assert root.get(f"/users/{uuid4()}/roles").status_code == 404


def test_everybodys_role_is_neither_given_nor_taken(root: SignedIn, as_user: AsUser) -> None:
    path = f"/users/{as_user().user.id}/roles/everyone"

    answers = [root.put(path), root.delete(path)]

    assert {(answer.status_code, answer.json()["code"]) for answer in answers} == {(409, "everybodys_role")}


def test_a_closed_account_has_no_roles_and_gets_none(root: SignedIn, as_user: AsUser, session: Session) -> None:
    ada = as_user(role="editor")
    root.post(f"/users/{ada.user.id}/permissions", json={"resource": "posts", "action": "read"}).raise_for_status()

    ada.delete("/users/me").raise_for_status()

    path = f"/users/{ada.user.id}/roles"
    assert session.scalars(select(RoleAssignment).where(RoleAssignment.user_id == ada.user.id)).all() == []
    assert ada.client.app.state.access.policy.grants_of(f"user:{ada.user.id}") == []
    assert [root.get(path).status_code, root.put(f"{path}/editor").status_code] == [404, 404]


def test_what_is_for_administrators_is_for_nobody_else(as_user: AsUser) -> None:
    editor = as_user(role="editor")
    calls = [
        *(("GET", "/roles"), ("POST", "/roles"), ("GET", "/roles/viewer"), ("DELETE", "/roles/viewer")),
        *((method, "/roles/viewer/parents/editor") for method in ("PUT", "DELETE")),
        ("GET", f"/users/{editor.user.id}/roles"),
        *((method, f"/users/{editor.user.id}/roles/admin") for method in ("PUT", "DELETE")),
    ]

    answers = {(method, path): editor.request(method, path, json={"name": "x"}) for method, path in calls}

    assert {key: answer.status_code for key, answer in answers.items()} == dict.fromkeys(calls, 403)


def test_a_change_of_the_policy_needs_a_recent_sign_in(clock: Any, root: SignedIn, as_user: AsUser) -> None:
    ada = as_user()
    clock.shift(601)
    calls = [
        *(("POST", "/roles"), ("DELETE", "/roles/viewer"), ("PUT", "/roles/viewer/parents/editor")),
        *((method, f"/users/{ada.user.id}/roles/editor") for method in ("PUT", "DELETE")),
    ]

    answers = [root.request(method, path, json={"name": "author"}) for method, path in calls]

    assert {(answer.status_code, answer.json()["code"]) for answer in answers} == {(403, "reauthentication_required")}
    assert root.get("/roles").status_code == 200
