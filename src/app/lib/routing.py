"""Routes whose handlers are plain functions: one thread hop, one unit of work, the COMMIT inside it."""

import functools
import inspect
from collections.abc import Awaitable, Callable
from collections.abc import Set as AbstractSet
from typing import Annotated, Any, TypeVar, get_args, get_origin, get_type_hints

import litestar
from litestar.datastructures import State
from litestar.handlers import HTTPRouteHandler
from litestar.params import BodyKwarg
from litestar.types import Scope
from sqlalchemy.orm import Session

from app.lib.db.database import Database
from app.lib.db.service import Service
from app.lib.pagination import Page
from app.lib.worker_threads import WorkerThreads

Handler = Callable[..., Any]
Route = Callable[[Handler], HTTPRouteHandler]
T = TypeVar("T")


def get(path: str = "/", **options: Any) -> Route:
    """A handler that reads: its statements run on an AUTOCOMMIT connection, perhaps of a replica.

    `records=True` gives it a transaction as of a handler that writes, because reading is recorded (`domain.audit`).
    `uncompressed=True` sends the body as it is: for what is compressed already, or is asked for in ranges.
    """
    unit_of_work = _writing if options.pop("records", False) else _reading
    return _route(litestar.get, path, unit_of_work, options)


def post(path: str = "/", **options: Any) -> Route:
    """A handler that writes: committed when it returns, rolled back when it raises.

    `gate="name"` lets it wait for a place at that gate (`lib.admission`) before it takes a thread.
    `rate_limit="name"` counts it in that class (`lib.rate_limits`), on any method.
    """
    return _route(litestar.post, path, _writing, options)


def put(path: str = "/", **options: Any) -> Route:
    return _route(litestar.put, path, _writing, options)


def patch(path: str = "/", **options: Any) -> Route:
    return _route(litestar.patch, path, _writing, options)


def delete(path: str = "/", **options: Any) -> Route:
    return _route(litestar.delete, path, _writing, options)


def _reading(database: Database, work: Callable[[Session], Any]) -> Any:
    return database.read(work)


def _writing(database: Database, work: Callable[[Session], Any]) -> Any:
    return database.write(work)


def _route(method: Any, path: str, unit_of_work: Callable[..., Any], options: dict[str, Any]) -> Route:
    gate: str | None = options.get("gate")  # Litestar keeps it in `opt`, for `lib.admission.check_gates`

    def decorate(handler: Handler) -> HTTPRouteHandler:
        endpoint = _in_worker_thread(handler, unit_of_work, gate)
        route: HTTPRouteHandler = method(path, **_description(handler) | options)(endpoint)
        return route

    return decorate


def _description(handler: Handler) -> dict[str, Any]:
    """What OpenAPI says of a handler is its name and its docstring: the first line and the rest."""
    summary, _, rest = (inspect.getdoc(handler) or "").partition("\n")
    return {
        "operation_id": "".join(part.capitalize() for part in handler.__name__.split("_")),
        "summary": summary,
        "description": rest.strip() or None,
    }


def _in_worker_thread(
    handler: Handler, unit_of_work: Callable[..., Any], gate: str | None
) -> Callable[..., Awaitable[Any]]:
    """Litestar sees an `async` handler without the service parameters; those are made inside the thread.

    Not `sync_to_thread`: its executor is global, and it cannot hold a request back before it takes a thread.
    """
    services = _service_parameters(handler)

    async def endpoint(*args: Any, scope: Scope, **values: Any) -> Any:
        state = scope["litestar_app"].state

        def work(session: Session) -> Any:
            made = {name: session if kind is Session else kind(session) for name, kind in services.items()}
            return handler(*args, **values, **made)

        call = functools.partial(unit_of_work, state.database, work)
        if gate is None:
            return await hop(state, call)
        async with state.gates[gate]:
            return await hop(state, call)

    shown: Callable[..., Awaitable[Any]] = _with_signature_of(handler, endpoint, hidden=services.keys())
    return shown


async def hop(state: State, call: Callable[[], T]) -> T:
    """Call it in a worker thread of the application (`lib.worker_threads`)."""
    threads: WorkerThreads = state.threads
    return await threads.run(call)


def _service_parameters(handler: Handler) -> dict[str, type[Any]]:
    """The parameters that live inside the unit of work: services, or the bare session."""
    hints = get_type_hints(handler)
    return {
        name: hint for name, hint in hints.items() if isinstance(hint, type) and issubclass(hint, Service | Session)
    }


def _with_signature_of(handler: Handler, endpoint: Any, *, hidden: AbstractSet[str]) -> Any:
    functools.update_wrapper(endpoint, handler)
    del endpoint.__wrapped__  # Litestar would look through it and see the services
    signature = inspect.signature(handler)
    shown = [value for name, value in signature.parameters.items() if name not in hidden]
    scope = inspect.Parameter("scope", inspect.Parameter.KEYWORD_ONLY, annotation=Scope)
    endpoint.__signature__ = signature.replace(parameters=[*shown, scope])
    hints = get_type_hints(handler, include_extras=True)
    hints["return"] = _with_component_name(hints["return"])
    endpoint.__annotations__ = {name: hint for name, hint in hints.items() if name not in hidden} | {"scope": Scope}
    return endpoint


def _with_component_name(answer: Any) -> Any:
    """`Page[ItemRead]` is `ItemPage` in the API's description, not a name made from module paths."""
    if get_origin(answer) is not Page:
        return answer
    name = f"{get_args(answer)[0].__name__.removesuffix('Read')}Page"
    return Annotated[answer, BodyKwarg(schema_component_key=name)]
