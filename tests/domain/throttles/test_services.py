from collections.abc import Callable
from datetime import timedelta

import pytest
import time_machine
from sqlalchemy import Connection, select
from sqlalchemy.orm import Session

from app.domain.throttles.models import Throttle
from app.domain.throttles.services import TRIES, Attempt, ThrottleService
from app.lib.errors import TooManyRequestsError
from app.lib.secret_keys import SecretKeys
from tests.factories.users import UserFactory

pytestmark = [pytest.mark.integration, pytest.mark.usefixtures("clock")]

KEYS = SecretKeys("a key of these tests")
ADA, HOME, ELSEWHERE = "ada@example.com", "198.51.100.7", "203.0.113.9"
Begin = Callable[..., Attempt]


@pytest.fixture
def throttles(session: Session) -> ThrottleService:
    return ThrottleService(session)


@pytest.fixture
def begin(throttles: ThrottleService) -> Begin:
    def begin(email: str = ADA, address: str = ELSEWHERE) -> Attempt:
        return throttles.begin_sign_in(email=email, address=address, keys=KEYS)

    return begin


@pytest.fixture
def fail(throttles: ThrottleService, begin: Begin, clock: time_machine.Traveller) -> Callable[..., list[int]]:
    """Fail so many times, waiting as long as asked. Returns the seconds of all waits."""

    def fail(times: int, email: str = ADA, address: str = ELSEWHERE) -> list[int]:
        waits = []
        for _ in range(times):
            try:
                attempt = begin(email, address)
            except TooManyRequestsError as refusal:
                waits.append(refusal.retry_after)
                clock.shift(timedelta(seconds=refusal.retry_after))
                attempt = begin(email, address)
            throttles.fail(attempt)
        return waits

    return fail


def refused(begin: Begin, email: str = ADA, address: str = ELSEWHERE) -> int:
    """Seconds to wait; 0: not refused."""
    try:
        begin(email, address)
    except TooManyRequestsError as refusal:
        return refusal.retry_after
    return 0


def test_five_failures_are_free_then_the_wait_doubles_up_to_an_hour(fail: Callable[..., list[int]]) -> None:
    assert fail(6) == []
    assert fail(14) == [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 3600, 3600]


def test_from_the_hundredth_failure_on_there_is_one_try_a_day(
    fail: Callable[..., list[int]], begin: Begin, clock: time_machine.Traveller
) -> None:
    fail(TRIES)

    assert refused(begin) == 86_400
    assert fail(2) == [86_400, 86_400]
    clock.shift(timedelta(days=2, seconds=1))
    assert fail(6) == []


def test_a_success_forgets_the_failures_of_the_account(
    fail: Callable[..., list[int]], throttles: ThrottleService, begin: Begin
) -> None:
    fail(5)

    throttles.succeed(begin())

    assert fail(6, address="192.0.2.1") == []
    assert fail(6) == []


def test_failures_are_forgotten_when_there_has_been_none_for_a_day(
    fail: Callable[..., list[int]], clock: time_machine.Traveller
) -> None:
    fail(5)
    clock.shift(timedelta(hours=23))
    fail(1)
    clock.shift(timedelta(hours=23))
    assert fail(2) == [2]

    clock.shift(timedelta(days=1, minutes=1))

    assert fail(6) == []


def test_a_stranger_does_not_keep_the_owner_out_of_a_known_network(
    fail: Callable[..., list[int]], throttles: ThrottleService, begin: Begin, clock: time_machine.Traveller
) -> None:
    throttles.succeed(begin(address=HOME))
    fail(20)

    assert refused(begin, address=ELSEWHERE) > 0
    assert refused(begin, address="192.0.2.1") > 0
    throttles.succeed(begin(address=HOME))
    assert refused(begin, address=ELSEWHERE) > 0

    fail(20, address=HOME)
    assert refused(begin, address=HOME) > 0

    clock.shift(timedelta(days=40))
    fail(20)
    assert refused(begin, address=HOME) > 0


