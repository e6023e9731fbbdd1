"""Who may call a route. Every route declares it; a route that does not stops the application from starting."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple
from uuid import UUID

from litestar import Litestar
from litestar.connection import ASGIConnection
from litestar.di import NamedDependency
from litestar.handlers import BaseRouteHandler, HTTPRouteHandler
from litestar.routes import HTTPRoute
from msgspec import Struct

from app.lib.errors import NotAuthenticatedError


class Principal(Struct, frozen=True):
    """Who asks, as the access token says: known without a query."""

    id: UUID
    session_id: UUID
    is_superuser: bool


CurrentUser = NamedDependency[Principal]


@dataclass(frozen=True)
class Rule:
    """A guard that declares who may call the routes below it."""

    name: str
    check: Callable[[ASGIConnection[Any, Any, Any, Any]], None]
    is_public: bool = False

    async def __call__(self, connection: ASGIConnection[Any, Any, Any, Any], _: BaseRouteHandler) -> None:
        """Runs on the event loop, so it only computes."""
        self.check(connection)


class UndeclaredAccessError(Exception):
    """Routes say nothing about who may call them."""


class GuardedRoute(NamedTuple):
    method: str
    path: str
    handler: HTTPRouteHandler
    rule: "Rule"


def guarded_routes(app: Litestar) -> list[GuardedRoute]:
    """Every route with its innermost rule. Raises UndeclaredAccessError, naming all that have none."""
    routes = [
        (method, route.path_format, handler)
        for route in app.routes
        if isinstance(route, HTTPRoute)
        for handler in route.route_handlers
        # Litestar adds an OPTIONS handler to each path; it tells the methods and nothing else.
        for method in sorted(handler.http_methods - {"OPTIONS"})
    ]
    if undeclared := [f"{method} {path}" for method, path, handler in routes if not _rules(handler)]:
        raise UndeclaredAccessError("no access rule (guards=[...]) on: " + ", ".join(undeclared))
    return [GuardedRoute(method, path, handler, _rules(handler)[-1]) for method, path, handler in routes]


def _rules(handler: HTTPRouteHandler) -> list["Rule"]:
    guards = [guard for layer in handler.ownership_layers for guard in layer.guards or ()]
    return [guard for guard in guards if isinstance(guard, Rule)]


def _anyone(_: ASGIConnection[Any, Any, Any, Any]) -> None:
    return None


def _signed_in(connection: ASGIConnection[Any, Any, Any, Any]) -> None:
    """`scope["auth"]` is why nobody is known, in case the request tried."""
    if connection.scope["user"] is None:
        raise connection.scope["auth"] or NotAuthenticatedError


public = Rule("public", _anyone, is_public=True)
authenticated = Rule("authenticated", _signed_in)
