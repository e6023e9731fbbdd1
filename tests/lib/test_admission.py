import asyncio

import pytest
from litestar import Litestar, get

from app.lib.access.guards import public
from app.lib.admission import Gate, UnknownGateError, check_gates
from app.lib.errors import OverloadedError

pytestmark = pytest.mark.unit


class Visitors:
    """People who go through a gate and stay inside until they are let go."""

    def __init__(self, gate: Gate) -> None:
        self.gate = gate
        self.inside = 0
        self.most_inside = 0
        self.refused = 0
        self.leave = asyncio.Event()

    async def visit(self) -> None:
        try:
            async with self.gate:
                self.inside += 1
                self.most_inside = max(self.most_inside, self.inside)
                await self.leave.wait()
                self.inside -= 1
        except OverloadedError as error:
            self.refused += error.retry_after >= 1


def test_no_more_than_its_width_are_inside_and_the_rest_wait_their_turn() -> None:
    async def scenario() -> Visitors:
        visitors = Visitors(Gate(width=2, queue=10, patience=5))
        visits = [asyncio.create_task(visitors.visit()) for _ in range(8)]
        await asyncio.sleep(0)
        visitors.leave.set()
        await asyncio.gather(*visits)
        return visitors

    visitors = asyncio.run(scenario())

    assert (visitors.most_inside, visitors.inside, visitors.refused) == (2, 0, 0)


def test_who_finds_the_queue_full_is_refused_at_once() -> None:
    async def scenario() -> int:
        visitors = Visitors(Gate(width=1, queue=3, patience=5))
        visits = [asyncio.create_task(visitors.visit()) for _ in range(10)]
        for _ in range(5):
            await asyncio.sleep(0)
        refused = visitors.refused
        visitors.leave.set()
        await asyncio.gather(*visits)
        return refused

    assert asyncio.run(scenario()) == 6


def test_a_free_place_needs_no_room_to_wait() -> None:
    async def scenario() -> int:
        visitors = Visitors(Gate(width=1, queue=0, patience=5))
        visitors.leave.set()
        await visitors.visit()
        return visitors.refused

    assert asyncio.run(scenario()) == 0


def test_who_waits_too_long_is_refused_and_the_place_is_not_lost() -> None:
    async def scenario() -> tuple[int, int]:
        visitors = Visitors(Gate(width=1, queue=10, patience=0.05))
        first = asyncio.create_task(visitors.visit())
        await asyncio.sleep(0)
        await asyncio.gather(*[visitors.visit() for _ in range(3)])
        visitors.leave.set()
        await first
        await visitors.visit()
        return visitors.refused, visitors.most_inside

    assert asyncio.run(scenario()) == (3, 1)


def test_who_gives_up_waiting_frees_the_room() -> None:
    async def scenario() -> int:
        visitors = Visitors(Gate(width=1, queue=1, patience=5))
        first = asyncio.create_task(visitors.visit())
        await asyncio.sleep(0)
        for _ in range(3):
            waiting = asyncio.create_task(visitors.visit())
            await asyncio.sleep(0)
            waiting.cancel()
            await asyncio.gather(waiting, return_exceptions=True)
        visitors.leave.set()
        await first
        await visitors.visit()
        return visitors.refused

    assert asyncio.run(scenario()) == 0


@get("/narrow", guards=[public], gate="narow", sync_to_thread=False)
def misspelt() -> None: ...


@get("/wide", guards=[public], sync_to_thread=False)
def without() -> None: ...


def test_a_route_with_a_gate_that_there_is_not_stops_the_start() -> None:
    app = Litestar([misspelt, without], openapi_config=None)

    with pytest.raises(UnknownGateError, match=r"no such gate: GET /narrow \(narow\)"):
        check_gates(app, {"narrow"})
    check_gates(app, {"narow"})
