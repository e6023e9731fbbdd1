from collections.abc import Callable
from typing import Any
from uuid import UUID, uuid4

import msgspec
import pytest
from litestar import Litestar, get
from litestar.testing import TestClient
from sqlalchemy import update
from sqlalchemy.orm import Session

from app.domain.access.models import PermissionGrant
from app.domain.audit.models import AuditEvent
from app.domain.posts.models import Post
from app.lib.access.guards import UndeclaredAccessError
from app.lib.errors import InvalidInputError, NotFoundError
from app.server.access import AccessInspection
from tests.conftest import SignedIn
from tests.factories.audit_events import AuditEventFactory
from tests.factories.posts import PostFactory

pytestmark = pytest.mark.integration
AsUser = Callable[..., SignedIn]


@get("/forgotten", sync_to_thread=False)
def forgotten() -> None: ...


@pytest.fixture
def inspection(client: TestClient[Litestar]) -> AccessInspection:
    return AccessInspection(client.app.state.database)


def change(exported: bytes, act: Callable[[Any], object]) -> bytes:
    document = msgspec.json.decode(exported)
    act(document)
    return msgspec.json.encode(document)


def test_every_route_is_listed_with_its_rule(inspection: AccessInspection, app: Litestar) -> None:
    routes = {(route.method, route.path): (route.rule, route.scope) for route in inspection.routes(app)}

    assert routes["GET", "/api/v1/users"] == ("requires users:read", "users:read")
    assert routes["DELETE", "/api/v1/users/{user_id}"] == ("requires users:delete and recently_authenticated", None)
    assert routes["POST", "/api/v1/auth/login"] == ("public", None)
    assert all(rule for rule, _ in routes.values())


def test_there_are_no_gaps(inspection: AccessInspection, app: Litestar) -> None:
    assert inspection.gaps(app) == []


def test_a_route_without_a_rule_is_named(inspection: AccessInspection, app: Litestar) -> None:
    with pytest.raises(UndeclaredAccessError, match="GET /forgotten"):
        inspection.routes(Litestar([forgotten], openapi_config=None))


@pytest.mark.parametrize(
    ("grant", "said"),
    [
        ({"resource": "secrets"}, "role viewer: secrets:read is no permission"),
        ({"action": "fly"}, "role viewer: posts:fly is no permission"),
        ({"rule": "r.obj.colour"}, "role viewer: the rule of posts:read cannot be read: There is no `r.obj.colour`"),
        (
            {"resource": "jobs", "object_id": UUID(int=1)},
            "role viewer: jobs:read has a condition, but jobs have no objects",
        ),
    ],
    ids=["resource", "action", "rule", "object"],
)
def test_a_grant_that_means_nothing_is_a_gap(
    grant: dict[str, Any], said: str, inspection: AccessInspection, app: Litestar, as_user: AsUser, session: Session
) -> None:
    viewer = as_user(is_superuser=True).get("/roles/viewer").json()["id"]
    row = PermissionGrant(**{"role_id": viewer, "resource": "posts", "action": "read"} | grant)
    session.add(row)
    session.commit()

    [gap] = inspection.gaps(app)

    assert gap.startswith(said)


def test_a_permission_that_nobody_has_is_a_gap(inspection: AccessInspection, app: Litestar, session: Session) -> None:
    session.execute(update(PermissionGrant).where(PermissionGrant.resource == "jobs").values(effect="deny"))
    session.commit()

    assert inspection.gaps(app) == [
        f"jobs:{action} is required by a route and given to nobody" for action in ("read", "update")
    ]


def test_an_explanation_is_asked_by_id_or_by_address(inspection: AccessInspection, as_user: AsUser) -> None:
    editor = as_user(role="editor")

    by_id, by_address = (
        inspection.explain(who, "posts", "create", None) for who in (str(editor.user.id), editor.user.email.upper())
    )

    assert (by_id.allowed, by_id.roles, by_id) == (True, ["editor"], by_address)


