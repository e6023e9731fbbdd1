"""STYLE.md, as far as a machine can read it."""

import ast
import inspect
import re
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from pkgutil import walk_packages
from typing import Any

import pytest
from litestar import Litestar
from litestar.handlers import HTTPRouteHandler
from litestar.routes import HTTPRoute
from sqlalchemy import select
from sqlalchemy.orm import Session

import app as package
from app.db.metadata import METADATA, MODULES
from app.domain.access.models import Permission, Role
from app.domain.access.services import PolicyService
from app.lib.access.guards import guarded_routes
from app.lib.errors import ApplicationError
from app.lib.rate_limits import READING, rate_limit_of
from app.lib.settings import Settings
from app.server.errors import ANSWERS
from app.server.jobs import JOB_MODULES, all_jobs
from app.server.resources import job_resources

pytestmark = pytest.mark.unit

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "app"
MODULE_PATHS = [path for path in sorted(SOURCE.rglob("*.py")) if "versions" not in path.parts]
LEFTOVERS = {"utils", "util", "helpers", "helper", "common", "core", "base", "managers", "manager", "misc", "shared"}
FEATURE_MODULES = {"models", "schemas", "services", "controllers", "guards", "jobs", "errors"}
MAY_IMPORT = {
    "server": {"server", "domain", "lib", "db"},
    "db": {"db", "domain", "lib"},
    "domain": {"domain", "lib"},
    "lib": {"lib"},
}
ASYNC_EDGES = {f"lib/{name}.py" for name in ("routing", "worker_threads", "admission", "access/guards", "storage")} | {
    f"lib/jobs/{name}.py" for name in ("bookkeeping", "queue", "runner", "worker")
}
"""Below `domain` nothing is async; in `lib` only what stands between the event loop and the threads."""
PUBLIC_ROUTES = {
    "GET /health",
    "GET /health/live",
    "GET /health/ready",
    "GET /health/db",
    "GET /health/cache",
    "POST /api/v1/auth/register",
    "POST /api/v1/auth/login",
    "POST /api/v1/auth/refresh",
    "POST /api/v1/auth/cookie/login",
    "POST /api/v1/auth/cookie/refresh",
    "POST /api/v1/auth/cookie/exchange",
    "POST /api/v1/auth/cookie/logout",
    "POST /api/v1/auth/verification",
    "POST /api/v1/auth/verification/confirm",
    "POST /api/v1/auth/password/forgot",
    "POST /api/v1/auth/password/reset",
    "POST /api/v1/auth/email/confirm",
    "POST /api/v1/auth/email/undo",
    "GET /api/v1/avatars/{avatar_id}",
    "GET /api/v1/auth/providers",
    "GET /api/v1/auth/providers/{name}/authorize",
    "GET /api/v1/auth/providers/{name}/callback",
    "POST /api/v1/auth/providers/exchange",
}


def imports(path: Path) -> Iterator[tuple[ast.stmt, str]]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"relative import in {path}"
            yield from ((node, f"{node.module}.{alias.name}") for alias in node.names)
        elif isinstance(node, ast.Import):
            yield from ((node, alias.name) for alias in node.names)


def every(path: Path) -> Iterator[ast.AST]:
    return ast.walk(ast.parse(path.read_text()))


def by_name(path: Path) -> str:
    return str(path.relative_to(SOURCE))


@pytest.mark.parametrize("path", MODULE_PATHS, ids=by_name)
def test_imports_go_one_way(path: Path) -> None:
    layer = path.relative_to(SOURCE).parts[0]
    imported = {name.split(".")[1] for _, name in imports(path) if name.split(".")[0] == "app"}

    assert imported <= MAY_IMPORT.get(layer, set())


@pytest.mark.parametrize("path", sorted((SOURCE / "domain").rglob("*.py")), ids=by_name)
def test_features_share_their_services_models_and_errors_only(path: Path) -> None:
    feature = path.parent.name
    foreign = {
        tuple((name + ".nothing").split(".")[2:4])
        for _, name in imports(path)
        if name.startswith("app.domain.") and name.split(".")[2] != feature
    }

    assert {module for _, module in foreign} <= {"services", "models", "errors"}


