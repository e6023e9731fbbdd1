"""The API as production serves it, on a port or behind a Unix socket."""

import socket
import sys
from pathlib import Path

import httpx
from sqlalchemy import URL

from tests.live import LiveProcess, free_port, wait_until


class ServedApi(LiveProcess):
    """`litestar serve`."""

    def __init__(self, url: URL, *options: str, log: Path, socket_path: Path | None = None, **settings: object) -> None:
        self.port = free_port()
        super().__init__(url, log=log, **{"host": "127.0.0.1", "port": self.port, **settings})
        self.socket_path = socket_path
        self._options = options

    def start(self) -> None:
        """Return when it is ready. Raises AssertionError with its log when it does not become so."""
        self.begin()
        self.wait_until_ready()

    def begin(self) -> None:
        place = ("--socket", str(self.socket_path)) if self.socket_path else ()
        self.run(
            sys.executable, "-m", "litestar", "--app", "app.server.asgi:create_app", "serve", *place, *self._options
        )

    def wait_until_ready(self) -> None:
        wait_until(
            lambda: self.status("/health/ready") == 200,
            seconds=60,
            what=lambda: f"the API to be ready:\n{self.log.read_text()}",
        )

    def client(self) -> httpx.Client:
        transport = httpx.HTTPTransport(uds=str(self.socket_path) if self.socket_path else None)
        return httpx.Client(transport=transport, base_url=f"http://127.0.0.1:{self.port}", timeout=60)

    def status(self, path: str) -> int | None:
        """Of an answer over a new connection; None when nobody answers there."""
        try:
            with self.client() as client:
                return client.get(path).status_code
        except httpx.TransportError:
            return None

    def is_listening(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0
