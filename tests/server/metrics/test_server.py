import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from app.server.metrics import server
from app.server.metrics.exchange import MetricsExchange
from app.server.metrics.metrics import Metrics
from app.server.metrics.server import serving_metrics
from tests.live import free_port, wait_until

pytestmark = pytest.mark.unit


@pytest.fixture
def port(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """Of a server that waits half a second for its clients."""
    monkeypatch.setattr(server, "CLIENT_SECONDS", 0.5)
    port = free_port()
    with serving_metrics(MetricsExchange(tmp_path, Metrics()), host="127.0.0.1", port=port, refresh=lambda: None):
        yield port


def test_a_client_that_drips_is_hung_up_on(port: int) -> None:
    with socket.create_connection(("127.0.0.1", port)) as client:
        client.settimeout(0.05)
        began = time.monotonic()
        wait_until(lambda: drip(client), seconds=5, what="the server to hang up")

    assert time.monotonic() - began < 3


def drip(client: socket.socket) -> bool:
    """Send a byte. Whether nobody takes it any more."""
    try:
        client.sendall(b"x")
        return client.recv(1) == b""
    except TimeoutError:
        return False
    except OSError:
        return True
