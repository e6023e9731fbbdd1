from collections.abc import Callable
from typing import Any
from uuid import uuid4

import pytest
from litestar import Litestar
from litestar.testing import TestClient
from sqlalchemy.orm import Session

from app.domain.posts.models import Post
from tests.conftest import API, SignedIn
from tests.factories.posts import PostFactory

pytestmark = pytest.mark.integration
AsUser = Callable[..., SignedIn]
RULE = "r.obj.published or r.obj.owner_id == r.sub.id"


@pytest.fixture
def root(as_user: AsUser) -> SignedIn:
    return as_user(is_superuser=True)


@pytest.fixture
def draft(root: SignedIn, session: Session) -> Post:
    draft: Post = PostFactory.build(owner_id=root.user.id, published=False)
    session.add(draft)
    session.commit()
    return draft


def explain(who: SignedIn, about: SignedIn, permission: str, **more: Any) -> Any:
    resource, action = permission.split(":")
    question = {"user_id": str(about.user.id), "resource": resource, "action": action, **more}
    return who.post("/access/explain", json=question)


def test_my_roles_are_shown_with_where_they_come_from(as_user: AsUser, cost: Callable[..., int]) -> None:
    editor = as_user(role="editor")

    shown = editor.get("/users/me/permissions").json()

    assert shown["is_superuser"] is False
    assert shown["roles"] == [
        {"name": "editor", "source": "assignment", "through": []},
        {"name": "everyone", "source": "everyone", "through": []},
        {"name": "viewer", "source": "inheritance", "through": ["editor"]},
    ]
    reading = [one for one in shown["permissions"] if (one["resource"], one["action"]) == ("posts", "read")]
    assert [(one["role"], one["rule"], one["effect"]) for one in reading] == [
        ("editor", None, "allow"),
        ("viewer", RULE, "allow"),
    ]
    assert cost(lambda: editor.get("/users/me/permissions")) == 0, "the process knows"


def test_what_was_given_to_me_alone_has_no_role(root: SignedIn, as_user: AsUser, draft: Post) -> None:
    ada = as_user()
    grant = {"resource": "posts", "action": "read", "object_id": str(draft.id)}
    root.post(f"/users/{ada.user.id}/permissions", json=grant).raise_for_status()

    [mine] = [one for one in ada.get("/users/me/permissions").json()["permissions"] if one["role"] is None]

    assert mine | grant == mine
    assert root.get("/users/me/permissions").json()["is_superuser"] is True


def test_nobody_has_permissions_without_signing_in(client: TestClient[Litestar]) -> None:
    assert client.get(f"{API}/users/me/permissions").status_code == 401


def test_an_explanation_names_the_rule_and_the_role(root: SignedIn, as_user: AsUser, draft: Post) -> None:
    viewer = as_user(role="viewer")

    anything = explain(root, viewer, "posts:read").json()
    the_draft = explain(root, viewer, "posts:read", object=str(draft.id)).json()
    published = explain(root, viewer, "posts:read", object={"published": True}).json()

    assert (anything["allowed"], anything["reason"], anything["roles"]) == (True, "granted", ["viewer"])
    assert [(one["role"], one["rule"]) for one in anything["matched"]] == [("viewer", RULE)]
    assert the_draft == {"allowed": False, "reason": "no_rule", "matched": [], "roles": []}
    assert (published["allowed"], published["roles"]) == (True, ["viewer"])


def test_an_explanation_shows_both_sides_when_a_deny_wins(root: SignedIn, as_user: AsUser, draft: Post) -> None:
    editor = as_user(role="editor")
    grant = {"resource": "posts", "action": "update", "effect": "deny", "object_id": str(draft.id)}
    root.post(f"/users/{editor.user.id}/permissions", json=grant).raise_for_status()

    said = explain(root, editor, "posts:update", object=str(draft.id)).json()

    assert (said["allowed"], said["reason"], said["roles"]) == (False, "denied", ["editor"])
    assert {(one["role"], one["effect"]) for one in said["matched"]} == {("editor", "allow"), (None, "deny")}
    assert explain(root, editor, "posts:update", object={"published": True}).json()["allowed"] is True


def test_an_explanation_agrees_with_the_answer(root: SignedIn, as_user: AsUser, draft: Post) -> None:
    for role in (None, "viewer", "editor", "admin"):
        somebody = as_user(role=role)
        allowed = explain(root, somebody, "posts:read", object=str(draft.id)).json()["allowed"]
        assert (somebody.get(f"/posts/{draft.id}").status_code == 200) == allowed, role


def test_superusers_and_inactive_users_are_explained_without_rules(root: SignedIn, as_user: AsUser) -> None:
    gone = as_user(role="admin", is_active=False)
    never = as_user(is_superuser=True, is_active=False)

    def said(about: SignedIn) -> tuple[bool, str]:
        answer = explain(root, about, "users:delete").json()
        assert (answer["matched"], answer["roles"]) == ([], [])
        return answer["allowed"], answer["reason"]

    assert [said(root), said(gone), said(never)] == [(True, "superuser"), (False, "inactive"), (False, "inactive")]


@pytest.mark.parametrize(
    ("changed", "field"),
    [
        ({"resource": "secrets"}, "resource"),
        ({"action": "fly"}, "action"),
        ({"object": {"title": "x"}}, "object"),
        ({"object": {"published": 1}}, "object"),
        ({"object": {"published": "true"}}, "object"),
        ({"object": {"owner_id": "me"}}, "object"),
        ({"object": "me"}, "object"),
        ({"object": [1]}, "object"),
        ({"resource": "jobs", "object": {"id": "0198c2a0-0000-7000-8000-000000000001"}}, "object"),
        ({"user_id": "me"}, "user_id"),
    ],
    ids=str,
)
def test_a_question_that_means_nothing_is_refused(changed: dict[str, Any], field: str, root: SignedIn) -> None:
    question = {"user_id": str(root.user.id), "resource": "posts", "action": "read"}

    answer = root.post("/access/explain", json=question | changed)

    assert answer.status_code == 400
    assert answer.json()["errors"][0]["field"] == field


def test_a_user_or_an_object_that_does_not_exist_is_not_found(root: SignedIn, as_user: AsUser) -> None:
    question = {"user_id": str(root.user.id), "resource": "posts", "action": "read"}
    gone = as_user()
    gone.delete("/users/me").raise_for_status()

    answers = [
        root.post("/access/explain", json=question | {"user_id": str(uuid4())}),
        root.post("/access/explain", json=question | {"user_id": str(gone.user.id)}),
        root.post("/access/explain", json=question | {"object": str(uuid4())}),
    ]

    assert [answer.status_code for answer in answers] == [404, 404, 404]


def test_who_may_not_read_roles_gets_no_explanation(as_user: AsUser) -> None:
    editor = as_user(role="editor")

    assert explain(editor, editor, "posts:read").status_code == 403
    assert explain(as_user(role="admin"), editor, "posts:read").status_code == 200
