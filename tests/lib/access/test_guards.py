import time
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import pytest
from litestar import Controller, Litestar, Router, WebSocket, get, websocket

from app.domain.access.models import Permission
from app.lib.access.control import AccessControl
from app.lib.access.guards import (
    RECENT_SIGN_IN,
    Principal,
    Rule,
    UndeclaredAccessError,
    authenticated,
    guarded_routes,
    public,
    recently_authenticated,
    requires,
    requires_role,
)
from app.lib.access.policy import Grant, Policy
from app.lib.errors import (
    NotAuthenticatedError,
    OverloadedError,
    PermissionDeniedError,
    ReauthenticationRequiredError,
    ScopeRequiredError,
)
from app.lib.origin import Origin, current_origin, originating

pytestmark = pytest.mark.unit


@get("/open", guards=[public], sync_to_thread=False)
def declared() -> None: ...


@get("/forgotten", sync_to_thread=False)
def forgotten() -> None: ...


@websocket("/talk")
async def talk(socket: WebSocket[Any, Any, Any]) -> None:
    await socket.close()


class Forgetful(Controller):
    path = "/things"

    @get("/{thing:int}", sync_to_thread=False)
    def show(self) -> None: ...


def test_routes_that_declare_nothing_stop_the_start_and_are_all_named() -> None:
    app = Litestar([declared, Router("/api", route_handlers=[forgotten, Forgetful])], openapi_config=None)

    with pytest.raises(UndeclaredAccessError) as refused:
        guarded_routes(app)
    assert str(refused.value).endswith("on: GET /api/forgotten, GET /api/things/{thing}")


def test_the_rules_of_all_layers_count_together() -> None:
    app = Litestar([Router("/api", route_handlers=[declared, forgotten], guards=[authenticated])], openapi_config=None)

    assert {route.path: (route.rules, route.is_public) for route in guarded_routes(app)} == {
        "/api/open": ((authenticated, public), False),
        "/api/forgotten": ((authenticated,), False),
    }


def test_a_websocket_is_a_route_like_any_other() -> None:
    app = Litestar([talk], openapi_config=None)

    with pytest.raises(UndeclaredAccessError, match="on: CONNECT /talk"):
        guarded_routes(app)


@pytest.mark.parametrize(("age", "is_let_in"), [(0, True), (RECENT_SIGN_IN - 5, True), (RECENT_SIGN_IN + 5, False)])
def test_a_recent_sign_in_is_recent_for_some_minutes(age: int, *, is_let_in: bool) -> None:
    known = int(time.time()) - age
    principal = Principal(id=uuid4(), session_id=uuid4(), is_superuser=True, authenticated_at=known)
    connection: Any = SimpleNamespace(scope={"user": principal, "auth": None})

    if is_let_in:
        recently_authenticated.check(connection)
    else:
        with pytest.raises(ReauthenticationRequiredError):
            recently_authenticated.check(connection)


def test_a_recent_sign_in_is_a_sign_in() -> None:
    connection: Any = SimpleNamespace(scope={"user": None, "auth": None})

    with pytest.raises(NotAuthenticatedError):
        recently_authenticated.check(connection)


def principal(**fields: Any) -> Principal:
    known: dict[str, Any] = {"id": uuid4(), "session_id": uuid4(), "is_superuser": False, "authenticated_at": 0}
    return Principal(**known | fields)


def asking(user: Principal | None, access: AccessControl, *, auth: Exception | None = None, **opt: str) -> Any:
    """A GET by somebody, on a route with these options."""
    scope = {"user": user, "auth": auth, "method": "GET", "route_handler": SimpleNamespace(opt=opt)}
    return SimpleNamespace(scope=scope, app=SimpleNamespace(state=SimpleNamespace(access=access)))


def access_of(user: Principal) -> AccessControl:
    """An editor, who may read the audit log."""
    access = AccessControl()
    grants = [Grant(uuid4(), "role:editor", Permission.AUDIT_READ)]
    access.policy = Policy(grants=grants, assignments={user.id: {"editor"}})
    return access


RULES = [requires(Permission.AUDIT_READ), requires_role("editor")]


@pytest.fixture(autouse=True)
def request_of_its_own() -> Iterator[None]:
    """A guard notes its permission there; without one, all later tests of this process would have it."""
    with originating(Origin()):
        yield


def by_name(rule: Rule) -> str:
    return rule.name


@pytest.mark.parametrize("rule", RULES, ids=by_name)
def test_a_permission_and_a_role_let_those_pass_who_have_them(rule: Rule) -> None:
    editor = principal()
    access = access_of(editor)

    rule.check(asking(editor, access))
    assert current_origin().permission == rule.permission
    rule.check(asking(principal(is_superuser=True), access))
    with pytest.raises(PermissionDeniedError):
        rule.check(asking(principal(), access))


@pytest.mark.parametrize("rule", RULES, ids=by_name)
def test_they_ask_who_it_is_first(rule: Rule) -> None:
    access = access_of(principal())

    with pytest.raises(NotAuthenticatedError):
        rule.check(asking(None, access))
    with pytest.raises(OverloadedError):
        rule.check(asking(None, access, auth=OverloadedError()))


def test_an_api_key_needs_the_scope_of_the_route_and_that_of_the_permission() -> None:
    editor = principal(scopes=frozenset({"audit:read"}))
    access = access_of(editor)
    rule = requires(Permission.AUDIT_READ)

    rule.check(asking(editor, access, scope="audit"))
    for elsewhere in (asking(editor, access), asking(editor, access, scope="posts")):
        with pytest.raises(ScopeRequiredError):
            rule.check(elsewhere)
    with pytest.raises(PermissionDeniedError):
        requires(Permission.JOBS_READ).check(asking(editor, access, scope="audit"))
    with pytest.raises(PermissionDeniedError):
        requires_role("editor").check(asking(editor, access, scope="audit"))


def test_a_permission_says_which_it_is() -> None:
    assert requires(Permission.AUDIT_READ).permission is Permission.AUDIT_READ
    assert [rule.name for rule in RULES] == ["requires audit:read", "requires role editor"]
    assert not any(rule.is_public for rule in RULES)
