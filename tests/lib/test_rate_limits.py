import time
from collections import Counter

import pytest
from limits import parse
from litestar import Controller, Litestar

from app.lib import rate_limits
from app.lib.access.guards import public
from app.lib.rate_limits import MemoryWindows, UnknownRateLimitError, check_rate_limits, network_of
from app.lib.routing import get, post

pytestmark = pytest.mark.unit


class Clock:
    """Time that passes when the test says so."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(time, "monotonic", clock)
    return clock


@pytest.fixture
def windows(clock: Clock) -> MemoryWindows:
    return MemoryWindows(parse("10/minute"))


def admitted(windows: MemoryWindows, *, tries: int, caller: str = "ada") -> int:
    return sum(windows.hit(caller).is_admitted for _ in range(tries))


@pytest.mark.parametrize(
    ("host", "network"),
    [
        ("198.51.100.7", "198.51.100.7"),
        ("::ffff:198.51.100.7", "198.51.100.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2:ffff::1", "2001:db8:1:2::/64"),
        ("2001:db8:1:3::1", "2001:db8:1:3::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("::1", "::/64"),
        ("198.51.100.7:50000", "198.51.100.7"),
        ("[2001:db8:1:2::1]:50000", "2001:db8:1:2::/64"),
        ("[2001:db8:1:2::1]", "2001:db8:1:2::/64"),
        ("[::ffff:198.51.100.7]:50000", "198.51.100.7"),
        ("198.51.100.7:", "unknown"),
        ("198.51.100.7:x", "unknown"),
        ("[198.51.100.7]x", "unknown"),
        ("198.51.100.7:1:2", "unknown"),
        ("gateway:50000", "unknown"),
        ("", "unknown"),
    ],
)
def test_a_caller_is_an_ipv4_address_or_a_64_of_ipv6_and_all_else_is_one(host: str, network: str) -> None:
    assert network_of(host) == network


def test_exactly_as_many_as_the_limit_says_are_let_through(windows: MemoryWindows) -> None:
    assert admitted(windows, tries=100) == 10
    assert admitted(windows, tries=100, caller="grace") == 10


def test_each_answer_tells_what_is_left_and_until_when(windows: MemoryWindows, clock: Clock) -> None:
    first = windows.hit("ada")
    clock.now += 20.5
    others = [windows.hit("ada") for _ in range(10)]

    assert first == (True, 9, 10, 60)
    assert [window.remaining for window in others] == [8, 7, 6, 5, 4, 3, 2, 1, 0, 0]
    assert others[-1] == (False, 0, 10, 40)


def test_nobody_gets_twice_as_much_around_the_end_of_a_window(windows: MemoryWindows, clock: Clock) -> None:
    clock.now += 59
    assert admitted(windows, tries=100) == 10
    clock.now += 2

    assert admitted(windows, tries=100) <= 1


def test_the_limit_comes_back_little_by_little(windows: MemoryWindows, clock: Clock) -> None:
    admitted(windows, tries=10)
    clock.now += 60
    came_back = Counter(dict.fromkeys(range(3), 0))
    for second in range(180):
        came_back[second // 60] += admitted(windows, tries=5)
        clock.now += 1

    assert came_back == {0: 10, 1: 10, 2: 10}


@pytest.mark.parametrize("seconds", [0, 7, 31.5, 59.9])
def test_who_comes_back_when_told_is_let_through_and_not_much_earlier(
    seconds: float, windows: MemoryWindows, clock: Clock
) -> None:
    admitted(windows, tries=7)
    for _ in range(5):
        clock.now += seconds
        admitted(windows, tries=100)
        refused = windows.hit("ada")
        clock.now += refused.reset - 1
        assert not windows.hit("ada").is_admitted
        clock.now += 1.001
        assert windows.hit("ada").is_admitted


def test_after_two_quiet_windows_nothing_is_remembered(windows: MemoryWindows, clock: Clock) -> None:
    admitted(windows, tries=10)
    clock.now += 500

    assert windows.hit("grace") == (True, 9, 10, 40)
    assert list(windows._current) == ["grace"]
    assert windows._previous == {}


def test_a_crowd_of_new_callers_neither_fills_the_memory_nor_frees_the_old(
    windows: MemoryWindows, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rate_limits, "MAX_CALLERS", 100)
    admitted(windows, tries=10)

    for number in range(20_000):
        windows.hit(f"address:{number}")

    assert len(windows._current) <= 100 + rate_limits.CROWDS
    assert admitted(windows, tries=1) == 0


def test_newcomers_for_whom_there_is_no_place_have_a_limit_too(
    windows: MemoryWindows, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rate_limits, "MAX_CALLERS", 1)
    windows.hit("ada")

    taking_turns = [windows.hit(caller).is_admitted for _ in range(50) for caller in ("grace", "mary")]
    assert sum(taking_turns) <= 20
    clock.now += 61
    assert admitted(windows, tries=100, caller="grace") <= 1, "what a crowd was counted weighs in the next window"


class MisspeltController(Controller):
    path = "/misspelt"
    guards = [public]

    @post(rate_limit="singin")
    def create_misspelt(self) -> None: ...

    @get(rate_limit=None)
    def list_misspelt(self) -> None: ...


def test_a_route_of_an_unknown_class_stops_the_start() -> None:
    app = Litestar([MisspeltController], openapi_config=None)

    with pytest.raises(UnknownRateLimitError, match=r"^no such rate limit: POST /misspelt \(singin\); there are "):
        check_rate_limits(app, {"read", "write"})
