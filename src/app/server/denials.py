"""Refusals in the audit log: counted here and written aside, so that they neither wait nor fill the disk."""

import asyncio
import contextlib
import functools
import logging
from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple
from uuid import UUID

import msgspec
from litestar.datastructures import State
from msgspec import Struct
from sqlalchemy.orm import Session

from app.domain.audit.models import Action, Outcome
from app.domain.audit.services import AuditService
from app.lib.db.database import Database
from app.lib.db.unit_of_work import UnitOfWork
from app.lib.errors import PermissionDeniedError
from app.lib.origin import Origin, current_origin, originating
from app.lib.rate_limits import network_of
from app.lib.routing import hop

WINDOW = 60.0
"""Seconds."""
KINDS = 100
"""That are told apart in one window; half of them also for callers whom nobody knows. All others are one more kind, so
a process writes at most 201 rows in a window."""

logger = logging.getLogger(__name__)


class Kind(NamedTuple):
    """What is counted together."""

    who: UUID | str
    source: str
    permission: str | None
    reason: str


class Tally(Struct):
    """The refusals of a kind that are not written yet, and the first of them as a sample."""

    count: int = 0
    is_known: bool = False
    """One of the kind was written at once; since then they are counted until the window ends."""
    origin: Origin = Origin()
    permission: str | None = None
    attributes: Mapping[str, Any] | None = None
    details: Mapping[str, Any] | None = None

    def take(self) -> "Tally":
        """What is to be written now."""
        taken = msgspec.structs.replace(self)
        self.count, self.is_known = 0, True
        return taken

    def give_back(self, taken: "Tally") -> None:
        taken.count += self.count
        for name in self.__struct_fields__:
            setattr(self, name, getattr(taken, name))


THE_REST = Kind("", "several routes", None, "too_many_kinds")


class Denials:
    """The first of its kind is written at once, the others as one row when the window ends.

    `note` belongs to the event loop. `close` writes what is left.
    """

    def __init__(self, database: Database, state: State) -> None:
        self._database = database
        self._state = state
        self._tallies: dict[Kind, Tally] = {}
        self._news = asyncio.Event()
        self._stopping = asyncio.Event()
        self._is_failing = False
        self._task = asyncio.create_task(self._run())

    def note(self, denial: PermissionDeniedError, *, reason: str) -> None:
        """Takes no time: it is called before the refusal is answered."""
        origin = msgspec.structs.replace(current_origin(), permission=None)  # by which the route let pass, perhaps
        kind = Kind(origin.actor_id or network_of(origin.address or ""), origin.source, denial.permission, reason)
        room = KINDS if origin.actor_id else KINDS // 2
        if kind not in self._tallies and len(self._tallies) >= room:
            kind, origin, denial = THE_REST, Origin(THE_REST.source), PermissionDeniedError()
        tally = self._tallies.setdefault(kind, Tally(is_known=kind is THE_REST))
        if tally.count == 0:
            tally.origin, tally.details = origin, {"reason": kind.reason}
            tally.permission, tally.attributes = denial.permission, denial.attributes
        tally.count += 1
        if not tally.is_known:
            self._news.set()

    async def close(self) -> None:
        self._stopping.set()
        self._news.set()
        await self._task
        if left := sum(tally.count for tally in self._tallies.values()):
            logger.error("%s denials are not in the audit log: the database does not answer", left)

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        while not self._stopping.is_set():
            ends_at = loop.time() + WINDOW
            while not self._stopping.is_set() and loop.time() < ends_at:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout_at(ends_at):
                        await self._news.wait()
                self._news.clear()
                await self._write([tally for tally in self._tallies.values() if not tally.is_known])
            self._tallies = {kind: tally for kind, tally in self._tallies.items() if tally.count}
            await self._write(list(self._tallies.values()))

    async def _write(self, tallies: Sequence[Tally]) -> None:
        """What cannot be written now is counted on, and tried again."""
        if not tallies:
            return
        taken = [tally.take() for tally in tallies]
        try:
            await hop(self._state, functools.partial(self._database.write, functools.partial(_record, taken)))
            self._is_failing = False
        except Exception as error:  # noqa: BLE001  (whatever it is, those that come must be counted)
            for tally, rows in zip(tallies, taken, strict=True):
                tally.give_back(rows)
            if not self._is_failing:
                logger.warning("denials cannot be written to the audit log yet: %s", type(error).__name__)
            self._is_failing = True


def _record(rows: Collection[Tally], session: Session) -> None:
    audit = AuditService(session)
    for row in rows:
        with originating(row.origin):
            audit.record(
                Action.ACCESS_DENIED,
                outcome=Outcome.DENIED,
                permission=row.permission,
                attributes=row.attributes,
                details=row.details,
                count=row.count,
            )
    UnitOfWork.of(session).after_rollback.clear()  # they are tried again
