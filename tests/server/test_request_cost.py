"""What one authenticated `GET /items` costs; the table in `docs/architecture.md` quotes these figures."""

import asyncio
import contextlib
import re
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from concurrent.futures import Executor
from contextvars import Context
from pathlib import Path
from typing import Any, TypeVar, TypeVarTuple, Unpack

import httpx
import psycopg
import pytest
from litestar import Litestar
from sqlalchemy import URL, Engine, event

from app.lib.settings import Settings
from app.server.asgi import build_app
from tests.live import PASSWORD

pytestmark = pytest.mark.integration

PREPARED_AFTER = 5
"""psycopg gives a statement a name on the server once a connection has run it this often, which costs a round trip."""
T = TypeVar("T")
Ts = TypeVarTuple("Ts")
Act = Callable[[httpx.AsyncClient], Awaitable[Any]]


class CountingLoop(asyncio.SelectorEventLoop):
    """Counts both halves of a thread hop: work handed to an executor, and threads that wake the loop."""

    def __init__(self) -> None:
        super().__init__()
        self.submissions: list[Executor | None] = []
        self.wake_ups = 0

    def run_in_executor(
        self, executor: Executor | None, func: Callable[[Unpack[Ts]], T], *args: *Ts
    ) -> asyncio.Future[T]:
        self.submissions.append(executor)
        return super().run_in_executor(executor, func, *args)

    def call_soon_threadsafe(
        self, callback: Callable[[Unpack[Ts]], object], *args: *Ts, context: Context | None = None
    ) -> asyncio.Handle:
        self.wake_ups += 1
        return super().call_soon_threadsafe(callback, *args, context=context)


@pytest.fixture
def app(live_database: URL, settings: Settings) -> Litestar:
    return build_app(settings, live_database)


@pytest.fixture
def loop() -> Iterator[asyncio.Runner]:
    with asyncio.Runner(loop_factory=CountingLoop) as runner:
        yield runner


@contextlib.asynccontextmanager
async def signed_in(app: Litestar) -> AsyncIterator[httpx.AsyncClient]:
    """Somebody who owns three items, at a client of the running application."""
    account = {"email": "ada@example.com", "password": PASSWORD, "first_name": "Ada", "last_name": "Lovelace"}
    transport = httpx.ASGITransport(app)  # type: ignore[arg-type]  # Litestar's types name the keys of a scope
    async with app.lifespan(), httpx.AsyncClient(transport=transport, base_url="http://keel.test/api/v1") as client:
        (await client.post("/auth/register", json=account)).raise_for_status()
        tokens = await client.post("/auth/login", json={"email": account["email"], "password": PASSWORD})
        client.headers["Authorization"] = f"Bearer {tokens.json()['access_token']}"
        for title in ("Buy milk", "Buy tea", "Buy time"):
            (await client.post("/items", json={"title": title})).raise_for_status()
        for _ in range(PREPARED_AFTER + 1):
            await list_items(client)
        yield client


async def list_items(client: httpx.AsyncClient) -> None:
    answer = await client.get("/items")
    assert answer.json()["total"] == 3


async def create_item(client: httpx.AsyncClient) -> None:
    assert (await client.post("/items", json={"title": "Buy bread"})).status_code == 201


async def use_session(_: httpx.AsyncClient) -> None:
    """As signed in."""


async def use_api_key(client: httpx.AsyncClient) -> None:
    """From here on, instead of the session; it has been looked up."""
    body = {"name": "import", "scopes": ["items:read", "items:create"]}
    made = await client.post("/users/me/api-keys", json=body)
    client.headers["Authorization"] = f"Bearer {made.json()['key']}"
    await list_items(client)


def statements(engine: Engine) -> list[str]:
    """Fills with the SQL that SQLAlchemy sends from now on."""
    sent: list[str] = []
    event.listen(engine, "before_cursor_execute", lambda *details: sent.append(details[2]))
    return sent


@contextlib.contextmanager
def wire(engine: Engine, trace: Path) -> Iterator[Callable[[], list[str]]]:
    """Let libpq write down what every connection sends; the call returns what ended in a wait for the server.

    That is each Query and each Sync, whoever sent it: SQLAlchemy's statements, psycopg's BEGIN and COMMIT.
    """
    with trace.open("w") as file:

        def follow(connection: psycopg.Connection, *_: object) -> None:
            connection.pgconn.trace(file.fileno())

        def waits() -> list[str]:
            return [simple or "Sync" for simple in re.findall(r'\tF\t\d+\t(?:Sync|Query\t "(.*)")', trace.read_text())]

        event.listen(engine, "connect", follow)
        yield waits


async def grown_by(act: Act, client: httpx.AsyncClient, log: Callable[[], list[str]]) -> list[str]:
    before = len(log())
    await act(client)
    return log()[before:]


@pytest.mark.parametrize("identify", [use_session, use_api_key])
@pytest.mark.parametrize(("act", "verb"), [(list_items, "SELECT"), (create_item, "INSERT")])
def test_a_list_and_a_creation_are_one_query_each(
    act: Act, verb: str, identify: Act, app: Litestar, loop: asyncio.Runner
) -> None:
    async def run() -> list[str]:
        sent = statements(app.state.database.engine)
        async with signed_in(app) as client:
            await identify(client)
            return await grown_by(act, client, lambda: sent)

    assert [statement.split()[0] for statement in loop.run(run())] == [verb]


@pytest.mark.skipif(sys.platform != "linux", reason="psycopg can trace libpq on Linux only")
@pytest.mark.parametrize(
    ("act", "round_trips"),
    [(list_items, ["Sync"]), (create_item, ["BEGIN", "Sync", "COMMIT"])],
)
def test_a_list_is_one_round_trip_and_a_creation_three(
    act: Act, round_trips: list[str], app: Litestar, loop: asyncio.Runner, tmp_path: Path
) -> None:
    async def run() -> list[str]:
        with wire(app.state.database.engine, tmp_path / "trace") as waits:
            async with signed_in(app) as client:
                return await grown_by(act, client, waits)

    assert [wait.split()[0] for wait in loop.run(run())] == round_trips


@pytest.mark.parametrize("identify", [use_session, use_api_key])
@pytest.mark.parametrize("act", [list_items, create_item])
def test_each_is_one_hop_to_a_thread_and_back(act: Act, identify: Act, app: Litestar, loop: asyncio.Runner) -> None:
    async def run() -> None:
        counting = asyncio.get_running_loop()
        assert isinstance(counting, CountingLoop)
        async with signed_in(app) as client:
            await identify(client)
            counting.submissions.clear()
            counting.wake_ups = 0

            await act(client)

            assert counting.submissions == [app.state.threads.executor]
            assert counting.wake_ups == 1

    loop.run(run())
