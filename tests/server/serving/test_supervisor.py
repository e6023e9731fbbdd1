"""What the supervisor does with its processes when it is told to stop (tests/e2e/test_shutdown.py has the rest)."""

import multiprocessing
import time
from types import SimpleNamespace
from typing import Any

import pytest

from app.server.serving.drain import DRAIN_SIGNAL
from app.server.serving.supervisor import Serving, Supervisor

pytestmark = pytest.mark.unit


def sleeper(seconds: float) -> Any:
    """As Granian keeps one of its own: a process that does nothing, and that a signal ends."""
    process = multiprocessing.get_context("spawn").Process(target=time.sleep, args=(seconds,))
    process.start()
    return SimpleNamespace(inner=process)


def test_a_drain_passes_over_a_process_that_has_ended() -> None:
    supervisor = Supervisor(Serving(host="127.0.0.1", port=1, workers=2, drain=0.01, grace=1))
    supervisor.wrks = [sleeper(0), sleeper(60)]
    ended, alive = [worker.inner for worker in supervisor.wrks]
    ended.join()

    supervisor.signal_handler_interrupt()

    alive.join(10)
    assert alive.exitcode == -DRAIN_SIGNAL
    assert supervisor.main_loop_interrupt.wait(10)
