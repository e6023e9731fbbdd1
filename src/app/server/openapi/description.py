"""The description of the API, and two pages to read it that need no network."""

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from litestar import Litestar, Request, Response, Router
from litestar.datastructures import CacheControlHeader
from litestar.exceptions import InternalServerException
from litestar.openapi import OpenAPIConfig
from litestar.openapi.plugins import JsonRenderPlugin, RedocRenderPlugin, SwaggerRenderPlugin
from litestar.openapi.spec import (
    Components,
    OpenAPIMediaType,
    OpenAPIResponse,
    Operation,
    Reference,
    SecurityRequirement,
    SecurityScheme,
)
from litestar.openapi.spec import Schema as SpecSchema
from litestar.openapi.spec.enums import OpenAPIFormat, OpenAPIType
from litestar.routes import BaseRoute
from litestar.static_files import create_static_files_router
from litestar.types import ControllerRouterHandler

from app.lib.access.guards import GuardedRoute, api_scopes, guarded_routes, public, scope_of
from app.lib.api_keys import PATTERN
from app.lib.csrf import CSRF_HEADER, SAFE_METHODS, from_our_pages
from app.lib.errors import NotFoundError
from app.lib.problems import MEDIA_TYPE, Problem
from app.lib.rate_limits import rate_limit_of
from app.lib.session_cookies import SessionCookies
from app.lib.settings import Settings
from app.server.errors import answer_error

BEARER = "BearerToken"
COOKIE = "SessionCookie"
CSRF = "CsrfToken"
API_KEY = "ApiKey"
PROBLEM = Reference(ref="#/components/responses/Problem")


class DocsRouter(Router):
    """Litestar adds an HTML page for whatever else is below the path; here a 404 is a problem like any other."""

    def register(self, value: ControllerRouterHandler) -> list[BaseRoute]:
        is_catch_all = "/{path:str}" in getattr(value, "paths", ())
        return [] if is_catch_all else super().register(value)


def openapi_config(settings: Settings, cookies: SessionCookies) -> OpenAPIConfig:
    assets = f"{settings.api_v1_prefix}/docs/assets"
    icon = f'<link rel="icon" href="{assets}/swagger-ui-dist/favicon-32x32.png">'
    return OpenAPIConfig(
        title=settings.project_name,
        version=settings.version,
        description=settings.description,
        components=Components(
            security_schemes={
                BEARER: SecurityScheme(type="http", scheme="bearer", bearer_format="JWT"),
                COOKIE: SecurityScheme(type="apiKey", security_scheme_in="cookie", name=cookies.access_name),
                CSRF: SecurityScheme(type="apiKey", security_scheme_in="header", name=CSRF_HEADER),
                API_KEY: SecurityScheme(type="http", scheme="bearer", bearer_format=PATTERN),
            },
            responses={"Problem": _problem_response()},
        ),
        openapi_router=DocsRouter(
            settings.api_v1_prefix,
            route_handlers=[],
            guards=[public],
            opt={"rate_limit": None},
            include_in_schema=False,
        ),
        render_plugins=[
            JsonRenderPlugin(),
            SwaggerRenderPlugin(
                path="/docs",
                js_url=f"{assets}/swagger-ui-dist/swagger-ui-bundle.js",
                css_url=f"{assets}/swagger-ui-dist/swagger-ui.css",
                standalone_preset_js_url=f"{assets}/swagger-ui-dist/swagger-ui-standalone-preset.js",
                favicon=icon,
            ),
            RedocRenderPlugin(
                path="/redoc",
                js_url=f"{assets}/redoc/bundles/redoc.standalone.js",
                google_fonts=False,
                favicon=icon,
            ),
        ],
    )


def docs_assets(settings: Settings) -> Router:
    """Swagger UI and Redoc from a package. It is made for Django, so it is found but never imported."""
    package = find_spec("drf_spectacular_sidecar")
    assert package is not None
    assert package.origin is not None
    directory = Path(package.origin).parent / "static" / "drf_spectacular_sidecar"
    return create_static_files_router(
        f"{settings.api_v1_prefix}/docs/assets",
        directories=[directory],
        guards=[public],
        opt={"rate_limit": None},
        include_in_schema=False,
        cache_control=CacheControlHeader(public=True, max_age=86_400),
        exception_handlers={ValueError: _no_such_file, InternalServerException: _no_such_file},
    )


