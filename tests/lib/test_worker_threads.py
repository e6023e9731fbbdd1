import asyncio
import threading

import pytest

from app.lib.worker_threads import WorkerThreads

pytestmark = pytest.mark.unit


def test_those_that_run_and_those_that_wait_are_counted_and_each_wait_is_told() -> None:
    waits: list[float] = []

    async def scenario() -> tuple[int, int]:
        threads = WorkerThreads(1, note_wait=waits.append)
        leave = threading.Event()
        calls = [asyncio.create_task(threads.run(leave.wait)) for _ in range(3)]
        await asyncio.sleep(0)
        figures = threads.busy, threads.waiting
        leave.set()
        await asyncio.gather(*calls)
        await asyncio.sleep(0)
        threads.shutdown()
        assert (threads.busy, threads.waiting) == (0, 0)
        return figures

    assert asyncio.run(scenario()) == (1, 2)
    assert len(waits) == 3
    assert waits == sorted(waits)


def test_a_request_that_is_cancelled_keeps_its_thread_until_it_is_done() -> None:
    async def scenario() -> tuple[int, int]:
        threads = WorkerThreads(1)
        leave = threading.Event()
        slow = asyncio.create_task(threads.run(leave.wait))
        await asyncio.sleep(0)
        slow.cancel()
        await asyncio.gather(slow, return_exceptions=True)
        while_running = threads.busy
        leave.set()
        await threads.run(lambda: None)
        threads.shutdown()
        await asyncio.sleep(0)
        return while_running, threads.busy

    assert asyncio.run(scenario()) == (1, 0)


def test_one_that_is_cancelled_while_it_waits_leaves_no_trace() -> None:
    async def scenario() -> tuple[int, int]:
        threads = WorkerThreads(1)
        leave = threading.Event()
        slow, impatient = [asyncio.create_task(threads.run(leave.wait)) for _ in range(2)]
        await asyncio.sleep(0)
        impatient.cancel()
        await asyncio.gather(impatient, return_exceptions=True)
        figures = threads.busy, threads.waiting
        leave.set()
        await slow
        threads.shutdown()
        return figures

    assert asyncio.run(scenario()) == (1, 0)
