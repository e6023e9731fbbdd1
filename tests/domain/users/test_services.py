import pytest
from sqlalchemy.orm import Session

from app.domain.users.errors import InvalidCredentialsError, WrongPasswordError
from app.domain.users.services import UserService
from app.lib.errors import TooManyRequestsError
from app.lib.passwords import Passwords
from app.lib.secret_keys import SecretKeys
from tests.factories.users import UserFactory

pytestmark = pytest.mark.integration

PASSWORD = "correct horse battery staple"


@pytest.fixture
def passwords() -> Passwords:
    return Passwords(concurrency=1)


def test_a_refused_sign_in_costs_the_same_whatever_is_wrong(
    session: Session, statements: list[str], passwords: Passwords
) -> None:
    password_hash = passwords.hash(PASSWORD)
    known = UserFactory.build(password_hash=password_hash)
    inactive = UserFactory.build(password_hash=password_hash, is_active=False)
    unverified = UserFactory.build(password_hash=password_hash, is_verified=False)
    session.add_all([known, inactive, unverified])
    session.flush()

    def refused(email: str, password: str) -> list[str]:
        statements.clear()
        with pytest.raises(InvalidCredentialsError):
            UserService(session).authenticate(
                email=email,
                password=password,
                totp=None,
                address="198.51.100.7",
                passwords=passwords,
                keys=SecretKeys("secret"),
                must_be_verified=True,
            )
        return statements.copy()

    wrong, *others = (
        refused(known.email, "wrong password"),
        refused("nobody@example.com", PASSWORD),
        refused("no address", PASSWORD),
        refused(inactive.email, PASSWORD),
        refused(unverified.email, PASSWORD),
    )

    assert len(wrong) == 5
    nobody, no_address, *states = others
    assert [nobody, *states] == [wrong] * 3
    assert len(no_address) == 4  # which everybody knows to be none


def test_wrong_current_passwords_are_throttled(session: Session, passwords: Passwords) -> None:
    users = UserService(session)
    ada = UserFactory.build(password_hash=passwords.hash(PASSWORD))
    session.add(ada)
    session.flush()
    for _ in range(6):
        with pytest.raises(WrongPasswordError):
            users.verify_password(ada.id, "wrong password", passwords=passwords)

    with pytest.raises(TooManyRequestsError) as refusal:
        users.verify_password(ada.id, PASSWORD, passwords=passwords)

    assert refusal.value.retry_after == 1
