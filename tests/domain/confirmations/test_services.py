from collections.abc import Callable
from datetime import timedelta

import pytest
from sqlalchemy import select, update
from sqlalchemy.orm import Session

from app.domain.confirmations.models import Confirmation, Purpose
from app.domain.confirmations.services import LIFETIMES, ConfirmationService
from app.domain.users.models import User
from app.lib.link_tokens import InvalidTokenError, LinkTokens
from tests.factories.users import UserFactory

pytestmark = pytest.mark.integration

TOKENS = LinkTokens(secret="a test key, which is long enough to be one")


@pytest.fixture
def user(session: Session) -> User:
    user: User = UserFactory.build()
    session.add(user)
    session.flush()
    return user


def claim(session: Session, purpose: Purpose, confirmation_id: object) -> User:
    row = session.scalars(select(Confirmation).where(Confirmation.id == confirmation_id)).one()
    return ConfirmationService(session).claim(TOKENS.issue(row.id, purpose=purpose), purpose, TOKENS)[1]


def is_refused(session: Session, purpose: Purpose, confirmation_id: object) -> bool:
    with session.begin_nested() as attempt:
        try:
            claim(session, purpose, confirmation_id)
        except InvalidTokenError:
            return True
        finally:
            attempt.rollback()
    return False


def test_every_purpose_has_a_lifetime() -> None:
    assert set(LIFETIMES) == set(Purpose)


@pytest.mark.parametrize("purpose", Purpose)
def test_it_is_claimed_once(purpose: Purpose, session: Session, user: User) -> None:
    made = ConfirmationService(session).issue(purpose, user)

    assert claim(session, purpose, made) is user
    with pytest.raises(InvalidTokenError):
        claim(session, purpose, made)


@pytest.mark.parametrize(
    ("change", "dead"),
    [
        (lambda user: setattr(user, "email", "other@example.com"), set(Purpose) - {Purpose.EMAIL_UNDO}),
        (lambda user: setattr(user, "password_hash", "other"), {Purpose.PASSWORD_RESET}),
        (lambda user: setattr(user, "is_active", False), set(Purpose)),
        (lambda user: setattr(user, "first_name", "Augusta"), set()),
    ],
    ids=["email", "password", "inactive", "name"],
)
def test_it_is_bound_to_what_it_was_made_for(
    change: Callable[[User], None], dead: set[Purpose], session: Session, user: User
) -> None:
    made = {purpose: ConfirmationService(session).issue(purpose, user) for purpose in Purpose}
    change(user)
    session.flush()

    assert {purpose for purpose, row_id in made.items() if is_refused(session, purpose, row_id)} == dead


def test_what_has_expired_is_refused(session: Session, user: User) -> None:
    made = ConfirmationService(session).issue(Purpose.VERIFICATION, user)
    session.execute(update(Confirmation).values(expires_at=Confirmation.created_at - timedelta(seconds=1)))

    assert is_refused(session, Purpose.VERIFICATION, made)


def test_nobody_gets_none(session: Session) -> None:
    ConfirmationService(session).issue(Purpose.PASSWORD_RESET, None)

    assert session.scalars(select(Confirmation)).all() == []


def test_a_newer_one_takes_the_place_of_its_own_kind_only(session: Session, user: User) -> None:
    service = ConfirmationService(session)
    reset = service.issue(Purpose.PASSWORD_RESET, user)
    first = service.issue(Purpose.EMAIL_CHANGE, user, email="one@example.com")
    second = service.issue(Purpose.EMAIL_CHANGE, user, email="two@example.com")

    refused = [
        is_refused(session, purpose, row_id)
        for purpose, row_id in [
            (Purpose.PASSWORD_RESET, reset),
            (Purpose.EMAIL_CHANGE, first),
            (Purpose.EMAIL_CHANGE, second),
        ]
    ]
    assert refused == [False, True, False]


def test_what_undoes_a_change_of_the_address_stays_when_all_else_is_void(session: Session, user: User) -> None:
    service = ConfirmationService(session)
    made = {purpose: service.issue(purpose, user) for purpose in Purpose}

    service.void(user.id)

    alive = {purpose for purpose, row_id in made.items() if not is_refused(session, purpose, row_id)}
    assert alive == {Purpose.EMAIL_UNDO}
    assert service.open_undo_of(user.email) == made[Purpose.EMAIL_UNDO]
    service.void_everything(user.id)
    assert service.open_undo_of(user.email) is None
