"""A refresh token works once. Whoever comes with it again, and whoever came before, has to sign in anew."""

import asyncio
from collections.abc import Callable

import pytest
from sqlalchemy import URL, NullPool, create_engine, text

from tests.live import LiveServer
from tests.load.generator import Answer, clients

pytestmark = pytest.mark.e2e

REFRESH = "/api/v1/auth/refresh"
ATTEMPTS_EACH = 25


def stored(url: URL, query: str) -> object:
    with create_engine(url, poolclass=NullPool).connect() as connection:
        return connection.scalar(text(query))


def living_successors(url: URL) -> object:
    return stored(
        url,
        "SELECT count(*) FROM refresh_tokens JOIN sessions ON sessions.id = session_id "
        "WHERE used_at IS NULL AND revoked_at IS NULL",
    )


def test_a_replayed_refresh_token_ends_its_whole_family(
    live_database: URL, start_server: Callable[..., LiveServer]
) -> None:
    server = start_server(live_database)
    first = server.sign_in(server.sign_up())["refresh_token"]
    with server.client() as client:
        newest = client.post("/auth/refresh", json={"refresh_token": first}).json()
        revoked_before = stored(live_database, "SELECT revoked_at FROM sessions")

        replayed = client.post("/auth/refresh", json={"refresh_token": first})
        then_newest = client.post("/auth/refresh", json={"refresh_token": newest["refresh_token"]})
        then_access = client.get("/users/me", headers={"Authorization": f"Bearer {newest['access_token']}"})

    assert revoked_before is None
    assert [answer.status_code for answer in (replayed, then_newest, then_access)] == [401, 401, 401]
    assert replayed.headers["content-type"] == "application/problem+json"
    assert stored(live_database, "SELECT revoked_at FROM sessions") is not None
    assert stored(live_database, "SELECT revocation_reason FROM sessions") == "refresh_token_reused"
    assert living_successors(live_database) == 0


async def refresh_everywhere(ports: list[int], token: str) -> list[Answer]:
    async with clients(ports[0], *[""] * ATTEMPTS_EACH) as here, clients(ports[1], *[""] * ATTEMPTS_EACH) as there:
        work = (client.request("POST", REFRESH, {"refresh_token": token}) for client in [*here, *there])
        return await asyncio.gather(*work)


def test_of_fifty_refreshes_at_once_at_most_one_successor_lives(
    live_database: URL, start_server: Callable[..., LiveServer]
) -> None:
    servers = [start_server(live_database) for _ in range(2)]
    token = servers[0].sign_in(servers[0].sign_up())["refresh_token"]

    answers = asyncio.run(refresh_everywhere([server.port for server in servers], token))

    statuses = sorted(answer.status for answer in answers)
    assert statuses == [200, *[401] * (2 * ATTEMPTS_EACH - 1)]
    living = living_successors(live_database)
    assert living in (0, 1), living
    assert stored(live_database, "SELECT count(*) FROM refresh_tokens") == 2
