"""SECURITY.md, lines 65 and 68, as far as they concern what permissions guard."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import UUID

import httpx
import pytest
from sqlalchemy import NullPool, create_engine, text

from tests.attack.conftest import Keel
from tests.attack.crowd import Crowd, Person
from tests.factories.posts import PostFactory
from tests.live import wait_until

pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module")
def crowd(keel: Keel) -> Iterator[Crowd]:
    crowd = Crowd(keel)
    yield crowd
    crowd.leave()


@pytest.fixture(scope="module")
def superuser(crowd: Crowd) -> Person:
    return crowd.people(1, is_superuser=True)[0]


@pytest.fixture
def author(crowd: Crowd) -> Person:
    return crowd.people(1)[0]


def somebody(crowd: Crowd, *, role: str | None = None) -> Person:
    return crowd.people(1, role=role)[0]


def post_by(crowd: Crowd, author: Person, **fields: Any) -> UUID:
    return crowd.store(PostFactory.build(owner_id=author.id, title=author.secret, **fields)).id


def give(keel: Keel, superuser: Person, user: Person, action: str, **more: str) -> None:
    """A permission for posts, or a denial."""
    with keel.client(token=superuser.token) as client:
        rule = {"resource": "posts", "action": action, **more}
        client.post(f"/users/{user.id}/permissions", json=rule).raise_for_status()


def title(keel: Keel, post_id: UUID) -> str:
    [row] = keel.rows("SELECT title FROM posts WHERE id = :id", id=post_id)
    return str(row.title)


def tried(client: httpx.Client, post_id: UUID) -> list[int]:
    return [
        client.get(f"/posts/{post_id}").status_code,
        client.patch(f"/posts/{post_id}", json={}).status_code,
        client.patch(f"/posts/{post_id}", json={"title": "Mine"}).status_code,
        client.delete(f"/posts/{post_id}").status_code,
    ]


@pytest.mark.attack(65)
def test_a_permission_for_one_post_opens_no_other(keel: Keel, crowd: Crowd, superuser: Person, author: Person) -> None:
    eve, one, other = somebody(crowd), post_by(crowd, author), post_by(crowd, author)
    give(keel, superuser, eve, "read", object_id=str(one))
    with keel.client(token=eve.token) as client:
        listed = client.get("/posts").json()

        assert [post["id"] for post in listed["items"]] == [str(one)]
        assert listed["total"] == 1
        assert client.get(f"/posts/{one}").status_code == 200
        assert tried(client, other) == [404] * 4
        assert client.patch(f"/posts/{one}", json={"title": "Mine"}).status_code == 403
        assert client.delete(f"/posts/{one}").status_code == 403
    assert title(keel, one) == title(keel, other) == author.secret


@pytest.mark.attack(65)
def test_a_post_that_an_editor_may_not_read_does_not_exist_for_them(
    keel: Keel, crowd: Crowd, superuser: Person, author: Person
) -> None:
    eve, hidden = somebody(crowd, role="editor"), post_by(crowd, author, published=True)
    give(keel, superuser, eve, "read", object_id=str(hidden), effect="deny")
    with keel.client(token=eve.token) as client:
        assert client.get("/posts", params={"q": author.secret}).json()["total"] == 0
        assert tried(client, hidden) == [404] * 4
    assert title(keel, hidden) == author.secret


@pytest.mark.attack(65)
def test_whoever_may_write_and_change_drafts_only_publishes_nothing(
    keel: Keel, crowd: Crowd, superuser: Person, author: Person
) -> None:
    eve, draft = somebody(crowd), post_by(crowd, author)
    for action in ("create", "update"):
        give(keel, superuser, eve, action, rule="not r.obj.published")
    with keel.client(token=eve.token) as client:
        new = {"title": eve.secret, "body": "x"}
        refused = [
            client.patch(f"/posts/{draft}", json={"published": True}),
            client.patch(f"/posts/{draft}", json={"title": "Mine", "published": True}),
            client.post("/posts", json=new | {"published": True}),
        ]

        assert [answer.status_code for answer in refused] == [403] * 3
        assert author.secret not in "".join(answer.text for answer in refused)
        assert client.post("/posts", json=new).status_code == 201
    stored = keel.rows(
        "SELECT title FROM posts WHERE owner_id IN (:eve, :ada) AND published", eve=eve.id, ada=author.id
    )
    assert stored == []
    assert title(keel, draft) == author.secret


@pytest.mark.attack(65)
def test_nobody_takes_a_post_over_or_writes_one_in_anothers_name(keel: Keel, crowd: Crowd, author: Person) -> None:
    eve, post = somebody(crowd, role="editor"), post_by(crowd, author)
    with keel.client(token=eve.token) as client:
        stolen = client.patch(f"/posts/{post}", json={"owner_id": str(eve.id)})
        foisted = client.post("/posts", json={"title": "x", "body": "x", "owner_id": str(author.id)})

    assert (stolen.status_code, foisted.status_code) == (400, 400)
    owners = keel.rows("SELECT owner_id FROM posts WHERE owner_id IN (:eve, :ada)", eve=eve.id, ada=author.id)
    assert [row.owner_id for row in owners] == [author.id]


@pytest.mark.attack(65)
def test_an_api_key_does_no_more_than_its_owner_and_its_scopes(keel: Keel, crowd: Crowd, author: Person) -> None:
    scopes = [f"posts:{action}" for action in ("read", "create", "update", "delete")]
    viewer, editor, post = somebody(crowd, role="viewer"), somebody(crowd, role="editor"), post_by(crowd, author)
    with keel.client(token=crowd.key_of(viewer, *scopes)) as client:
        assert client.post("/posts", json={"title": "x", "body": "x"}).status_code == 403
        assert tried(client, post) == [404] * 4
    with keel.client(token=crowd.key_of(editor, "posts:read")) as client:
        assert tried(client, post) == [200, 403, 403, 403]
        assert client.post("/posts", json={"title": "x", "body": "x"}).status_code == 403
    assert title(keel, post) == author.secret


@pytest.mark.attack(68)
def test_a_role_that_is_taken_at_one_process_is_gone_at_the_other_and_authors_keep_what_they_wrote(
    keel: Keel, crowd: Crowd, superuser: Person
) -> None:
    ada = somebody(crowd, role="editor")
    own = post_by(crowd, ada)
    with keel.client(keel.there, token=ada.token) as there, keel.client(token=superuser.token) as here:
        wait_until(lambda: there.get("/posts").status_code == 200, seconds=2)
        here.delete(f"/users/{ada.id}/roles/editor").raise_for_status()

        wait_until(lambda: there.get("/posts").status_code == 403, seconds=2)
        assert there.post("/posts", json={"title": "x", "body": "x"}).status_code == 403
        assert there.patch(f"/posts/{own}", json={"title": "Still mine"}).status_code == 200
    assert title(keel, own) == "Still mine"


@pytest.mark.attack(65)
def test_a_draft_that_is_published_meanwhile_is_not_changed_by_whoever_may_change_drafts_only(
    keel: Keel, crowd: Crowd, superuser: Person, author: Person
) -> None:
    eve, post = somebody(crowd), post_by(crowd, author)
    give(keel, superuser, eve, "update", rule="not r.obj.published")
    publishing = create_engine(keel.url, poolclass=NullPool)
    waiting = "SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE '%FROM posts%'"
    with keel.client(token=eve.token) as client, ThreadPoolExecutor(1) as thread, publishing.connect() as editor:
        editor.execute(text("UPDATE posts SET published = true WHERE id = :id"), {"id": post})
        answer = thread.submit(client.patch, f"/posts/{post}", json={"title": "Mine"})
        wait_until(lambda: bool(keel.rows(waiting)), seconds=5)
        editor.commit()

        assert answer.result().status_code == 404
    assert title(keel, post) == author.secret
