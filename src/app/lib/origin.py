"""Where an act comes from: who asks, by what, from where. The audit log writes it down."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from uuid import UUID

import msgspec
from msgspec import Struct


class Origin(Struct, frozen=True):
    """The server makes one of each request, the worker one of each job. `source` is the route, the job, or the
    command line, where an operator has no account."""

    source: str = "command line"
    actor_id: UUID | None = None
    impersonator_id: UUID | None = None
    """Who acts in the name of the actor."""
    session_id: UUID | None = None
    """The session by which they ask, or the API key."""
    address: str | None = None
    request_id: str | None = None
    permission: str | None = None
    """By which the route has let the caller pass."""


_ORIGIN: ContextVar[Origin] = ContextVar("origin", default=Origin())  # noqa: B039  (it is frozen)


def current_origin() -> Origin:
    return _ORIGIN.get()


@contextmanager
def originating(origin: Origin) -> Iterator[None]:
    """What happens inside comes from there. `lib.routing.hop` takes it along into the thread."""
    token = _ORIGIN.set(origin)
    try:
        yield
    finally:
        _ORIGIN.reset(token)


def note_permission(permission: str) -> None:
    """What follows was allowed by this one."""
    _ORIGIN.set(msgspec.structs.replace(_ORIGIN.get(), permission=permission))
