import pytest
from litestar import Controller, Litestar, Router, get

from app.lib.access import UndeclaredAccessError, authenticated, guarded_routes, public

pytestmark = pytest.mark.unit


@get("/open", guards=[public], sync_to_thread=False)
def declared() -> None: ...


@get("/forgotten", sync_to_thread=False)
def forgotten() -> None: ...


class Forgetful(Controller):
    path = "/things"

    @get("/{thing:int}", sync_to_thread=False)
    def show(self) -> None: ...


def test_routes_that_declare_nothing_stop_the_start_and_are_all_named() -> None:
    app = Litestar([declared, Router("/api", route_handlers=[forgotten, Forgetful])], openapi_config=None)

    with pytest.raises(UndeclaredAccessError) as refused:
        guarded_routes(app)
    assert str(refused.value).endswith("on: GET /api/forgotten, GET /api/things/{thing}")


def test_a_rule_on_any_layer_is_a_declaration_and_the_innermost_counts() -> None:
    app = Litestar([Router("/api", route_handlers=[declared, forgotten], guards=[authenticated])], openapi_config=None)

    assert {route.path: route.rule for route in guarded_routes(app)} == {
        "/api/open": public,
        "/api/forgotten": authenticated,
    }
