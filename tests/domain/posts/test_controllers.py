from collections.abc import Callable
from typing import Any
from uuid import uuid4

import pytest
from litestar import Litestar
from litestar.testing import TestClient
from sqlalchemy import Connection, select
from sqlalchemy.orm import Session

from app.domain.posts.models import Post
from tests.conftest import SignedIn
from tests.factories.posts import PostFactory

pytestmark = pytest.mark.integration
AsUser = Callable[..., SignedIn]


def post_of(session: Session, who: SignedIn, **fields: Any) -> Post:
    post = PostFactory.build(owner_id=who.user.id, **fields)
    session.add(post)
    session.commit()
    return post


def titles(who: SignedIn, **query: Any) -> list[str]:
    page = who.get("/posts", params={"sort": "title", **query}).json()
    assert page["total"] == len(page["items"])
    return [post["title"] for post in page["items"]]


def test_a_new_post_is_stored_as_a_draft_of_its_author(as_user: AsUser, connection: Connection) -> None:
    ada = as_user(role="editor")

    answer = ada.post("/posts", json={"title": "Notes", "body": "On the Analytical Engine."})

    assert answer.status_code == 201
    stored = connection.execute(
        select(Post.title, Post.body, Post.published, Post.owner_id).where(Post.id == answer.json()["id"])
    )
    assert stored.one() == ("Notes", "On the Analytical Engine.", False, ada.user.id)


@pytest.mark.parametrize(
    ("role", "statuses"),
    [
        (None, (403, 403, 403, 404, 404)),
        ("viewer", (200, 403, 200, 403, 403)),
        ("editor", (200, 201, 200, 200, 204)),
        ("admin", (200, 201, 200, 200, 204)),
    ],
)
def test_what_a_role_may_do_with_a_published_post_of_somebody_else(
    role: str | None, statuses: tuple[int, ...], as_user: AsUser, session: Session
) -> None:
    post = post_of(session, as_user(), published=True)
    eve = as_user(role=role)

    answers = (
        eve.get("/posts"),
        eve.post("/posts", json={"title": "Mine", "body": ""}),
        eve.get(f"/posts/{post.id}"),
        eve.patch(f"/posts/{post.id}", json={"title": "Mine"}),
        eve.delete(f"/posts/{post.id}"),
    )

    assert tuple(answer.status_code for answer in answers) == statuses


@pytest.mark.parametrize("method", ["GET", "PATCH", "DELETE"])
def test_somebody_elses_draft_looks_to_a_viewer_like_one_that_does_not_exist(
    method: str, as_user: AsUser, session: Session, connection: Connection
) -> None:
    draft = post_of(session, as_user(), title="Secret")
    eve = as_user(role="viewer")
    body = {"json": {"title": "Mine"}} if method == "PATCH" else {}

    theirs = eve.request(method, f"/posts/{draft.id}", **body)
    missing = eve.request(method, f"/posts/{uuid4()}", **body)

    assert theirs.status_code == missing.status_code == 404
    assert theirs.json()["detail"] == missing.json()["detail"]
    assert connection.scalar(select(Post.title).where(Post.id == draft.id)) == "Secret"


def test_drafts_are_listed_to_their_authors_and_to_editors_only(as_user: AsUser, session: Session) -> None:
    ada, eve = as_user(role="viewer"), as_user(role="viewer")
    for author, title, published in [(ada, "a", True), (ada, "b", False), (eve, "c", True), (eve, "d", False)]:
        post_of(session, author, title=title, published=published)

    assert titles(ada) == ["a", "b", "c"]
    assert titles(eve) == ["a", "c", "d"]
    assert titles(as_user(role="editor")) == titles(as_user(is_superuser=True)) == ["a", "b", "c", "d"]


@pytest.mark.parametrize(
    ("effect", "rule"),
    [("allow", "r.obj.published"), ("allow", "r.obj.owner_id != r.sub.id"), ("deny", "not r.obj.published")],
)
def test_a_list_shows_what_can_be_shown_one_by_one(effect: str, rule: str, as_user: AsUser, session: Session) -> None:
    ada, eve = as_user(role="editor"), as_user(role="viewer")
    posts = [post_of(session, who, published=published) for who in (ada, eve) for published in (True, False)]
    granted = {"resource": "posts", "action": "read", "rule": rule, "effect": effect}
    as_user(is_superuser=True).post("/roles/everyone/permissions", json=granted).raise_for_status()

    for who in (ada, eve, as_user()):
        answers = {str(post.id): who.get(f"/posts/{post.id}").status_code for post in posts}
        listed = who.get("/posts").json().get("items", [])
        assert {post["id"] for post in listed} == {post_id for post_id, status in answers.items() if status == 200}


