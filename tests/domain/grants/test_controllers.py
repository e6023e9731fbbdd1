from collections.abc import Callable
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy.orm import Session

from app.domain.posts.models import Post
from tests.conftest import SignedIn
from tests.factories.posts import PostFactory

pytestmark = pytest.mark.integration
AsUser = Callable[..., SignedIn]
ROLE = "/roles/author/permissions"
OBJECT = "0198c2a0-0000-7000-8000-000000000001"
READ = {"resource": "posts", "action": "read"}


@pytest.fixture
def root(as_user: AsUser) -> SignedIn:
    root = as_user(is_superuser=True)
    root.post("/roles", json={"name": "author"}).raise_for_status()
    return root


def post_of(session: Session, owner_id: UUID, **fields: Any) -> Post:
    post = PostFactory.build(owner_id=owner_id, **fields)
    session.add(post)
    session.commit()
    return post


def test_a_permission_of_a_role_is_given_listed_and_taken(root: SignedIn, as_user: AsUser, session: Session) -> None:
    ada = as_user(role="author")
    path = f"/posts/{post_of(session, root.user.id, published=True).id}"
    assert ada.get(path).status_code == 403

    given = root.post(ROLE, json=READ)

    assert given.status_code == 201
    assert given.json() | READ == given.json()
    assert (given.json()["effect"], given.json()["rule"], given.json()["object_id"]) == ("allow", None, None)
    assert given.json()["granted_by"] == str(root.user.id)
    assert root.get(ROLE).json()["items"] == [given.json()]
    assert ada.get(path).status_code == 200
    assert root.delete(f"{ROLE}/{given.json()['id']}").status_code == 204
    assert root.delete(f"{ROLE}/{given.json()['id']}").status_code == 404
    assert ada.get(path).status_code == 403


def test_permissions_are_listed_in_pages_sorted_and_searched(root: SignedIn) -> None:
    def actions(query: str) -> list[str]:
        page = root.get(f"/roles/editor/permissions?{query}").json()
        return [item["action"] for item in page["items"]]

    assert actions("sort=action") == ["create", "delete", "read", "update"]
    assert actions("sort=-action&limit=1&offset=1") == ["read"]
    assert actions("q=DATE") == ["update"]
    assert root.get("/roles/editor/permissions?sort=rule").status_code == 400


@pytest.mark.parametrize(
    ("changed", "field", "says"),
    [
        ({"resource": "secrets"}, "resource", "There is no such resource."),
        ({"resource": "*"}, "resource", "There is no such resource."),
        ({"resource": "posts:read"}, "resource", "There is no such resource."),
        ({"resource": "Posts"}, "resource", "There is no such resource."),
        ({"action": "*"}, "action", "Of posts, there are: read, create, update, delete."),
        ({"action": "rea"}, "action", "Of posts"),
        ({"action": "read,allow"}, "action", "Of posts"),
        ({"rule": "True or"}, "rule", "not an expression"),
        ({"rule": "r.obj.title == 'x'"}, "rule", "There is no `r.obj.title`"),
        ({"rule": "__import__('os').system('id')"}, "rule", "not allowed"),
        ({"rule": "r.obj.published, allow"}, "rule", ""),
        ({"resource": "users", "object_id": OBJECT}, "object_id", "users have no objects"),
        ({"resource": "users", "rule": "r.sub.id == r.sub.id"}, "rule", "users have no objects"),
        ({"resource": "audit", "rule": "r.obj.id == r.sub.id"}, "rule", "audit have no objects"),
        ({"object_id": "1"}, "object_id", ""),
        ({"effect": "maybe"}, "effect", ""),
        ({"rule": ""}, "rule", ""),
        ({"role": "admin"}, "data", "unknown field"),
    ],
    ids=str,
)
def test_what_would_mean_nothing_is_refused_and_said(
    changed: dict[str, str], field: str, says: str, root: SignedIn
) -> None:
    answer = root.post(ROLE, json=READ | changed)

    assert answer.status_code == 400
    [problem] = answer.json()["errors"]
    assert problem["field"] == field
    assert says in problem["message"]
    assert root.get(ROLE).json()["items"] == []