def _no_such_file(request: Request[Any, Any, Any], _: Exception) -> Response[Problem]:
    """Names that no file system can hold: NUL, too long, below a file."""
    return answer_error(request, NotFoundError())


def describe_access_and_errors(app: Litestar) -> None:
    """Say for each operation what it needs and how it fails; Litestar knows neither our guards nor our errors."""
    for name, schema in app.openapi_schema.components.schemas.items():
        if name.endswith(("Create", "Update")):
            schema.additional_properties = False
    _list_scopes(app)
    paths = app.openapi_schema.paths or {}
    for route in guarded_routes(app):
        item = paths.get(route.path)
        operation = getattr(item, route.method.lower(), None)
        if isinstance(operation, Operation):
            _describe(operation, route)


def _list_scopes(app: Litestar) -> None:
    """Which there are is known once all routes are."""
    new_key: Any = app.openapi_schema.components.schemas.get("ApiKeyCreate")
    if new_key:
        new_key.properties["scopes"].items.enum = api_scopes(app)


def _describe(operation: Operation, route: GuardedRoute) -> None:
    for code, answer in (operation.responses or {}).items():
        if code == "204" and isinstance(
            answer, OpenAPIResponse
        ):  # to Litestar, a Response[None] with cookies has the content `null`
            answer.content = None
        for media_type, content in (getattr(answer, "content", None) or {}).items():
            if media_type.startswith(("application/octet-stream", "image/")):  # to Litestar, bytes are text
                content.schema = SpecSchema(type=OpenAPIType.STRING, format=OpenAPIFormat.BINARY)
    operation.security = _ways_in(route)
    operation.responses = {
        **{code: answer for code, answer in (operation.responses or {}).items() if int(code) < 400 or code == "503"},
        **dict.fromkeys(_failures(operation, route), PROBLEM),
        "default": PROBLEM,
    }


def _ways_in(route: GuardedRoute) -> list[SecurityRequirement]:
    """An API key is accepted where it may have a scope for the route."""
    if route.is_public:
        return []
    cookie: SecurityRequirement = {COOKIE: []} if route.method in SAFE_METHODS else {COOKIE: [], CSRF: []}
    scope = scope_of(route.handler, route.method)
    return [{BEARER: []}, cookie, *([{API_KEY: [scope]}] if scope else [])]


def _failures(operation: Operation, route: GuardedRoute) -> Sequence[str]:
    codes = []
    if operation.parameters or operation.request_body:
        codes.append("400")
    if not route.is_public:
        codes += ["401", "403"]
    elif from_our_pages in route.rules:
        codes.append("403")
    if "{" in route.path:
        codes.append("404")
    if "206" in (operation.responses or {}):
        codes.append("416")
    if operation.request_body:
        codes += ["409", "413", "415"]
    if rate_limit_of(route.handler, route.method):
        codes.append("429")
    return codes


def _problem_response() -> OpenAPIResponse:
    text = SpecSchema(type=OpenAPIType.STRING)
    invalid: dict[str, Any] = {"field": text, "message": text, "source": text}
    fields: dict[str, Any] = {
        "type": text,
        "title": text,
        "status": SpecSchema(type=OpenAPIType.INTEGER),
        "detail": text,
        "code": text,
        "request_id": text,
    }
    errors = SpecSchema(type=OpenAPIType.ARRAY, items=SpecSchema(type=OpenAPIType.OBJECT, properties=invalid))
    body = SpecSchema(type=OpenAPIType.OBJECT, properties={**fields, "errors": errors}, required=list(fields))
    return OpenAPIResponse(
        description="What went wrong (RFC 9457).", content={MEDIA_TYPE: OpenAPIMediaType(schema=body)}
    )
