from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy import select
from sqlalchemy.dialects.postgresql.psycopg import PGDialect_psycopg

from app.domain.access.models import Permission
from app.domain.posts.models import Post
from app.lib.access.control import AccessControl
from app.lib.access.guards import Principal
from app.lib.access.policy import DENY, Grant, Policy
from app.lib.errors import PermissionDeniedError

pytestmark = pytest.mark.unit

POSTGRESQL: Any = PGDialect_psycopg()  # type: ignore[no-untyped-call]  # SQLAlchemy has no types here
READ, UPDATE = Permission.POSTS_READ, Permission.POSTS_UPDATE


def user(*scopes: str, is_superuser: bool = False, is_key: bool = False) -> Principal:
    return Principal(
        id=uuid4(),
        session_id=uuid4(),
        is_superuser=is_superuser,
        authenticated_at=0,
        scopes=frozenset(scopes) if scopes or is_key else None,
    )


def post(owner_id: UUID | None = None) -> Post:
    return Post(id=uuid4(), owner_id=owner_id or uuid4(), title="Tea", body="", published=True)


def access_by(*grants: Grant, **policy: Any) -> AccessControl:
    access = AccessControl()
    access.policy = Policy(grants=grants, **policy)
    return access


def sql(condition: Any) -> str:
    return str(select(Post.id).where(condition).compile(dialect=POSTGRESQL)).partition(" \nWHERE ")[2]


def everyone(permission: str, **fields: Any) -> Grant:
    return Grant(uuid4(), "role:everyone", permission, **fields)


def test_before_a_policy_is_known_only_superusers_may_anything() -> None:
    access = AccessControl()

    assert not access.may(user(), READ)
    assert not access.allows(user(), READ, post())
    assert sql(access.where(user(), READ, Post)) == "false"
    assert access.may(user(is_superuser=True), READ)


def test_superusers_may_everything_and_no_deny_stops_them() -> None:
    access = access_by(everyone(READ, effect=DENY))
    root = user(is_superuser=True)

    assert access.may(root, READ)
    assert access.allows(root, UPDATE, post())
    assert access.has_role(root, "whatever")
    assert sql(access.where(root, READ, Post)) == "true"


@pytest.mark.parametrize("is_superuser", [True, False])
def test_an_api_key_may_what_its_owner_may_and_its_scopes_say(*, is_superuser: bool) -> None:
    access = access_by(everyone(READ), everyone(UPDATE))
    reading = user(READ, is_superuser=is_superuser)

    assert access.may(reading, READ)
    assert access.allows(reading, READ, post())
    assert not access.may(reading, UPDATE)
    assert not access.allows(reading, UPDATE, post())
    assert sql(access.where(reading, UPDATE, Post)) == "false"
    assert not access.may(user(is_key=True, is_superuser=is_superuser), READ)


def test_a_scope_gives_nothing_that_its_owner_does_not_have() -> None:
    access = AccessControl()

    assert not access.may(user(READ), READ)
    assert not access.allows(user(READ), READ, post())
    assert sql(access.where(user(READ), READ, Post)) == "false"


def test_an_api_key_has_no_role() -> None:
    key, person = user(READ), user()
    access = access_by(assignments={key.id: {"editor"}, person.id: {"editor"}}, parents={"editor": {"viewer"}})

    assert access.has_role(person, "editor")
    assert access.has_role(person, "viewer")
    assert access.has_role(person, "everyone")
    assert not access.has_role(person, "admin")
    assert not access.has_role(key, "editor")
    assert not access.has_role(user(READ, is_superuser=True), "editor")


def test_a_check_lets_pass_or_raises() -> None:
    access = access_by(everyone(READ, rule="r.obj.owner_id == r.sub.id"))
    me = user()

    access.check(me, READ, post(me.id))
    with pytest.raises(PermissionDeniedError):
        access.check(me, READ, post())


def test_rules_meet_the_row_as_it_is_now_not_as_it_was() -> None:
    access = access_by(everyone(UPDATE, rule="not r.obj.published"))
    me, draft = user(), post()
    draft.published = False

    assert access.allows(me, UPDATE, draft)
    draft.published = True
    assert not access.allows(me, UPDATE, draft)


def test_a_condition_carries_values_as_parameters_and_can_use_an_index() -> None:
    access = access_by(
        everyone(READ, rule="r.obj.published or r.obj.owner_id == r.sub.id"),
        everyone(READ, object_id=uuid4(), effect=DENY),
    )

    assert sql(access.where(user(), READ, Post)) == (
        "(posts.published = %(param_1)s OR posts.owner_id = %(param_2)s::UUID) "
        "AND NOT (posts.id = ANY (%(param_3)s::UUID[]))"
    )


def test_a_new_policy_counts_at_once() -> None:
    access, me = access_by(everyone(READ)), user()
    assert access.may(me, READ)

    access.policy = Policy(version=2)

    assert not access.may(me, READ)
