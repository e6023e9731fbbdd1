"""Far more requests at once than threads and connections: none fails, none is lost, and the process still answers."""

import asyncio
import logging
from collections.abc import Callable
from contextlib import AsyncExitStack
from typing import NamedTuple

import pytest
from sqlalchemy import URL, NullPool, create_engine, text

from tests.live import LiveServer
from tests.load.generator import Answer, Client, clients, percentile, polling, together

pytestmark = pytest.mark.e2e
logger = logging.getLogger(__name__)

ITEMS = "/api/v1/items"
ME = "/api/v1/users/me"
CONCURRENCY = 400
ROUNDS = 2
ACCOUNTS = 10
LIVENESS_LIMIT_MS = 200
ATTEMPTS = 2
"""The limit is on the server; a moment in which the machine was busy with something else is measured again."""


class Measured(NamedTuple):
    answers: list[Answer]
    liveness: list[Answer]

    @property
    def created(self) -> set[str]:
        return {answer.json()["id"] for answer in self.answers if answer.status == 201}


async def use(client: Client, number: int) -> list[Answer]:
    """Create an item, then everything else; clients begin at different points, so that all is mixed."""
    created = await client.request("POST", ITEMS, {"title": f"Item {number}"})
    item = f"{ITEMS}/{created.json()['id']}" if created.status == 201 else ITEMS
    steps = [
        ("GET", ITEMS, None),
        ("GET", item, None),
        ("PATCH", item, {"description": f"of {number}"}),
        ("GET", ME, None),
        ("PATCH", ME, {"first_name": f"Ada {number}"}),
    ]
    turn = number % len(steps)
    return [created, *[await client.request(*step) for step in steps[turn:] + steps[:turn]]]


async def overload(port: int, tokens: list[str]) -> Measured:
    async with AsyncExitStack() as stack:
        probes = await stack.enter_async_context(clients(port, *[""] * 4))
        users = await stack.enter_async_context(clients(port, *[tokens[n % ACCOUNTS] for n in range(CONCURRENCY)]))
        polls = [await stack.enter_async_context(polling(probe, "/health/live", every=0.01)) for probe in probes]
        answers = []
        for _ in range(ROUNDS):
            answers += await together(use(client, number) for number, client in enumerate(users))
        return Measured(answers, [answer for poll in polls for answer in poll])


def stored_items(url: URL) -> set[str]:
    with create_engine(url, poolclass=NullPool).connect() as connection:
        return set(map(str, connection.scalars(text("SELECT id FROM items"))))


def test_four_hundred_at_once_all_succeed(live_database: URL, start_server: Callable[..., LiveServer]) -> None:
    server = start_server(live_database, workers=2, db_pool_size=8)
    tokens = [server.sign_in(server.sign_up())["access_token"] for _ in range(ACCOUNTS)]

    runs = [asyncio.run(overload(server.port, tokens))]
    while percentile(runs[-1].liveness, 0.99) >= LIVENESS_LIMIT_MS and len(runs) < ATTEMPTS:
        runs.append(asyncio.run(overload(server.port, tokens)))
    logger.info("%s", describe(runs))

    statuses = {answer.status for run in runs for answer in [*run.answers, *run.liveness]}
    created = set[str]().union(*(run.created for run in runs))
    assert statuses == {200, 201}
    assert len(created) == CONCURRENCY * ROUNDS * len(runs)
    assert stored_items(live_database) == created
    assert percentile(runs[-1].liveness, 0.99) < LIVENESS_LIMIT_MS, describe(runs)


def describe(runs: list[Measured]) -> str:
    return "\n".join(
        f"{len(run.answers)} answers, p99 {percentile(run.answers, 0.99):.0f} ms; "
        f"{len(run.liveness)} polls, p50 {percentile(run.liveness, 0.5):.0f} ms, "
        f"p99 {percentile(run.liveness, 0.99):.0f} ms"
        for run in runs
    )