@pytest.mark.parametrize("path", MODULE_PATHS, ids=by_name)
def test_imports_stand_at_the_top(path: Path) -> None:
    for node, name in imports(path):
        assert node.col_offset == 0 or "TYPE_CHECKING" in path.read_text(), f"{name} in line {node.lineno}"


@pytest.mark.parametrize("path", MODULE_PATHS, ids=by_name)
def test_no_module_is_named_by_leftovers_and_none_is_long(path: Path) -> None:
    assert LEFTOVERS.isdisjoint({path.stem, *path.relative_to(SOURCE).parts})
    assert len(path.read_text().splitlines()) <= 300, "move a part of it to a module of its own"


@pytest.mark.parametrize("path", sorted(path for path in (SOURCE / "domain").iterdir() if path.is_dir()), ids=by_name)
def test_a_feature_is_one_flat_folder_of_known_modules(path: Path) -> None:
    if path.name != "__pycache__":
        assert {child.stem for child in path.glob("*.py")} - {"__init__"} <= FEATURE_MODULES
        assert {child.name for child in path.iterdir() if child.is_dir()} <= {"__pycache__", "templates"}


@pytest.mark.parametrize("path", MODULE_PATHS, ids=by_name)
def test_nothing_is_re_exported(path: Path) -> None:
    if path.name == "__init__.py":
        assert path.read_text() == ""


@pytest.mark.parametrize("path", sorted((SOURCE / "domain").rglob("*.py")), ids=by_name)
def test_features_neither_commit_nor_roll_back_nor_read_the_environment(path: Path) -> None:
    called = {
        node.func.attr for node in every(path) if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)
    }
    named = {name for _, name in imports(path)}

    assert not called & {"commit", "rollback", "getenv"}
    assert "os" not in named


@pytest.mark.parametrize("path", MODULE_PATHS, ids=by_name)
def test_business_code_is_synchronous(path: Path) -> None:
    is_edge = by_name(path).startswith("server/") or by_name(path) in ASYNC_EDGES

    assert is_edge or not [node for node in every(path) if isinstance(node, ast.AsyncFunctionDef | ast.Await)]


def test_every_handler_below_the_api_runs_in_a_thread_through_lib_routing(app: Litestar) -> None:
    for route in app.routes:
        if isinstance(route, HTTPRoute) and route.path.startswith("/api/"):
            for handler in route.route_handlers:
                module = inspect.getmodule(handler.fn)
                is_ours = module is not None and module.__name__.startswith("app.domain")
                assert not is_ours or handler.fn.__code__.co_filename.endswith("routing.py"), handler


def test_only_two_handlers_have_units_of_work_of_their_own_because_they_call_providers_in_between(
    app: Litestar,
) -> None:
    own = {
        f"{route.method} {route.path}"
        for route in guarded_routes(app)
        if "units" in inspect.signature(getattr(route.handler, "fn", print)).parameters
    }

    assert own == {f"GET /api/v1/auth/providers/{{name}}/{step}" for step in ("authorize", "callback")}


def test_every_route_declares_who_may_call_it_and_the_public_ones_are_few(app: Litestar) -> None:
    found = {
        f"{route.method} {route.path}"
        for route in guarded_routes(app)
        if route.is_public and isinstance(route.handler, HTTPRouteHandler) and route.handler.resolve_include_in_schema()
    }

    assert found == PUBLIC_ROUTES


def test_every_permission_guards_a_route_and_is_given_to_somebody_by_the_predefined_policy(
    app: Litestar, session: Session
) -> None:
    asked = {rule.permission for route in guarded_routes(app) for rule in route.rules if rule.permission}
    policy = PolicyService(session).load()
    roles = [f"role:{role}" for role in session.scalars(select(Role.name))]
    granted = {grant.permission for grant in policy.grants_of(*roles)}

    assert asked == set(Permission), "add it to the enum in domain/access/models.py, or take it out"
    assert granted == set(Permission), "add a migration that gives it to a role"


