"""How often a caller may ask: which class a route is in, who is one caller, and how many requests are left to them."""

import math
import re
import time
from collections.abc import Collection
from ipaddress import IPv6Address, ip_address
from typing import NamedTuple

from limits import RateLimitItem
from litestar import Litestar
from litestar.handlers import BaseRouteHandler

from app.lib.access.guards import guarded_routes

WITH_PORT = re.compile(r"\[([^\]]+)\](?::\d+)?|([\d.]+):\d+")
"""`[2001:db8::1]:50000` or `198.51.100.7:50000`, as Azure's gateways write into X-Forwarded-For."""
READING = {"GET", "HEAD", "OPTIONS"}
MAX_CALLERS = 50_000
"""How many have a count of their own in one window of one class in one process: about 6 MB. There are two windows."""
CROWDS = 1024
"""How many counts all later callers share."""


class UnknownRateLimitError(Exception):
    """Routes name a class that has no limit."""


def rate_limit_of(handler: BaseRouteHandler, method: str) -> str | None:
    """The route's class: what it says itself, or else `read` or `write` by its method. None: it is not counted."""
    said: str | None = handler.opt.get("rate_limit", "read" if method in READING else "write")
    return said


def check_rate_limits(app: Litestar, known: Collection[str]) -> None:
    """Raises UnknownRateLimitError, naming every route with a class that is not among the known."""
    named = [(route, rate_limit_of(route.handler, route.method)) for route in guarded_routes(app)]
    unknown = [f"{route.method} {route.path} ({name})" for route, name in named if name and name not in known]
    if unknown:
        raise UnknownRateLimitError(f"no such rate limit: {', '.join(unknown)}; there are {', '.join(known)}")


def network_of(host: str) -> str:
    """What one customer has: an IPv4 address, or a whole /64 of IPv6. Some proxies add the port.

    All that is no address is one caller: otherwise everybody could be somebody new with each request.
    """
    with_port = WITH_PORT.fullmatch(host)
    try:
        address = ip_address((with_port[1] or with_port[2]) if with_port else host)
    except ValueError:
        return "unknown"
    if not isinstance(address, IPv6Address):
        return str(address)
    return str(address.ipv4_mapped or f"{IPv6Address(int(address) >> 64 << 64)}/64")


class Window(NamedTuple):
    """One request, counted.

    `reset`: whole seconds until the window ends or, with none remaining, until one more will be let through.
    """

    is_admitted: bool
    remaining: int
    limit: int
    reset: int


def window_of(limit: RateLimitItem, *, is_admitted: bool, previous: int, current: int, left: float) -> Window:
    """What follows from the counts of two windows, `left` seconds before the current one ends.

    The previous one counts by the part of it that the last period still overlaps: that makes the limit slide,
    so that nobody gets twice as much around the end of a window.
    """
    period = limit.get_expiry()
    remaining = max(0, limit.amount - _used(previous, current, left / period))
    wait = left
    if not remaining and current < limit.amount:  # then what blocks is `previous`, and it fades
        wait -= (limit.amount - current) * period / previous
    return Window(is_admitted, remaining, limit.amount, reset=max(1, math.ceil(wait)))


def _used(previous: int, current: int, overlap: float) -> int:
    return math.floor(previous * overlap) + current


class MemoryWindows:
    """The counts of one class in this process, by the same rule as `limits` has in Redis.

    Not the memory storage of `limits`: it starts a thread every 10 ms that walks through all callers, and it
    keeps as many as there are. Here a new window drops the one before the last as a whole.
    """

    def __init__(self, limit: RateLimitItem) -> None:
        self._limit = limit
        self._began = time.monotonic()
        self._previous: dict[str, int] = {}
        self._current: dict[str, int] = {}

    def hit(self, caller: str) -> Window:
        """Count a request, unless it is one too many."""
        left = self._turn()
        previous = self._previous.get(_place(self._previous, caller), 0)
        place = _place(self._current, caller)
        current = self._current.get(place, 0)
        is_admitted = _used(previous, current, left / self._limit.get_expiry()) < self._limit.amount
        if is_admitted:
            current += 1
            self._current[place] = current
        return window_of(self._limit, is_admitted=is_admitted, previous=previous, current=current, left=left)

    def _turn(self) -> float:
        """Begin a new window when it is time. Returns the seconds that are left of the current one."""
        period = self._limit.get_expiry()
        passed = time.monotonic() - self._began
        if passed >= period:
            self._previous = self._current if passed < 2 * period else {}
            self._current = {}
            self._began += passed // period * period
        return period - passed % period


def _place(counts: dict[str, int], caller: str) -> str:
    """Where a caller is counted. Those for whom no place is left share some: nobody is forgotten, nobody unlimited."""
    if caller in counts or len(counts) < MAX_CALLERS:
        return caller
    return f"crowd:{hash(caller) % CROWDS}"