@pytest.mark.parametrize("who", ["nobody@example.com", "nobody", "", "0198c2a0-0000-7000-8000-000000000001"])
def test_nobody_is_explained_who_is_not_there(who: str, inspection: AccessInspection) -> None:
    with pytest.raises(NotFoundError):
        inspection.explain(who, "posts", "create", None)


def test_the_exported_policy_changes_no_decision(
    inspection: AccessInspection, as_user: AsUser, session: Session
) -> None:
    ada = as_user(role="viewer")
    session.add(AuditEventFactory.build(actor_id=ada.user.id, permission="posts:read", attributes=None))
    session.commit()

    assert inspection.flips(inspection.export()) == []


def test_the_decisions_that_another_policy_would_change_are_listed(
    inspection: AccessInspection, as_user: AsUser, session: Session
) -> None:
    ada, root = as_user(role="viewer"), as_user(is_superuser=True)
    draft: Post = PostFactory.build(owner_id=root.user.id, published=False)
    seen = {"id": str(uuid4()), "owner_id": str(root.user.id), "published": True}
    unseen = {"id": str(uuid4()), "owner_id": str(root.user.id), "published": False}
    asked = [(ada, "posts:read", seen), (ada, "posts:read", unseen), (ada, "posts:create", None)]
    asked += [(root, "posts:read", seen), (ada, "secrets:read", None), (ada, "posts:read", seen)]
    for who, permission, attributes in asked:
        session.add(AuditEventFactory.build(actor_id=who.user.id, permission=permission, attributes=attributes))
    session.add(draft)
    session.commit()

    def only_drafts_and_creation(document: Any) -> None:
        permissions = document["roles"]["viewer"]["permissions"]
        permissions[0]["rule"] = "not r.obj.published"
        permissions.append({"resource": "posts", "action": "create"})

    flips = inspection.flips(change(inspection.export(), only_drafts_and_creation))

    assert {(flip.email, flip.permission, str(flip.attributes), flip.is_allowed) for flip in flips} == {
        (ada.user.email, "posts:read", str(seen), True),
        (ada.user.email, "posts:read", str(unseen), False),
        (ada.user.email, "posts:create", "None", False),
    }
    assert len(flips) == 3, "each once"


def test_a_user_and_their_own_permissions_are_exported(inspection: AccessInspection, as_user: AsUser) -> None:
    ada, root = as_user(role="editor"), as_user(is_superuser=True)
    grant = {"resource": "posts", "action": "delete", "object_id": str(uuid4()), "effect": "deny"}
    root.post(f"/users/{ada.user.id}/permissions", json=grant).raise_for_status()

    document = msgspec.json.decode(inspection.export())

    assert document["users"][str(ada.user.id)] == {"roles": ["editor"], "permissions": [grant]}
    assert document["roles"]["editor"]["parents"] == ["viewer"]


@pytest.mark.parametrize(
    "document",
    [
        b"",
        b"[]",
        b"{}",
        b"\xff",
        b'{"roles": {}, "more": 1}',
        b'{"roles": {"a": {"parents": ["b"]}}}',
        b'{"roles": {}, "users": {"me": {}}}',
        b'{"roles": {"a": {"permissions": [{"resource": "posts", "action": "fly"}]}}}',
        b'{"roles": {"a": {"permissions": [{"resource": "posts", "action": "read", "rule": "1 +"}]}}}',
        b'{"roles": {"a": {"permissions": [{"resource": "posts", "action": "read", "effect": "x"}]}}}',
    ],
)
def test_what_is_no_policy_is_refused(document: bytes, inspection: AccessInspection) -> None:
    with pytest.raises(InvalidInputError):
        inspection.flips(document)


def test_explaining_from_the_command_line_is_recorded(
    inspection: AccessInspection, as_user: AsUser, session: Session
) -> None:
    ada = as_user()

    inspection.explain(str(ada.user.id), "posts", "create", None)

    [event] = session.query(AuditEvent).where(AuditEvent.subject_id == str(ada.user.id))
    assert (event.action, event.actor_id) == ("access.explained", None)
