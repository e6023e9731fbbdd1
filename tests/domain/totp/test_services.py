from datetime import timedelta

import pyotp
import pytest
import time_machine
from sqlalchemy.orm import Session

from app.domain.totp.errors import WrongCodeError
from app.domain.totp.services import TotpService
from app.domain.users.models import User
from app.lib.access.guards import Principal
from app.lib.db.models import utc_now
from app.lib.errors import TooManyRequestsError
from app.lib.secret_keys import SecretKeys
from tests.factories.sessions import UserSessionFactory
from tests.factories.users import UserFactory

pytestmark = [pytest.mark.integration, pytest.mark.usefixtures("clock")]

KEYS = SecretKeys("a key of these tests")
HOME, ELSEWHERE = "198.51.100.7", "203.0.113.9"


@pytest.fixture
def totp(session: Session) -> TotpService:
    return TotpService(session)


@pytest.fixture
def ada(session: Session) -> User:
    user = UserFactory.build()
    session.add(user)
    session.flush()
    return user


@pytest.fixture
def recovery_codes(ada: User, totp: TotpService, session: Session) -> list[str]:
    row = UserSessionFactory.build(user_id=ada.id)
    session.add(row)
    session.flush()
    me = Principal(id=ada.id, session_id=row.id, is_superuser=False, authenticated_at=0)
    secret = totp.enrol(ada.id, keys=KEYS)
    return totp.confirm(me, pyotp.TOTP(secret).at(utc_now()), keys=KEYS)


def guess(totp: TotpService, user: User, address: str, *, times: int) -> None:
    for _ in range(times):
        with pytest.raises(WrongCodeError):
            totp.verify(user.id, "wrong", address=address, keys=KEYS)


def test_it_is_enabled_once_it_is_confirmed(totp: TotpService, ada: User) -> None:
    totp.enrol(ada.id, keys=KEYS)

    assert not totp.is_enabled(ada.id)
    with pytest.raises(WrongCodeError):
        totp.verify(ada.id, "123456", address=HOME, keys=KEYS)


def test_wrong_codes_are_throttled_and_a_right_one_is_then_no_use(
    totp: TotpService, ada: User, recovery_codes: list[str], clock: time_machine.Traveller
) -> None:
    assert totp.is_enabled(ada.id)
    guess(totp, ada, ELSEWHERE, times=6)

    for code in ("wrong", recovery_codes[0]):
        with pytest.raises(TooManyRequestsError):
            totp.verify(ada.id, code, address=ELSEWHERE, keys=KEYS)

    clock.shift(timedelta(seconds=1))
    totp.verify(ada.id, recovery_codes[0], address=ELSEWHERE, keys=KEYS)
    assert totp.recovery_codes_left(ada.id) == 9


def test_who_guesses_elsewhere_does_not_stop_the_owner_at_home(
    totp: TotpService, ada: User, recovery_codes: list[str]
) -> None:
    totp.verify(ada.id, recovery_codes[0], address=HOME, keys=KEYS)
    guess(totp, ada, ELSEWHERE, times=6)

    totp.verify(ada.id, recovery_codes[1], address=HOME, keys=KEYS)


def test_codes_are_the_users_own(totp: TotpService, recovery_codes: list[str], session: Session) -> None:
    mallory = UserFactory.build()
    session.add(mallory)
    session.flush()

    with pytest.raises(WrongCodeError):
        totp.verify(mallory.id, recovery_codes[0], address=HOME, keys=KEYS)
