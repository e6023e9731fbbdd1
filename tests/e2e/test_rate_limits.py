"""One limit for several processes, and what becomes of it without its Redis."""

import asyncio
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import httpx
import psutil
import pytest
import redis
from sqlalchemy import URL, NullPool, create_engine, text

from tests.live import LiveServer, wait_until
from tests.redis_server import RedisServer

pytestmark = pytest.mark.e2e
StartServer = Callable[..., LiveServer]

LISTENERS = text(
    "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'keel-events'"
)


def refresh(server: LiveServer, *, times: int) -> Counter[int]:
    """All at once, each on a connection of its own. Whoever is let through gets a 401: nobody issued that token."""

    async def run() -> list[httpx.Response]:
        async with httpx.AsyncClient(base_url=server.api, timeout=30) as client:
            request = {"url": "/auth/refresh", "json": {"refresh_token": "x" * 43}}
            return await asyncio.gather(*[client.post(**request) for _ in range(times)])  # type: ignore[arg-type]  # a mixed dict

    return Counter(answer.status_code for answer in asyncio.run(run()))


@pytest.fixture
def start_limited(start_server: StartServer, live_database: URL) -> StartServer:
    """Returns when all processes are there: a server is ready as soon as one is."""

    def start(*, workers: int = 1, **settings: object) -> LiveServer:
        server = start_server(live_database, workers=workers, rate_limit_enabled=True, **settings)
        with create_engine(live_database, poolclass=NullPool, isolation_level="AUTOCOMMIT").connect() as connection:
            wait_until(lambda: connection.scalar(LISTENERS) == workers, seconds=30, what="all processes to listen")
        return server

    return start


def processes_that_asked(server: RedisServer, limited: LiveServer) -> int:
    """How many of the server's processes hold a connection to Redis."""
    workers = psutil.Process(limited.process_id).children(recursive=True)
    return sum(server.port in {getattr(to.raddr, "port", None) for to in one.net_connections()} for one in workers)


def test_4_processes_with_redis_let_exactly_10_of_100_through(
    start_limited: StartServer, redis_server: RedisServer
) -> None:
    server = start_limited(workers=4, rate_limit_refresh="10/minute", redis_url=redis_server.url)

    assert refresh(server, times=100) == {401: 10, 429: 90}
    assert processes_that_asked(redis_server, server) == 4


def test_4_processes_without_redis_count_each_for_itself(start_limited: StartServer) -> None:
    server = start_limited(workers=4, rate_limit_refresh="10/minute")

    assert 10 < refresh(server, times=100)[401] <= 40


def test_the_api_goes_on_when_its_redis_is_killed_and_says_so_once(
    start_limited: StartServer, redis_server: RedisServer
) -> None:
    server = start_limited(rate_limit_refresh="100/minute", redis_url=redis_server.url, log_level="INFO")
    wait_until_counted(server, redis_server)
    said_before = server.log.read_text()
    with ThreadPoolExecutor(1) as beside:
        under_way = beside.submit(refresh, server, times=300)
        redis_server.stop()
        assert set(under_way.result()) <= {401, 429}
    assert refresh(server, times=200)[429] >= 100, "the process counts for itself"

    redis_server.start()
    wait_until_counted(server, redis_server)

    assert refresh(server, times=50) == {401: 50}, "the new Redis knows of nobody"
    said_since = server.log.read_text().removeprefix(said_before)
    said = [line for line in said_since.splitlines() if "rate limits" in line]
    assert ["lost Redis" in said[0], "in Redis again" in said[1], len(said)] == [True, True, 2]


def wait_until_counted(server: LiveServer, redis_server: RedisServer) -> None:
    """A lost Redis is tried again after some seconds. On a busy machine even the first connection can be too slow."""
    wait_until(lambda: refresh(server, times=1).total() == 1 and counts_in(redis_server), seconds=60)


def counts_in(server: RedisServer) -> bool:
    with redis.Redis.from_url(server.url) as client:
        return bool(client.keys("*refresh*"))
