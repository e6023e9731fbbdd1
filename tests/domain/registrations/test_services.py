from collections.abc import Callable

import pytest
from sqlalchemy import update
from sqlalchemy.orm import Session

from app.domain.registrations.services import REGISTRATIONS_A_DAY, Registration, RegistrationService
from app.domain.users.models import User

pytestmark = pytest.mark.integration
Cost = Callable[[Callable[[], None]], int]

ADA = Registration(password_hash="hash", first_name="Ada", last_name="Lovelace", phone=None)


def test_a_known_address_costs_what_a_new_one_does(session: Session, cost: Cost) -> None:
    registrations = RegistrationService(session)

    def register() -> None:
        registrations.register("ada@example.com", ADA)

    new, unverified, unverified_again = (cost(register) for _ in range(3))
    session.execute(update(User).values(is_verified=True))
    verified, verified_again = (cost(register) for _ in range(2))

    assert {new, unverified, unverified_again, verified, verified_again} == {9}


def test_with_many_registrations_open_it_costs_no_more(session: Session, cost: Cost) -> None:
    registrations = RegistrationService(session)

    costs = {cost(lambda: registrations.register("ada@example.com", ADA)) for _ in range(REGISTRATIONS_A_DAY + 3)}

    assert costs == {9}
