"""What a unit of work remembers beside its rows: how far it got, and what to do once its outcome is known."""

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum, auto

from sqlalchemy.orm import Session, scoped_session

AnySession = Session | scoped_session[Session]
AfterCommit = Callable[[], None]
AfterRollback = Callable[[Session], None]


class WriteInReadError(RuntimeError):
    """A unit of work that only reads tried to write: its route should not be a GET."""


class EarlyCommitError(RuntimeError):
    """What runs inside a unit of work committed its session."""


class Stage(Enum):
    WORKING = auto()
    COMMITTING = auto()
    COMMITTED = auto()


@dataclass
class UnitOfWork:
    """Kept in `Session.info`, where everything that holds the session can reach it."""

    stage: Stage = Stage.WORKING
    after_commit: list[AfterCommit] = field(default_factory=list)
    after_rollback: list[AfterRollback] = field(default_factory=list)

    @classmethod
    def of(cls, session: AnySession) -> "UnitOfWork":
        if session.info.get("is_reading"):
            raise WriteInReadError("a GET handler asked for something to happen after a commit")
        unit = session.info.setdefault("unit_of_work", cls())
        assert isinstance(unit, cls)
        return unit


def after_commit(session: AnySession, act: AfterCommit) -> None:
    """Run `act` in the same thread as soon as the transaction has committed; never if it rolls back."""
    UnitOfWork.of(session).after_commit.append(act)


def after_rollback(session: AnySession, record: AfterRollback) -> None:
    """Run `record` in a transaction of its own unless this one is known to have committed: what must be kept
    of a refusal."""
    UnitOfWork.of(session).after_rollback.append(record)
