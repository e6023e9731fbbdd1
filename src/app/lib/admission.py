"""Holding back work that would starve everything else, before it takes a thread."""

import asyncio
from collections.abc import Collection
from types import TracebackType
from typing import Self

from litestar import Litestar

from app.lib.access.guards import guarded_routes
from app.lib.errors import OverloadedError


class UnknownGateError(Exception):
    """Routes name a gate that there is not."""


def check_gates(app: Litestar, known: Collection[str]) -> None:
    """Raises UnknownGateError, naming every route whose gate is not among the known."""
    named = [(route, route.handler.opt.get("gate")) for route in guarded_routes(app)]
    unknown = [f"{route.method} {route.path} ({gate})" for route, gate in named if gate and gate not in known]
    if unknown:
        raise UnknownGateError("no such gate: " + ", ".join(unknown))


class Gate:
    """At most `width` requests inside, at most `queue` waiting for at most `patience` seconds; the rest are refused.

    Waiting happens on the event loop and costs neither a thread nor a connection. Raises OverloadedError.
    A gate belongs to the event loop that first waits at it.
    """

    def __init__(self, *, width: int, queue: int, patience: float) -> None:
        self.inside = self.waiting = 0
        self._places = asyncio.Semaphore(width)
        self._queue = queue
        self._patience = patience

    async def __aenter__(self) -> Self:
        if self.waiting >= self._queue and self._places.locked():
            raise OverloadedError(retry_after=self._retry_after)
        self.waiting += 1
        try:
            async with asyncio.timeout(self._patience):
                await self._places.acquire()
        except TimeoutError as error:
            raise OverloadedError(retry_after=self._retry_after) from error
        finally:
            self.waiting -= 1
        self.inside += 1
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.inside -= 1
        self._places.release()

    @property
    def _retry_after(self) -> int:
        return max(1, round(self._patience))