def test_filters_and_search_find_nothing_that_is_not_theirs_to_see(as_user: AsUser, session: Session) -> None:
    ada, eve = as_user(role="editor"), as_user(role="viewer")
    post_of(session, ada, title="Open", published=True)
    post_of(session, ada, title="Secret", body="Bernoulli")

    assert titles(eve, published=False) == titles(eve, q="bernoulli") == titles(eve, q="secret") == []
    assert titles(eve, owner_id=str(ada.user.id)) == titles(eve, published=True) == ["Open"]
    assert titles(ada, published=False) == titles(ada, q="BERNOULLI") == ["Secret"]
    assert titles(ada, owner_id=str(eve.user.id)) == []


def test_an_author_keeps_the_own_posts_without_any_role(
    as_user: AsUser, session: Session, connection: Connection
) -> None:
    ada = as_user()
    draft = post_of(session, ada, title="Draft")

    changed = ada.patch(f"/posts/{draft.id}", json={"title": "Better", "published": True})

    assert (changed.status_code, changed.json()["title"], changed.json()["body"]) == (200, "Better", draft.body)
    assert ada.get("/posts").status_code == ada.get(f"/posts/{draft.id}").status_code == 403
    assert ada.delete(f"/posts/{draft.id}").status_code == 204
    assert connection.scalar(select(Post).where(Post.id == draft.id)) is None


def test_a_permission_of_everyone_lets_authors_without_a_role_read_their_own(as_user: AsUser, session: Session) -> None:
    ada, admin = as_user(), as_user(is_superuser=True)
    draft, other = post_of(session, ada, title="Draft"), post_of(session, admin, published=True)
    own = {"resource": "posts", "action": "read", "rule": "r.obj.owner_id == r.sub.id"}

    assert admin.post("/roles/everyone/permissions", json=own).status_code == 201

    assert titles(ada) == ["Draft"]
    assert [ada.get(f"/posts/{post.id}").status_code for post in (draft, other)] == [200, 404]


def test_a_change_leaves_what_was_not_sent(as_user: AsUser, session: Session) -> None:
    ada = as_user(role="viewer")
    post = post_of(session, ada, title="Notes", published=True)

    answer = ada.patch(f"/posts/{post.id}", json={"body": "More."}).json()

    assert (answer["title"], answer["body"], answer["published"]) == ("Notes", "More.", True)
    assert answer["updated_at"] > answer["created_at"]


@pytest.mark.parametrize(
    "query", ["sort=owner_id", "sort=published", "published=perhaps", "owner_id=1", "owner_id=%00"]
)
def test_a_bad_query_is_400_and_names_the_field(query: str, as_user: AsUser) -> None:
    answer = as_user(role="viewer").get(f"/posts?{query}")

    assert answer.status_code == 400
    assert [error["field"] for error in answer.json()["errors"]] == [query.partition("=")[0]]


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"title": "x"},
        {"body": "x"},
        {"title": "", "body": "x"},
        {"title": "x" * 201, "body": "x"},
        {"title": "two\nlines", "body": "x"},
        {"title": "x", "body": None},
        {"title": "x", "body": "\x00"},
        {"title": "x", "body": "x" * 100_001},
        {"title": "x", "body": "x", "published": "yes"},
        {"title": "x", "body": "x", "published": None},
        {"title": "x", "body": "x", "owner_id": str(uuid4())},
        [],
    ],
)
def test_a_bad_body_is_400_and_stores_nothing(body: object, as_user: AsUser) -> None:
    ada = as_user(role="editor")

    assert ada.post("/posts", json=body).status_code == 400
    assert titles(ada) == []


def test_nobody_sees_posts_without_signing_in(client: TestClient[Litestar], session: Session, as_user: AsUser) -> None:
    post = post_of(session, as_user(), published=True)

    assert client.get("/api/v1/posts").status_code == 401
    assert client.get(f"/api/v1/posts/{post.id}").status_code == 401
