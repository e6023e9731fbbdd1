"""Who may call a route. Every route declares it; a route that does not stops the application from starting."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, NamedTuple
from uuid import UUID

from litestar import Litestar
from litestar.connection import ASGIConnection
from litestar.di import NamedDependency
from litestar.handlers import BaseRouteHandler, HTTPRouteHandler
from litestar.routes import HTTPRoute
from msgspec import Struct

from app.lib.errors import (
    NotAuthenticatedError,
    PermissionDeniedError,
    ReauthenticationRequiredError,
    ScopeRequiredError,
)
from app.lib.origin import note_permission

RECENT_SIGN_IN = 10 * 60
"""Seconds after a sign-in in which what could lock the owner out is allowed (ASVS 7.5.1)."""


ACTIONS = {"GET": "read", "HEAD": "read", "POST": "create", "PUT": "update", "PATCH": "update", "DELETE": "delete"}
"""What a method does to a resource, in the words of scopes."""


class Principal(Struct, frozen=True):
    """Who asks, as the access token or the API key says: known without a query."""

    id: UUID
    session_id: UUID
    """The session by which they ask, or the API key."""
    is_superuser: bool
    authenticated_at: int
    """When this session last proved who it is, in seconds since the epoch (`auth_time` of OpenID Connect).
    0 for an API key, which never does."""
    scopes: frozenset[str] | None = None
    """What the API key may be used for. None: a session, which may do all that its owner may."""

    def has_scope(self, scope: str) -> bool:
        return self.scopes is None or scope in self.scopes


CurrentUser = NamedDependency[Principal]


@dataclass(frozen=True)
class Rule:
    """A guard that declares who may call the routes below it."""

    name: str
    check: Callable[[ASGIConnection[Any, Any, Any, Any]], None]
    is_public: bool = False
    permission: StrEnum | None = None
    """Which the caller must hold for something; whether for the object of the request, the service asks."""
    role: str | None = None

    async def __call__(self, connection: ASGIConnection[Any, Any, Any, Any], _: BaseRouteHandler) -> None:
        """Runs on the event loop, so it only computes."""
        self.check(connection)


def scope_of(handler: BaseRouteHandler, method: str) -> str | None:
    """What an API key needs for this route: `items:read` for a GET that says `scope="items"`, or a scope that it says
    whole. None: it says nothing, so no API key is accepted."""
    said, action = handler.opt.get("scope"), ACTIONS.get(method)
    if said is None or action is None:
        return None
    return said if ":" in said else f"{said}:{action}"


class UndeclaredAccessError(Exception):
    """Routes say nothing about who may call them."""


class GuardedRoute(NamedTuple):
    """`rules` are those of all layers, from the router to the handler: each of them must agree."""

    method: str
    path: str
    handler: BaseRouteHandler
    rules: tuple[Rule, ...]

    @property
    def is_public(self) -> bool:
        return all(rule.is_public for rule in self.rules)


def guarded_routes(app: Litestar) -> list[GuardedRoute]:
    """Every route with its rules. Raises UndeclaredAccessError, naming all that have none."""
    routes = [
        GuardedRoute(method, route.path_format, handler, _rules(handler))
        for route in app.routes
        for handler in (route.route_handlers if isinstance(route, HTTPRoute) else [route.route_handler])
        for method in _methods(handler)
    ]
    if undeclared := [f"{route.method} {route.path}" for route in routes if not route.rules]:
        raise UndeclaredAccessError(
            "no access rule (guards = [authenticated], [requires(...)] or [public]) on: " + ", ".join(undeclared)
        )
    return routes


def api_scopes(app: Litestar) -> list[str]:
    """Every scope that some route asks for."""
    found = {scope_of(route.handler, route.method) for route in guarded_routes(app)}
    return sorted(scope for scope in found if scope)


def _methods(handler: BaseRouteHandler) -> list[str]:
    """Litestar adds an OPTIONS handler to each path; it tells the methods and nothing else."""
    return sorted(handler.http_methods - {"OPTIONS"}) if isinstance(handler, HTTPRouteHandler) else ["CONNECT"]


def _rules(handler: BaseRouteHandler) -> tuple[Rule, ...]:
    guards = [guard for layer in handler.ownership_layers for guard in layer.guards or ()]
    return tuple(guard for guard in guards if isinstance(guard, Rule))


def _anyone(_: ASGIConnection[Any, Any, Any, Any]) -> None:
    return None


def _signed_in(connection: ASGIConnection[Any, Any, Any, Any]) -> None:
    """`scope["auth"]` is why nobody is known, in case the request tried."""
    scope: Any = connection.scope
    user: Principal | None = scope["user"]
    if user is None:
        raise scope["auth"] or NotAuthenticatedError
    if user.scopes is not None:
        needed = scope_of(scope["route_handler"], scope["method"])
        if needed is None or not user.has_scope(needed):
            raise ScopeRequiredError(needed)


def _recently_authenticated(connection: ASGIConnection[Any, Any, Any, Any]) -> None:
    _signed_in(connection)
    refuse_old_sign_in(connection.scope["user"])


def refuse_old_sign_in(principal: Principal) -> None:
    """For a route where only some requests need it. Raises ReauthenticationRequiredError; ScopeRequiredError for an
    API key, whatever its scopes."""
    if principal.scopes is not None:
        raise ScopeRequiredError(None)
    if time.time() - principal.authenticated_at > RECENT_SIGN_IN:
        raise ReauthenticationRequiredError


def requires(permission: StrEnum) -> Rule:
    """Let those pass who may do this to something. To what, the service asks (`AccessControl.check` and `where`)."""

    def check(connection: ASGIConnection[Any, Any, Any, Any]) -> None:
        _signed_in(connection)
        if not connection.app.state.access.may(connection.scope["user"], permission):
            raise PermissionDeniedError(permission=permission)
        note_permission(permission)

    return Rule(f"requires {permission}", check, permission=permission)


def requires_role(role: str) -> Rule:
    """Let those pass who have the role, also through another. A permission says more: prefer `requires`."""

    def check(connection: ASGIConnection[Any, Any, Any, Any]) -> None:
        _signed_in(connection)
        if not connection.app.state.access.has_role(connection.scope["user"], role):
            raise PermissionDeniedError

    return Rule(f"requires role {role}", check, role=role)


public = Rule("public", _anyone, is_public=True)
authenticated = Rule("authenticated", _signed_in)
recently_authenticated = Rule("recently_authenticated", _recently_authenticated)