@pytest.mark.parametrize("more", [{}, {"rule": "r.obj.published"}, {"object_id": OBJECT}, {"effect": "deny"}], ids=str)
def test_the_same_permission_twice_is_a_conflict(more: dict[str, str], root: SignedIn) -> None:
    first, second = (root.post(ROLE, json=READ | more) for _ in range(2))

    assert first.status_code == 201
    assert (second.status_code, second.json()["code"]) == (409, "permission_exists")


def test_a_permission_of_another_role_is_not_found_below_this_one(root: SignedIn) -> None:
    other = root.get("/roles/viewer/permissions").json()["items"][0]["id"]

    assert root.delete(f"{ROLE}/{other}").status_code == 404
    assert [
        root.get("/roles/no/permissions").status_code,
        root.post("/roles/no/permissions", json=READ).status_code,
    ] == [
        404,
        404,
    ]


def test_one_user_gets_one_object_and_no_other(root: SignedIn, as_user: AsUser, session: Session) -> None:
    ada = as_user()
    mine, other = (post_of(session, root.user.id, published=False) for _ in range(2))
    path = f"/users/{ada.user.id}/permissions"

    given = root.post(path, json=READ | {"object_id": str(mine.id)})

    assert given.status_code == 201
    assert root.get(path).json()["items"] == [given.json()]
    assert [ada.get(f"/posts/{post.id}").status_code for post in (mine, other)] == [200, 404]
    assert [post["id"] for post in ada.get("/posts").json()["items"]] == [str(mine.id)]
    assert root.delete(f"/users/{root.user.id}/permissions/{given.json()['id']}").status_code == 403, "her own"
    assert root.delete(f"/users/{as_user().user.id}/permissions/{given.json()['id']}").status_code == 404
    assert root.delete(f"{path}/{given.json()['id']}").status_code == 204
    assert ada.get(f"/posts/{mine.id}").status_code == 403


def test_what_is_withheld_from_one_user_wins_over_their_roles(
    root: SignedIn, as_user: AsUser, session: Session
) -> None:
    ada = as_user(role="editor")
    post = post_of(session, root.user.id, published=True)

    root.post(f"/users/{ada.user.id}/permissions", json=READ | {"effect": "deny"}).raise_for_status()

    assert ada.get(f"/posts/{post.id}").status_code == 403


def test_who_is_not_there_is_not_found(root: SignedIn) -> None:
    path = f"/users/{uuid4()}/permissions"

    answers = (root.get(path), root.post(path, json=READ), root.delete(f"{path}/{uuid4()}"))

    assert {answer.status_code for answer in answers} == {404}


def test_permissions_are_for_administrators_who_have_just_signed_in(
    clock: Any, root: SignedIn, as_user: AsUser
) -> None:
    editor = as_user(role="editor")
    calls = [
        *((method, path) for path in (ROLE, f"/users/{editor.user.id}/permissions") for method in ("GET", "POST")),
        *(("DELETE", f"{path}/{uuid4()}") for path in (ROLE, f"/users/{editor.user.id}/permissions")),
    ]
    assert {editor.request(method, path, json=READ).status_code for method, path in calls} == {403}

    clock.shift(601)

    codes = [(root.request(method, path, json=READ).json().get("code")) for method, path in calls]
    assert codes == [None, "reauthentication_required"] * 2 + ["reauthentication_required"] * 2


def test_a_role_has_so_many_rules_on_a_permission_and_no_more(root: SignedIn, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.domain.grants.services.MAX_RULES", 2)

    ruled = [root.post(ROLE, json={**READ, "rule": f"r.obj.id == '{UUID(int=number)}'"}) for number in range(3)]

    assert [answer.status_code for answer in ruled] == [201, 201, 400]
    assert ruled[2].json()["errors"][0]["field"] == "rule"
    assert root.post(ROLE, json=READ).status_code == 201
