"""What the audit log keeps when its process is stopped, by the real server."""

from collections.abc import Callable

import pytest
from sqlalchemy import URL, NullPool, create_engine, text

from tests.live import LiveServer

pytestmark = pytest.mark.e2e


def test_an_orderly_stop_loses_no_refusal(start_server: Callable[..., LiveServer], live_database: URL) -> None:
    server = start_server(live_database)
    token = server.sign_in(server.sign_up())["access_token"]
    with server.client(headers={"Authorization": f"Bearer {token}"}) as client:
        statuses = {client.get("/users").status_code for _ in range(50)}

    server.stop()

    assert statuses == {403}
    with create_engine(live_database, poolclass=NullPool).connect() as fresh:
        counts = list(fresh.scalars(text("SELECT count FROM audit_events WHERE action = 'access.denied'")))
    assert sum(counts) == 50
    assert len(counts) <= 2
