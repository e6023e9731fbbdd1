"""What a job is: a plain function that runs later, in a worker, as one unit of work."""

import functools
import inspect
from collections.abc import Callable, Mapping
from datetime import date, datetime
from typing import Any, Generic, ParamSpec, get_type_hints
from uuid import UUID

import msgspec
from croniter import croniter
from sqlalchemy.orm import Session

from app.lib.db.service import Service

MAY_BE_ARGUMENTS = (UUID, int, bool, date, datetime)
"""Ids, numbers and times. No text: jobs are stored in clear and shown to administrators, so no secret may travel."""
RESERVED = {"after", "at", "job", "key", "once", "session"}

P = ParamSpec("P")
JobFunction = Callable[P, None]


class JobDeclarationError(TypeError):
    """A function that cannot be a job. Raised when its module is imported."""


class Job(Generic[P]):
    """A function of `domain/<feature>/jobs.py`, by the name `<feature>.<function>`. Calling it runs it here and now.

    `timeout` is in seconds. `retries` counts attempts, the first included. `cron` is in UTC.
    """

    def __init__(
        self, function: JobFunction[P], *, timeout: int, retries: int, retry_delay: float, cron: str | None
    ) -> None:
        self.function = function
        self.name = f"{function.__module__.split('.')[-2]}.{function.__name__}"
        self.timeout = timeout
        self.retries = retries
        self.retry_delay = retry_delay
        self.cron = cron
        self._injected = _injected(function)
        self._arguments = _arguments(function)
        if cron and (not croniter.is_valid(cron) or msgspec.structs.fields(self._arguments)):
            raise JobDeclarationError(f"{self.name}: a periodic job takes no arguments and needs a valid cron line")
        functools.update_wrapper(self, function)

    def __call__(self, *injected: P.args, **arguments: P.kwargs) -> None:
        self.function(*injected, **arguments)

    def encode(self, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """As JSON stores them. Raises msgspec's ValidationError for what the function does not take."""
        encoded: dict[str, Any] = msgspec.to_builtins(msgspec.convert(dict(arguments), self._arguments))
        return encoded

    def check(self, resources: Mapping[type[Any], Any]) -> None:
        """Raises JobDeclarationError when it asks for something that it will not be given."""
        unknown = [kind.__name__ for kind in self._injected if kind not in resources and not _is_made(kind)]
        if unknown:
            raise JobDeclarationError(
                f"{self.name}: nothing provides {', '.join(unknown)}. Arguments stand behind a `*`; "
                "the resources of jobs are in server/resources.py"
            )

    def run(self, session: Session, resources: Mapping[type[Any], Any], arguments: Mapping[str, Any]) -> None:
        """Call the function with stored arguments. What it asks for by type is made upon the session or looked up."""
        given = msgspec.convert(arguments, self._arguments)
        made = [_provide(kind, session, resources) for kind in self._injected]
        self.function(*made, **msgspec.structs.asdict(given))


def job(
    function: None = None, /, *, timeout: int = 60, retries: int = 5, retry_delay: float = 2.0, cron: str | None = None
) -> Callable[[JobFunction[P]], Job[P]]:
    """Make a function a job.

    Positional parameters are provided by type: the session, a service upon it, or a resource of the worker.
    Keyword-only parameters are what `enqueue` is given. `retries` of less than 3 are refused: a worker that is
    killed costs one. After attempt n it waits for a random time of up to `retry_delay` * 2^(n-1) seconds: what
    depends on a service that may be away for a while takes a longer one.
    """
    if function is not None:
        raise JobDeclarationError("write @job() with its parentheses")
    if retries < 3:
        raise JobDeclarationError("a job needs at least 3 retries: a worker may be killed in the middle of one")
    if timeout < 1:
        raise JobDeclarationError("a job needs a timeout: nothing else finds out that it hangs")

    def declare(function: JobFunction[P]) -> Job[P]:
        return Job(function, timeout=timeout, retries=retries, retry_delay=retry_delay, cron=cron)

    return declare


def _hints(function: Callable[..., None]) -> dict[str, Any]:
    hints = get_type_hints(function)
    if untyped := [name for name in inspect.signature(function).parameters if name not in hints]:
        raise JobDeclarationError(f"{function.__qualname__}: give a type to {', '.join(untyped)}")
    return hints


def _injected(function: Callable[..., None]) -> list[type[Any]]:
    hints = _hints(function)
    parameters = inspect.signature(function).parameters.values()
    return [hints[each.name] for each in parameters if each.kind is not inspect.Parameter.KEYWORD_ONLY]


def _arguments(function: Callable[..., None]) -> type[msgspec.Struct]:
    """A Struct of the keyword-only parameters."""
    hints = _hints(function)
    fields: list[Any] = []
    for name, parameter in inspect.signature(function).parameters.items():
        if parameter.kind is not inspect.Parameter.KEYWORD_ONLY:
            continue
        if name in RESERVED or hints[name] not in MAY_BE_ARGUMENTS:
            raise JobDeclarationError(
                f"{function.__qualname__}: {name} cannot be an argument of a job (ids, numbers and times can)"
            )
        has_default = parameter.default is not inspect.Parameter.empty
        fields.append((name, hints[name], parameter.default) if has_default else (name, hints[name]))
    return msgspec.defstruct(f"{function.__name__}_arguments", fields, forbid_unknown_fields=True, kw_only=True)


def _is_made(kind: type[Any]) -> bool:
    return issubclass(kind, Session | Service)


def _provide(kind: type[Any], session: Session, resources: Mapping[type[Any], Any]) -> Any:
    if issubclass(kind, Session):
        return session
    return kind(session) if issubclass(kind, Service) else resources[kind]