def test_every_role_that_a_guard_asks_for_is_predefined(app: Litestar, session: Session) -> None:
    asked = {rule.role for route in guarded_routes(app) for rule in route.rules if rule.role}

    assert asked <= set(session.scalars(select(Role.name)))


def test_every_public_route_that_changes_something_has_a_limit_by_address(app: Litestar) -> None:
    limits = {
        f"{route.method} {route.path}": rate_limit_of(route.handler, route.method)
        for route in guarded_routes(app)
        if route.is_public and route.method not in READING
    }

    assert set(limits.values()) <= {"sign_in", "refresh"}, limits


def test_every_error_class_is_in_the_table() -> None:
    for module in walk_packages(package.__path__, "app."):
        if "migrations" not in module.name:
            import_module(module.name)

    assert set(subclasses(ApplicationError)) == set(ANSWERS)


def test_errors_end_in_error() -> None:
    for path in MODULE_PATHS:
        for node in every(path):
            if isinstance(node, ast.ClassDef) and any(
                re.search("Error|Exception", ast.unparse(base)) for base in node.bases
            ):
                assert node.name.endswith("Error"), f"{path}: {node.name}"


def test_every_models_module_is_gathered_for_the_migrations() -> None:
    on_disk = {f"app.domain.{path.parent.name}.models" for path in (SOURCE / "domain").glob("*/models.py")}

    assert {module.__name__ for module in MODULES} == on_disk, "see MODULES in src/app/db/metadata.py"


def test_every_jobs_module_is_gathered_for_the_worker() -> None:
    on_disk = {f"app.domain.{path.parent.name}.jobs" for path in (SOURCE / "domain").glob("*/jobs.py")}

    assert {module.__name__ for module in JOB_MODULES} == on_disk, "see JOB_MODULES in src/app/server/jobs.py"


def test_every_job_is_given_what_it_asks_for(settings: Settings) -> None:
    for job in all_jobs():
        job.check(job_resources(settings))


def test_tables_have_plural_names_that_are_no_reserved_words() -> None:
    assert all(name.endswith("s") and name not in {"user", "order", "group"} for name in METADATA.tables)


def test_every_test_module_mirrors_a_module_of_the_code() -> None:
    strays = [
        path
        for path in (ROOT / "tests").rglob("test_*.py")
        if path.parts[len(ROOT.parts) + 1] in {"lib", "domain", "db"}
        and not (SOURCE / path.relative_to(ROOT / "tests")).with_name(path.name.removeprefix("test_")).exists()
    ]

    assert strays == [ROOT / "tests" / "db" / "test_migrations.py"]


def test_no_test_module_is_long() -> None:
    long = [path for path in (ROOT / "tests").rglob("*.py") if len(path.read_text().splitlines()) > 300]

    assert long == []


def test_every_exception_to_a_checker_gives_its_reason() -> None:
    silenced = re.compile(r"#\s*(type: ignore|noqa|pragma: no cover)(?P<rest>.*)")
    for path in [*SOURCE.rglob("*.py"), *(ROOT / "tests").rglob("*.py"), ROOT / "manage.py"]:
        for line in path.read_text().splitlines():
            if path != Path(__file__) and (found := silenced.search(line)):
                assert re.search(r"[#(]\s*\S+ \w+", found["rest"]), f"{path}: {line.strip()}"


def subclasses(error: type[Any]) -> Iterator[type[Any]]:
    yield error
    for child in error.__subclasses__():
        if child.__module__.startswith("app."):
            yield from subclasses(child)


def test_every_test_says_what_it_needs() -> None:
    unmarked = [
        str(path.relative_to(ROOT))
        for path in (ROOT / "tests").rglob("test_*.py")
        if not re.search(r"pytest\.mark\.(unit|integration|e2e)", path.read_text())
    ]

    assert unmarked == []
