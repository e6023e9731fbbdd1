"""The worked examples of docs/authorization.md, through HTTP."""

from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy.orm import Session

from tests.conftest import SignedIn
from tests.factories.posts import PostFactory

pytestmark = pytest.mark.integration


@pytest.fixture
def root(as_user: Callable[..., SignedIn]) -> SignedIn:
    return as_user(is_superuser=True)


@pytest.fixture
def ada(as_user: Callable[..., SignedIn]) -> SignedIn:
    return as_user()


@pytest.fixture
def draft(session: Session, as_user: Callable[..., SignedIn]) -> str:
    return post_of(session, as_user(), published=False)


@pytest.fixture
def published(session: Session, as_user: Callable[..., SignedIn]) -> str:
    return post_of(session, as_user(), published=True)


def post_of(session: Session, owner: SignedIn, *, published: bool) -> str:
    """The path of a post by somebody."""
    post = PostFactory.build(owner_id=owner.user.id, published=published)
    session.add(post)
    session.commit()
    return f"/posts/{post.id}"


def ok(answer: Any) -> Any:
    assert answer.is_success, answer.text
    return answer


def write(user: SignedIn) -> int:
    """The status of the answer."""
    return int(user.post("/posts", json={"title": "Tea", "body": "Leaves."}).status_code)


def rename(user: SignedIn, path: str) -> int:
    return int(user.patch(path, json={"title": "Coffee"}).status_code)


def test_a_role_may_what_it_is_granted(root: SignedIn, ada: SignedIn) -> None:
    ok(root.post("/roles", json={"name": "writer"}))
    ok(root.post("/roles/writer/permissions", json={"resource": "posts", "action": "create"}))
    assert write(ada) == 403

    ok(root.put(f"/users/{ada.user.id}/roles/writer"))
    assert write(ada) == 201

    ok(root.delete(f"/users/{ada.user.id}/roles/writer"))
    assert write(ada) == 403


def test_a_role_may_what_its_parents_may(root: SignedIn, ada: SignedIn, published: str) -> None:
    ok(root.post("/roles", json={"name": "reviewer", "parents": ["viewer"]}))
    ok(root.post("/roles", json={"name": "chief-reviewer", "parents": ["reviewer"]}))
    ok(root.put(f"/users/{ada.user.id}/roles/chief-reviewer"))
    assert ada.get(published).status_code == 200

    ok(root.delete("/roles/reviewer/parents/viewer"))
    assert ada.get(published).status_code == 403


def test_a_rule_looks_at_who_asks_and_at_the_object(root: SignedIn, ada: SignedIn, published: str, draft: str) -> None:
    rule = "r.obj.published and r.obj.owner_id != r.sub.id"
    ok(root.post("/roles", json={"name": "proof-reader", "parents": ["viewer"]}))
    ok(root.post("/roles/proof-reader/permissions", json={"resource": "posts", "action": "update", "rule": rule}))
    ok(root.put(f"/users/{ada.user.id}/roles/proof-reader"))

    assert rename(ada, published) == 200
    assert rename(ada, draft) == 404  # a draft of somebody else is not there


def test_one_user_may_something_with_one_object(root: SignedIn, ada: SignedIn, draft: str, published: str) -> None:
    for action in ("read", "update"):
        grant = {"resource": "posts", "action": action, "object_id": draft.removeprefix("/posts/")}
        ok(root.post(f"/users/{ada.user.id}/permissions", json=grant))

    assert rename(ada, draft) == 200
    assert ada.get("/posts").json()["total"] == 1
    assert rename(ada, published) == 404


def test_a_deny_wins_over_whatever_allows(root: SignedIn, ada: SignedIn, draft: str) -> None:
    ok(root.put(f"/users/{ada.user.id}/roles/editor"))
    assert rename(ada, draft) == 200

    deny = {"resource": "posts", "action": "update", "rule": "not r.obj.published", "effect": "deny"}
    ok(root.post("/roles/editor/permissions", json=deny))
    assert rename(ada, draft) == 403
    assert ada.get(draft).status_code == 200


def test_the_explanation_names_the_rules_that_decided(root: SignedIn, ada: SignedIn, draft: str) -> None:
    ok(root.put(f"/users/{ada.user.id}/roles/admin"))
    question = {"user_id": str(ada.user.id), "resource": "posts", "action": "update"}

    why = ok(root.post("/access/explain", json=question | {"object": draft.removeprefix("/posts/")})).json()

    assert (why["allowed"], why["roles"]) == (True, ["editor"])
    assert [(rule["action"], rule["rule"], rule["effect"]) for rule in why["matched"]] == [("update", None, "allow")]
