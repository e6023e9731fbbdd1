"""The database as the application uses it: units of work that read, and units of work that write."""

import logging
import random
import time
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from sqlalchemy import URL, Connection, Engine, create_engine, event, make_url
from sqlalchemy.exc import DBAPIError, OperationalError
from sqlalchemy.orm import ORMExecuteState, Session, sessionmaker

from app.lib.db.unit_of_work import EarlyCommitError, Stage, UnitOfWork, WriteInReadError
from app.lib.errors import ApplicationError

SERIALIZATION_FAILURE = "40001"
DEADLOCK_DETECTED = "40P01"
CONNECT_TIMEOUT = 3
LOCK_TIMEOUT = 5
STATEMENT_TIMEOUT = 10
CONNECTION_TIMEOUT = 10
REPEAT_PAUSE = (0.02, 0.06)
"""All in seconds. Without the pause, the loser of a deadlock can lock its row again before the winner wakes up."""

T = TypeVar("T")
logger = logging.getLogger(__name__)
Work = Callable[[Session], T]


class Database:
    """One pool of connections, exactly as large as the pool of worker threads, so that no thread ever waits.

    `read` and `write` take the work as a function of the session and own everything around it: the
    connection, the transaction, the one repetition, the clean-up. They may be called from any thread.
    `session_info` is found in the `info` of every writing session; `primary_options` are those of `create_pool`.
    """

    def __init__(
        self,
        url: URL | str,
        *,
        pool_size: int,
        replica_urls: Sequence[URL | str] = (),
        echo: bool = False,
        session_info: dict[str, Any] | None = None,
        **primary_options: Any,
    ) -> None:
        self.engine = create_pool(url, size=pool_size, echo=echo, **primary_options)
        self._replicas = [create_pool(replica, size=pool_size, echo=echo) for replica in replica_urls]
        self._writer = writing_sessions(self.engine, info=session_info)
        self._primary_reader = reading_sessions(_autocommit(self.engine))
        self._readers = [reading_sessions(_autocommit(engine)) for engine in self._replicas] or [self._primary_reader]

    def read(self, work: Work[T]) -> T:
        """Run `work` on an AUTOCOMMIT connection: one round trip per statement and nothing left open.

        Repeated once, on the primary, when the connection turns out to be dead or the replica cannot answer.
        Raises WriteInReadError when the work changes anything.
        """
        reader = random.choice(self._readers)
        try:
            return _read(reader, work)
        except DBAPIError as error:
            is_replica = reader is not self._primary_reader
            if not error.connection_invalidated and not (is_replica and isinstance(error, OperationalError)):
                raise
        return _read(self._primary_reader, work)

    def write(self, work: Work[T]) -> T:
        """Run `work` in one transaction and commit it. Raises what the work or the COMMIT raised.

        Repeated once after a serialisation failure, a deadlock, or a connection found dead before COMMIT:
        so `work` must not send anything out of the process (that is what jobs are for). An error whose class
        says `keeps_writes` commits first and is then raised.
        """
        session = self._writer()
        try:
            return _write(session, work)
        except Exception as error:
            if not _is_repeatable(error, UnitOfWork.of(session).stage):
                self._record_rollback(session)
                raise
        time.sleep(random.uniform(*REPEAT_PAUSE))
        return self.write_once(work)

    def write_once(self, work: Work[T]) -> T:
        """As `write`, without the repetition: for work that sends something out of the process (jobs)."""
        session = self._writer()
        try:
            return _write(session, work)
        except Exception:
            self._record_rollback(session)
            raise

    @property
    def engines(self) -> dict[str, Engine]:
        """By the names that an operator has for them."""
        replicas = {f"replica-{number}": engine for number, engine in enumerate(self._replicas, start=1)}
        return {"primary": self.engine, **replicas}

    def dispose(self) -> None:
        for engine in self.engines.values():
            engine.dispose()

    def _record_rollback(self, session: Session) -> None:
        unit = UnitOfWork.of(session)
        if unit.after_rollback and unit.stage is not Stage.COMMITTED:
            self.write(lambda fresh: [record(fresh) for record in unit.after_rollback])


def reason_of(error: DBAPIError) -> str:
    """The driver's first line, for a person: neither SQL nor parameters."""
    return str(error.orig).strip().splitlines()[0]


