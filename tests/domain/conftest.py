"""What tests of several features ask for."""

from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import Connection, event
from sqlalchemy.orm import Session


@pytest.fixture
def statements(session: Session, connection: Connection) -> list[str]:
    """Those that were executed since it was asked for or cleared, without their values and savepoints."""
    executed: list[str] = []

    @event.listens_for(connection, "before_cursor_execute")
    def note(_connection: Connection, _cursor: Any, statement: str, *_: Any) -> None:
        if not statement.startswith("SAVEPOINT"):
            executed.append(statement)

    return executed


@pytest.fixture
def cost(statements: list[str]) -> Callable[[Callable[[], None]], int]:
    """How many statements something takes."""

    def count(act: Callable[[], None]) -> int:
        statements.clear()
        act()
        return len(statements)

    return count
