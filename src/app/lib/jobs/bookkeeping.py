"""A worker's steps in the ledger, and what it says when the database is away."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Concatenate, ParamSpec, TypeVar

import psycopg
import psycopg_pool
import structlog
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from app.lib.db.database import Database

RECONNECT_SECONDS = 0.5
DATABASE_ERRORS = (SQLAlchemyError, psycopg.Error, psycopg_pool.PoolTimeout)

P = ParamSpec("P")
T = TypeVar("T")
logger: Any = structlog.get_logger("app.jobs")


class Bookkeeping:
    """One step after another, in a thread and a transaction of its own."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="keel-job-books")
        self.is_lost = False

    async def keep(
        self, step: Callable[Concatenate[Session, P], T], *arguments: P.args, **options: P.kwargs
    ) -> T | None:
        """None when the database is away: then a heartbeat runs out, and some worker recovers the job."""

        def write() -> T:
            return self._database.write(lambda session: step(session, *arguments, **options))

        try:
            result = await asyncio.get_running_loop().run_in_executor(self._thread, write)
        except DATABASE_ERRORS as error:
            self.note_lost(error)
            return None
        self.note_back()
        return result

    async def wait_for_database(self, error: Exception) -> None:
        self.note_lost(error)
        await asyncio.sleep(RECONNECT_SECONDS)

    def note_lost(self, error: Exception) -> None:
        if not self.is_lost:
            reason = (str(error).splitlines() or [""])[0]
            logger.warning("worker cannot use the database and keeps trying", error=type(error).__name__, reason=reason)
        self.is_lost = True

    def note_back(self) -> None:
        if self.is_lost:
            logger.info("worker uses the database again")
        self.is_lost = False

    def close(self) -> None:
        self._thread.shutdown()