def test_a_whole_network_is_stopped_later_and_for_at_most_a_quarter_of_an_hour(
    fail: Callable[..., list[int]], throttles: ThrottleService, begin: Begin, clock: time_machine.Traveller
) -> None:
    assert [fail(1, f"{number}@example.com") for number in range(51)] == [[]] * 51

    assert refused(begin, "somebody@example.com") == 1
    assert refused(begin, "somebody@example.com", address=HOME) == 0
    clock.shift(timedelta(seconds=1))
    throttles.succeed(begin("mallory@example.com"))
    waits = [wait for number in range(13) for wait in fail(1, f"{number}@example.org")]
    assert waits == [2, 4, 8, 16, 32, 64, 128, 256, 512, 900, 900, 900]

    clock.shift(timedelta(days=1))

    assert fail(1, "somebody@example.net") == []


def test_a_neighbour_in_the_same_64_is_the_same_network_and_the_next_one_is_not(
    fail: Callable[..., list[int]], begin: Begin
) -> None:
    for number in range(51):
        fail(1, f"{number}@example.com", address=f"2001:db8:0:1::{number:x}")

    assert refused(begin, address="2001:db8:0:1:ffff::1") == 1
    assert refused(begin, address="2001:db8:0:2::1") == 0


def test_spellings_of_an_address_are_one_account_and_nonsense_is_counted_too(
    fail: Callable[..., list[int]], begin: Begin
) -> None:
    fail(3)
    fail(3, " ADA@Example.com ")
    fail(6, "no address \ud800")

    assert refused(begin) == 1
    assert refused(begin, "no address \ud800") == 1


def test_of_tries_at_once_no_more_learn_the_outcome_than_of_as_many_in_turn(
    throttles: ThrottleService, begin: Begin
) -> None:
    at_once = [begin(address=f"192.0.2.{number}") for number in range(8)]

    for attempt in at_once[:6]:
        throttles.fail(attempt)

    for too_late in (throttles.fail, throttles.succeed):
        with pytest.raises(TooManyRequestsError) as refusal:
            too_late(at_once[7])
        assert refusal.value.retry_after == 1


def test_the_same_holds_in_a_known_network(throttles: ThrottleService, begin: Begin) -> None:
    throttles.succeed(begin())
    at_once = [begin() for _ in range(7)]

    for attempt in at_once[:6]:
        throttles.fail(attempt)

    with pytest.raises(TooManyRequestsError):
        throttles.succeed(at_once[6])


def test_a_reset_forgets_failures_and_networks_but_for_its_own(
    fail: Callable[..., list[int]], throttles: ThrottleService, begin: Begin, connection: Connection
) -> None:
    ada = UserFactory.build(email=ADA)
    throttles.succeed(begin(address=HOME))
    fail(20)

    throttles.forget(ada, keys=KEYS, address="192.0.2.1")
    assert refused(begin) == 0
    fail(20)

    assert refused(begin, address=HOME) > 0
    assert refused(begin, address="192.0.2.1") == 0


def test_no_failure_makes_a_network_known(throttles: ThrottleService, begin: Begin) -> None:
    """As when a reset, which makes other networks unknown, comes between the two halves of a guess."""
    throttles.succeed(begin(address=HOME))
    guess = begin(address=HOME)
    throttles.forget(UserFactory.build(email=ADA), keys=KEYS)

    throttles.fail(guess)

    assert begin(address=HOME).counts[0][0] != guess.home


def test_what_somebody_known_fails_at_is_counted_for_each_secret(throttles: ThrottleService) -> None:
    ada = UserFactory.build()
    for _ in range(6):
        throttles.fail(throttles.begin_password(ada.id))

    with pytest.raises(TooManyRequestsError):
        throttles.begin_password(ada.id)
    throttles.begin_code(ada.id, address=HOME, keys=KEYS)
    throttles.forget(ada, keys=KEYS)
    throttles.begin_password(ada.id)


def test_no_row_shows_an_address(fail: Callable[..., list[int]], session: Session) -> None:
    fail(1)

    rows = session.execute(select(Throttle.subject_hash, Throttle.network_hash)).all()

    assert sorted((len(subject), len(network)) for subject, network in rows) == [(32, 0), (32, 0)]
    assert ADA not in repr(rows)
