from typing import Any

import pytest
from sqlalchemy import Connection, event
from sqlalchemy.orm import Session

from app.domain.users.services import UserService

pytestmark = pytest.mark.integration


def test_a_known_address_costs_what_a_new_one_does(session: Session, connection: Connection) -> None:
    statements: list[str] = []

    @event.listens_for(connection, "before_cursor_execute")
    def note(_connection: Connection, _cursor: Any, statement: str, *_: Any) -> None:
        statements.append(statement)

    def register() -> list[str]:
        statements.clear()
        UserService(session).register(
            email="ada@example.com", password_hash="hash", first_name="Ada", last_name="Lovelace", phone=None
        )
        return statements.copy()

    session.connection()  # begins the savepoint
    new, known, known_again = register(), register(), register()

    assert new == known == known_again
    assert len(new) == 3