def create_pool(
    url: URL | str,
    *,
    size: int,
    echo: bool = False,
    name: str = "keel",
    idle_timeout: int = STATEMENT_TIMEOUT,
    **options: Any,
) -> Engine:
    """An engine whose connections give up: connecting after 3 s, waiting for a lock after 5 s, a statement after
    10 s, an idle transaction after `idle_timeout` seconds, a network that swallows what is sent after 10 s.

    Last in, first out: connections that are not needed stay idle, and the server may close them. `name` is what
    pg_stat_activity shows.
    """
    return create_engine(
        url,
        pool_size=size,
        max_overflow=0,
        pool_use_lifo=True,
        echo=echo,
        hide_parameters=True,  # they hold password hashes and personal data, and end in logs
        connect_args={
            "connect_timeout": CONNECT_TIMEOUT,
            "application_name": name,
            "tcp_user_timeout": CONNECTION_TIMEOUT * 1000,
            "options": f"{make_url(url).query.get('options', '')} -c statement_timeout={STATEMENT_TIMEOUT}s"
            f" -c lock_timeout={LOCK_TIMEOUT}s"
            f" -c idle_in_transaction_session_timeout={idle_timeout}s -c timezone=UTC",
        },
        **options,
    )


def _autocommit(engine: Engine) -> Engine:
    return engine.execution_options(isolation_level="AUTOCOMMIT")


def reading_sessions(bind: Engine | Connection) -> sessionmaker[Session]:
    """Sessions that refuse what the ORM would change: on AUTOCOMMIT it could not be taken back.

    SQL in plain text is not looked at.
    """
    sessions = sessionmaker(bind, autoflush=False, info={"is_reading": True})
    event.listen(sessions, "before_flush", _refuse_change)
    event.listen(sessions, "do_orm_execute", _refuse_writing_statement)
    return sessions


def writing_sessions(bind: Engine | Connection, **options: Any) -> sessionmaker[Session]:
    """Sessions that only their unit of work commits: half of it could be neither repeated nor taken back."""
    sessions = sessionmaker(bind, expire_on_commit=False, **options)
    event.listen(sessions, "before_commit", _refuse_early_commit)
    return sessions


def _refuse_early_commit(session: Session) -> None:
    """Savepoints (`begin_nested`) are the work's own."""
    if UnitOfWork.of(session).stage is Stage.WORKING and not session.in_nested_transaction():
        raise EarlyCommitError("the work committed by itself: leave it to the unit of work")


def _refuse_change(*_: object) -> None:
    raise WriteInReadError("a GET handler changed a row")


def _refuse_writing_statement(state: ORMExecuteState) -> None:
    if state.is_insert or state.is_update or state.is_delete:
        raise WriteInReadError("a GET handler ran an INSERT, UPDATE or DELETE")


def _read(sessions: sessionmaker[Session], work: Work[T]) -> T:
    with sessions() as session:
        result = work(session)
        if session.new or session.dirty or session.deleted:
            _refuse_change()
        return result


def _write(session: Session, work: Work[T]) -> T:
    unit = UnitOfWork.of(session)
    with session:
        try:
            result = work(session)
        except ApplicationError as refusal:
            if refusal.keeps_writes:
                _commit(session, unit)
            raise
        _commit(session, unit)
        return result


def _commit(session: Session, unit: UnitOfWork) -> None:
    session.flush()  # what fails here has certainly not been committed
    unit.stage = Stage.COMMITTING
    session.commit()
    unit.stage = Stage.COMMITTED
    for act in unit.after_commit:
        try:
            act()
        except Exception:  # what is committed cannot be undone, and the caller must hear that it was done
            logger.exception("an act after a commit failed")


def _is_repeatable(error: Exception, stage: Stage) -> bool:
    """A connection lost during COMMIT leaves the outcome unknown: that is never repeated."""
    if stage is Stage.COMMITTED or not isinstance(error, DBAPIError):
        return False
    if getattr(error.orig, "sqlstate", None) in (SERIALIZATION_FAILURE, DEADLOCK_DETECTED):
        return True
    return error.connection_invalidated and stage is Stage.WORKING
