from collections.abc import Callable

import pytest
from sqlalchemy.orm import Session

from app.domain.accounts.services import AccountService
from app.domain.confirmations.models import Confirmation, Purpose
from app.domain.confirmations.services import ConfirmationService
from app.domain.registrations.services import Registration, RegistrationService
from app.domain.users.services import UserService
from app.lib.access.guards import Principal
from app.lib.db.models import utc_now
from app.lib.passwords import Passwords
from tests.conftest import SignedIn
from tests.factories.users import UserFactory

pytestmark = pytest.mark.integration
Cost = Callable[[Callable[[], None]], int]

ADA = Registration(password_hash="hash", first_name="Ada", last_name="Lovelace", phone=None)


@pytest.mark.parametrize(
    "ask",
    [
        lambda session, email: AccountService(session).request_password_reset(email),
        lambda session, email: RegistrationService(session).request_verification(email),
    ],
    ids=["password reset", "verification"],
)
def test_asking_for_a_link_costs_the_same_for_every_address(
    ask: Callable[[Session, str], None], session: Session, cost: Cost
) -> None:
    known = [
        UserFactory.build(),
        UserFactory.build(is_verified=False),
        UserFactory.build(is_active=False),
    ]
    session.add_all(known)
    session.flush()
    addresses = [*[user.email for user in known], known[0].email, known[1].email, "nobody@example.com"]

    costs = {cost(lambda email=email: ask(session, email)) for email in addresses}  # type: ignore[misc]  # mypy cannot infer the default

    assert len(costs) == 1


def test_wanting_an_address_costs_the_same_whoever_has_it(
    as_user: Callable[..., SignedIn], session: Session, cost: Cost
) -> None:
    passwords = Passwords(concurrency=1)
    ada, eve = as_user(), as_user()
    me = Principal(id=ada.user.id, session_id=ada.session.id, is_superuser=False, authenticated_at=2**40)

    costs = {
        cost(
            lambda email=email: AccountService(session).request_email_change(  # type: ignore[misc]  # as above
                me, email, password=None, passwords=passwords
            ),
        )
        for email in (eve.user.email, ada.user.email, "free@example.com")
    }

    assert len(costs) == 1


def test_the_last_administrator_stays(as_user: Callable[..., SignedIn]) -> None:
    first, second = as_user(is_superuser=True), as_user(is_superuser=True)
    as_user(is_superuser=True, is_active=False)

    assert first.delete("/users/me").status_code == 204
    answer = second.delete("/users/me")

    assert (answer.status_code, answer.json()["code"]) == (409, "last_administrator")
    assert second.get("/users/me").status_code == 200


def test_a_closed_account_reserves_no_address(as_user: Callable[..., SignedIn], session: Session) -> None:
    ada = as_user()
    undo = ConfirmationService(session).issue(Purpose.EMAIL_UNDO, ada.user, email="old@example.com")
    session.commit()

    ada.delete("/users/me")

    assert session.get_one(Confirmation, undo, populate_existing=True).expires_at <= utc_now()
    RegistrationService(session).register("old@example.com", ADA)
    assert UserService(session).find_by_email("old@example.com")
