"""A real server for end-to-end tests."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
from sqlalchemy import URL

SECRET_KEY = "the key of every server that a test starts"
PASSWORD = "the password of every account that a test makes"


APPLICATION = "app.server.asgi:create_app"


class LiveProcess:
    """A process of the application with the given settings, in a session of its own, writing to `log`."""

    def __init__(self, url: URL, *, log: Path, **settings: object) -> None:
        self.log = log
        self._environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("COV")},
            "APP_ENV": "test",
            "SECRET_KEY": SECRET_KEY,
            "DATABASE_URL": url.render_as_string(hide_password=False),
            "PUBLIC_URL": "http://keel.test",
            "LOG_LEVEL": "WARNING",
            "MAIL_BACKEND": "memory",
            "RATE_LIMIT_ENABLED": "false",
            **{name.upper(): str(value) for name, value in settings.items()},
        }
        self._process: subprocess.Popen[bytes] | None = None

    def run(self, *command: str) -> None:
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                command, env=self._environment, stdout=log, stderr=log, start_new_session=True
            )

    @property
    def process_id(self) -> int:
        assert self._process is not None
        return self._process.pid

    def tell_to_stop(self) -> None:
        """SIGTERM to the first process alone, as systemd and containers do."""
        assert self._process is not None
        self._process.terminate()

    def exit_code(self, *, seconds: float) -> int:
        assert self._process is not None
        return self._process.wait(seconds)

    def kill(self) -> None:
        """As kill -9 does, and the machine that loses power."""
        os.killpg(self.process_id, signal.SIGKILL)
        assert self._process is not None
        self._process.wait(5)

    def stop(self) -> int | None:
        """As an operator would. Returns the exit code."""
        if self._process is None or self._process.poll() is not None:
            return None
        os.killpg(self._process.pid, signal.SIGTERM)
        try:
            return self._process.wait(15)
        except subprocess.TimeoutExpired:
            os.killpg(self._process.pid, signal.SIGKILL)
            return self._process.wait(5)


class LiveWorker(LiveProcess):
    """`litestar worker`."""

    def __init__(self, url: URL, *, log: Path, application: str = APPLICATION, **settings: object) -> None:
        super().__init__(url, log=log, **{"log_level": "INFO", **settings})
        self._application = application

    def start(self) -> None:
        """Return when it waits for jobs. Raises AssertionError with its log when it does not come to that."""
        before = self.log.stat().st_size if self.log.exists() else 0
        self.run(sys.executable, "-m", "litestar", "--app", self._application, "worker")
        wait_until(
            lambda: b"worker started" in self.log.read_bytes()[before:],
            seconds=30,
            what=lambda: f"the worker to start:\n{self.log.read_text()}",
        )


class LiveServer(LiveProcess):
    """Granian with `workers` processes on a free port of loopback, against the given database."""

    def __init__(
        self,
        url: URL,
        *,
        log: Path,
        workers: int = 1,
        port: int | None = None,
        application: str = APPLICATION,
        **settings: object,
    ) -> None:
        super().__init__(url, log=log, **settings)
        self.port = port or free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.api = f"{self.url}/api/v1"
        self._workers = workers
        self._application = application

    def start(self) -> None:
        """Return when it is ready. Raises AssertionError with its log when it does not become so."""
        self.run(
            *(sys.executable, "-m", "granian", "--interface", "asgi", "--factory", "--no-log"),
            *("--port", str(self.port)),
            *("--workers", str(self._workers), "--backlog", "1024", self._application),
        )
        wait_until(self.is_ready, seconds=30, what=lambda: f"the server to be ready:\n{self.log.read_text()}")

    def is_ready(self) -> bool:
        try:
            return httpx.get(f"{self.url}/health/ready", timeout=5).status_code == 200
        except httpx.TransportError:
            return False

    def client(self, **options: object) -> httpx.Client:
        given: dict[str, Any] = {
            "base_url": self.api,
            "timeout": 30,
            "verify": False,
            **options,
        }  # reads no certificates
        return httpx.Client(**given)

    def sign_up(self) -> str:
        """Make an account. Returns its e-mail address."""
        email = f"{uuid4().hex}@example.com"
        account = {"email": email, "password": PASSWORD, "first_name": "Ada", "last_name": "Lovelace"}
        with self.client() as client:
            client.post("/auth/register", json=account).raise_for_status()
        return email

    def sign_in(self, email: str) -> dict[str, str]:
        """Returns the pair of tokens."""
        with self.client() as client:
            answer = client.post("/auth/login", json={"email": email, "password": PASSWORD}).raise_for_status()
        tokens: dict[str, str] = answer.json()
        return tokens


@contextmanager
def running_processes(directory: Path) -> Iterator[Callable[..., Any]]:
    """`start(LiveServer, url, workers=2)`: what is started writes its log there, and is stopped at the end."""
    processes: list[LiveServer | LiveWorker] = []

    def start(kind: type[LiveServer] | type[LiveWorker], url: URL, **options: Any) -> LiveServer | LiveWorker:
        process = kind(url, log=directory / f"{kind.__name__}-{len(processes)}.log", **options)
        processes.append(process)
        process.start()
        return process

    try:
        yield start
    finally:
        for process in reversed(processes):
            process.stop()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def temporary_files_of(process_id: int) -> set[str]:
    """Those have no name, only an open descriptor, which Linux shows; elsewhere none are found."""
    found = set()
    for descriptor in Path(f"/proc/{process_id}/fd").glob("*"):
        with contextlib.suppress(FileNotFoundError):
            found.add(str(descriptor.readlink()))
    return {target for target in found if target.endswith("(deleted)")}


def wait_until(
    condition: Callable[[], bool], *, seconds: float, what: Callable[[], str] | str = "the condition"
) -> float:
    """Wait for a condition, with a deadline. Returns how many seconds it took."""
    began = time.monotonic()
    while not condition():
        if time.monotonic() - began > seconds:
            raise AssertionError(f"waited {seconds} s for {what if isinstance(what, str) else what()}")
        time.sleep(0.01)
    return time.monotonic() - began
