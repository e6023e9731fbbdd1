"""What posts ask of the policy, with policies of the tests' own."""

import time
from uuid import UUID, uuid4

import pytest
from sqlalchemy.orm import Session
from uuid_utils.compat import uuid7

from app.domain.access.models import Permission
from app.domain.posts.models import Post
from app.domain.posts.schemas import PostUpdate
from app.domain.posts.services import PostService
from app.lib.access.control import AccessControl
from app.lib.access.guards import Principal
from app.lib.access.policy import DENY, Grant, Policy
from app.lib.errors import NotFoundError, PermissionDeniedError
from tests.factories.posts import PostFactory
from tests.factories.users import UserFactory

pytestmark = pytest.mark.integration

DRAFTS = "not r.obj.published"


def principal(user_id: UUID, *scopes: str) -> Principal:
    return Principal(
        id=user_id,
        session_id=uuid4(),
        is_superuser=False,
        authenticated_at=int(time.time()),
        scopes=frozenset(scopes) or None,
    )


def access_to(*grants: tuple[Permission, str | None, str]) -> AccessControl:
    """Of the role of everybody: (permission, rule, effect)."""
    access = AccessControl()
    access.policy = Policy(grants=[Grant(uuid7(), "role:everyone", one, None, rule, eff) for one, rule, eff in grants])
    return access


def allow(permission: Permission, rule: str | None = None) -> tuple[Permission, str | None, str]:
    return permission, rule, "allow"


def deny(permission: Permission, rule: str | None = None) -> tuple[Permission, str | None, str]:
    return permission, rule, DENY


@pytest.fixture
def post(session: Session) -> Post:
    author = UserFactory.build()
    session.add(author)
    session.flush()
    post = PostFactory.build(owner_id=author.id)
    session.add(post)
    session.flush()
    return post


def test_what_may_be_changed_is_known_to_whoever_may_change_it(session: Session, post: Post) -> None:
    access = access_to(allow(Permission.POSTS_UPDATE))

    assert PostService(session).get_for(Permission.POSTS_UPDATE, post.id, principal(uuid4()), access) is post


def test_what_may_be_read_only_is_refused_and_what_may_not_even_be_read_does_not_exist(
    session: Session, post: Post
) -> None:
    posts, eve = PostService(session), principal(uuid4())

    with pytest.raises(PermissionDeniedError):
        posts.get_for(Permission.POSTS_UPDATE, post.id, eve, access_to(allow(Permission.POSTS_READ)))
    with pytest.raises(NotFoundError):
        posts.get_for(Permission.POSTS_UPDATE, post.id, eve, access_to(allow(Permission.POSTS_DELETE)))


def test_a_deny_wins_over_being_the_author(session: Session, post: Post) -> None:
    access = access_to(allow(Permission.POSTS_UPDATE, "r.obj.owner_id == r.sub.id"), deny(Permission.POSTS_UPDATE))

    with pytest.raises(NotFoundError):
        PostService(session).get_for(Permission.POSTS_UPDATE, post.id, principal(post.owner_id), access)


def test_what_one_is_denied_to_read_no_change_shows(session: Session, post: Post) -> None:
    access = access_to(allow(Permission.POSTS_UPDATE), deny(Permission.POSTS_READ, DRAFTS))

    with pytest.raises(NotFoundError):
        PostService(session).get_for(Permission.POSTS_UPDATE, post.id, principal(uuid4()), access)


def test_who_may_only_change_drafts_cannot_publish_one(session: Session, post: Post) -> None:
    posts, me = PostService(session), principal(post.owner_id)
    access = access_to(allow(Permission.POSTS_UPDATE, DRAFTS))

    assert posts.change(post, PostUpdate(title="Better"), me, access).title == "Better"
    with pytest.raises(PermissionDeniedError):
        posts.change(post, PostUpdate(published=True), me, access)


def test_who_may_only_write_drafts_cannot_write_what_is_published(session: Session, post: Post) -> None:
    posts, me = PostService(session), principal(post.owner_id)
    access = access_to(allow(Permission.POSTS_CREATE, DRAFTS))

    assert not posts.write(PostFactory.build(owner_id=me.id), me, access).published
    with pytest.raises(PermissionDeniedError):
        posts.write(PostFactory.build(owner_id=me.id, published=True), me, access)


def test_an_api_key_changes_posts_by_its_own_scope(session: Session, post: Post) -> None:
    posts, access = PostService(session), access_to(allow(Permission.POSTS_UPDATE), allow(Permission.POSTS_READ))

    assert posts.get_for(Permission.POSTS_UPDATE, post.id, principal(uuid4(), "posts:update"), access) is post
    with pytest.raises(PermissionDeniedError):
        posts.get_for(Permission.POSTS_UPDATE, post.id, principal(uuid4(), "posts:read"), access)
