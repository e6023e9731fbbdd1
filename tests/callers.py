"""Calls to an application in this process, many at once and from any address: the test client can do neither."""

import asyncio
from typing import Any

import httpx
from litestar import Litestar


class Callers:
    """`start`, then `call` as often as you like, then `stop`; all on one event loop."""

    def __init__(self, app: Litestar) -> None:
        self._app: Any = app
        self._runner = asyncio.Runner()
        self._stopping = asyncio.Event()

    def start(self) -> None:
        self._runner.run(self._start())

    def call(
        self, method: str, path: str, *, times: int = 1, peer: str = "203.0.113.1", **options: Any
    ) -> list[httpx.Response]:
        """The same request `times` at once, from the address `peer`."""

        async def run() -> list[httpx.Response]:
            transport = httpx.ASGITransport(self._app, client=(peer, 1))
            async with httpx.AsyncClient(transport=transport, base_url="http://keel.test") as client:
                return await asyncio.gather(*[client.request(method, path, **options) for _ in range(times)])

        return self._runner.run(run())

    def stop(self) -> None:
        self._stopping.set()
        self._runner.run(asyncio.wait_for(self._running, 10))
        self._runner.close()

    async def _start(self) -> None:
        started = asyncio.Event()
        self._running = asyncio.create_task(self._live(started))
        await started.wait()

    async def _live(self, started: asyncio.Event) -> None:
        """A lifespan must end in the task in which it began."""
        async with self._app.lifespan():
            started.set()
            await self._stopping.wait()
