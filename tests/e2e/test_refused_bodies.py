"""Refused before its body was read, a client goes on: on the same connection, or told that it ends."""

from collections.abc import Callable, Iterator

import pytest
from sqlalchemy import URL

from tests.live import LiveServer

pytestmark = pytest.mark.e2e
JSON = {"Content-Type": "application/json"}


def in_pieces(body: bytes) -> Iterator[bytes]:
    """Sent without a Content-Length."""
    yield body


@pytest.fixture(scope="module")
def server(start_shared: Callable[..., LiveServer], shared_database: URL) -> LiveServer:
    return start_shared(LiveServer, shared_database)


@pytest.mark.parametrize("size", [1000, 100_000, 1_000_000])
@pytest.mark.parametrize("chunked", [False, True], ids=["whole", "chunked"])
def test_a_refused_body_breaks_no_later_request(size: int, chunked: bool, server: LiveServer) -> None:
    body = b"[" * size

    with server.client() as client:
        answers = [client.post("/items", content=in_pieces(body) if chunked else body, headers=JSON) for _ in range(80)]

    assert {answer.status_code for answer in answers} == {401}
