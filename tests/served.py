"""The API as production serves it, on a port or behind a Unix socket."""

import socket
import sys
from pathlib import Path
from typing import Any

import httpx
from sqlalchemy import URL

from app.server.serving.supervisor import Serving
from tests.live import APPLICATION, LiveProcess, free_port, wait_until


class ServedApi(LiveProcess):
    """`litestar serve`, or with `serving` what it becomes."""

    def __init__(self, url: URL, *options: str, log: Path, serving: Serving | None = None, **settings: object) -> None:
        self.port = serving.port if serving else free_port()
        super().__init__(url, log=log, **{"host": "127.0.0.1", "port": self.port, **settings})
        command = (sys.executable, "-m", "litestar", "--app", APPLICATION, "serve", *options)
        self._command = serving.command if serving else command
        self._socket = serving.socket if serving else None

    def start(self) -> None:
        """Return when it is ready. Raises AssertionError with its log when it does not become so."""
        self.begin()
        wait_until(
            lambda: self.status("/health/ready") == 200,
            seconds=60,
            what=lambda: f"the API to be ready:\n{self.log.read_text()}",
        )

    def begin(self) -> None:
        """Without waiting until it is ready."""
        self.run(*self._command)

    def client(self) -> httpx.Client:
        transport = httpx.HTTPTransport(uds=self._socket, verify=False)  # reads no certificates
        return httpx.Client(transport=transport, base_url=f"http://127.0.0.1:{self.port}", timeout=60)

    def status(self, path: str, **options: Any) -> int | None:
        """Of an answer over a new connection; None when nobody answers there."""
        if not self.is_listening():
            return None
        try:
            with self.client() as client:
                return client.get(path, **options).status_code
        except httpx.TransportError:
            return None

    def is_listening(self) -> bool:
        with socket.socket(socket.AF_UNIX if self._socket else socket.AF_INET) as probe:
            return probe.connect_ex(self._socket or ("127.0.0.1", self.port)) == 0
