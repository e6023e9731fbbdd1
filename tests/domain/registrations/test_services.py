from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import Connection, event, update
from sqlalchemy.orm import Session

from app.domain.registrations.services import REGISTRATIONS_A_DAY, Registration, RegistrationService
from app.domain.users.models import User

pytestmark = pytest.mark.integration

ADA = Registration(password_hash="hash", first_name="Ada", last_name="Lovelace", phone=None)


@pytest.fixture
def statements(session: Session, connection: Connection) -> list[str]:
    """Those that were executed, without their values."""
    executed: list[str] = []

    @event.listens_for(connection, "before_cursor_execute")
    def note(_connection: Connection, _cursor: Any, statement: str, *_: Any) -> None:
        if not statement.startswith("SAVEPOINT"):
            executed.append(statement)

    return executed


def cost(statements: list[str], act: Callable[[], None]) -> int:
    statements.clear()
    act()
    return len(statements)


def test_a_known_address_costs_what_a_new_one_does(session: Session, statements: list[str]) -> None:
    registrations = RegistrationService(session)

    def register() -> None:
        registrations.register("ada@example.com", ADA)

    new, unverified, unverified_again = (cost(statements, register) for _ in range(3))
    session.execute(update(User).values(is_verified=True))
    verified, verified_again = (cost(statements, register) for _ in range(2))

    assert {new, unverified, unverified_again, verified, verified_again} == {8}


def test_with_many_registrations_open_it_costs_no_more(session: Session, statements: list[str]) -> None:
    registrations = RegistrationService(session)

    costs = {
        cost(statements, lambda: registrations.register("ada@example.com", ADA)) for _ in range(REGISTRATIONS_A_DAY + 3)
    }

    assert costs == {8}
