"""HTTP/1.1 on bare asyncio streams: cheap enough to share two cores with the server it measures."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Awaitable, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, NamedTuple, Self


class Answer(NamedTuple):
    status: int
    headers: dict[str, str]
    content: bytes
    seconds: float
    """From the first byte sent to the last byte received."""

    def json(self) -> Any:
        return json.loads(self.content)


class Client:
    """One keep-alive connection, on which one request at a time is made."""

    def __init__(self, port: int, *, token: str = "") -> None:
        self._port = port
        self._authorization = f"Authorization: Bearer {token}\r\n" if token else ""

    async def __aenter__(self) -> Self:
        self._reader, self._writer = await asyncio.open_connection("127.0.0.1", self._port)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._writer.close()
        await self._writer.wait_closed()

    async def request(self, method: str, path: str, body: object = None) -> Answer:
        content = b"" if body is None else json.dumps(body).encode()
        head = (
            f"{method} {path} HTTP/1.1\r\nHost: keel.test\r\n{self._authorization}"
            f"Content-Type: application/json\r\nContent-Length: {len(content)}\r\n\r\n"
        )
        began = time.perf_counter()
        self._writer.write(head.encode() + content)
        first, *lines = (await self._reader.readuntil(b"\r\n\r\n")).decode("latin-1").strip().split("\r\n")
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
        received = await self._reader.readexactly(int(headers.get("content-length", 0)))
        return Answer(int(first.split()[1]), headers, received, time.perf_counter() - began)


@asynccontextmanager
async def clients(port: int, *tokens: str) -> AsyncIterator[list[Client]]:
    """One connection for each token, all of them open before the first request."""
    async with AsyncExitStack() as stack:
        yield [await stack.enter_async_context(Client(port, token=token)) for token in tokens]


async def together(work: Iterable[Awaitable[list[Answer]]]) -> list[Answer]:
    """Everything at once; the answers of all."""
    return [answer for answers in await asyncio.gather(*work) for answer in answers]


@asynccontextmanager
async def polling(client: Client, path: str, *, every: float = 0.0) -> AsyncIterator[list[Answer]]:
    """GET `path` on that connection while the block runs, each time `every` seconds after the last answer."""
    answers: list[Answer] = []

    async def poll() -> None:
        while True:
            answers.append(await client.request("GET", path))
            await asyncio.sleep(every)

    poller = asyncio.create_task(poll())
    try:
        yield answers
    finally:
        poller.cancel()
        await asyncio.gather(poller, return_exceptions=True)


def percentile(answers: list[Answer], share: float) -> float:
    """In milliseconds."""
    times = sorted(answer.seconds for answer in answers)
    return times[min(len(times) - 1, int(len(times) * share))] * 1000
