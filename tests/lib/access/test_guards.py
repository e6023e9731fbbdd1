import time
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import pytest
from litestar import Controller, Litestar, Router, WebSocket, get, websocket

from app.lib.access.guards import (
    RECENT_SIGN_IN,
    Principal,
    UndeclaredAccessError,
    authenticated,
    guarded_routes,
    public,
    recently_authenticated,
)
from app.lib.errors import NotAuthenticatedError, ReauthenticationRequiredError

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
