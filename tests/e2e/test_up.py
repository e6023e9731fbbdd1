"""`up`, as a person starts and stops it, with everything it keeps in a folder of the test's own."""

import math
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import psutil
import pytest

from tests.live import free_port, wait_until

pytestmark = pytest.mark.e2e

SOURCE = Path(__file__).parents[2] / "src" / "app"
LITESTAR = Path(sys.executable).with_name("litestar")


class Up:
    """One `up` and what it has printed."""

    def __init__(self, local_dir: Path, port: int, log: Path, **settings: str) -> None:
        self.url = f"http://127.0.0.1:{port}"
        self._log = log
        environment = {**os.environ, "LOCAL_DIR": str(local_dir), "LOG_LEVEL": "WARNING", **settings}
        command = [str(LITESTAR), "up", "--port", str(port)]
        with log.open("wb") as output:
            self.process = subprocess.Popen(command, env=environment, stdout=output, stderr=output)

    @property
    def printed(self) -> str:
        return self._log.read_text()

    def wait_until_serving(self) -> None:
        wait_until(lambda: "Ctrl-C" in self.printed or self.has_ended(), seconds=60, what=lambda: self.printed)
        assert not self.has_ended(), self.printed

    def has_ended(self) -> bool:
        return self.process.poll() is not None

    def interrupt(self) -> int:
        self.process.send_signal(signal.SIGINT)
        return self.process.wait(30)


@pytest.fixture
def local_dir(tmp_path: Path) -> Path:
    return tmp_path / "local"


@pytest.fixture
def up(local_dir: Path, tmp_path: Path) -> Iterator[Callable[..., Up]]:
    started: list[Up] = []

    def start(port: int | None = None, **settings: str) -> Up:
        started.append(Up(local_dir, port or free_port(), tmp_path / f"up-{len(started)}.log", **settings))
        return started[-1]

    yield start
    for each in started:
        if not each.has_ended():
            each.interrupt()


def left_over(local_dir: Path) -> list[int]:
    """Processes whose command line or environment names the folder."""
    return [
        process.pid
        for process in psutil.process_iter(["cmdline"])
        if str(local_dir) in " ".join(process.info["cmdline"] or [])
    ]


def test_up_serves_and_ctrl_c_stops_all_of_it(up: Callable[..., Up], local_dir: Path) -> None:
    first = up()
    first.wait_until_serving()
    password = re.search(r"administrator (\S+) with the password (\S+)", first.printed)
    assert password

    credentials = {"email": password[1], "password": password[2]}
    signed_in = httpx.post(f"{first.url}/api/v1/auth/login", json=credentials)
    assert signed_in.status_code == 200
    assert httpx.get(f"{first.url}/health/ready").json()["status"] == "ready"

    assert first.interrupt() == 0
    assert left_over(local_dir) == []

    second = up()
    second.wait_until_serving()
    assert "password" not in second.printed
    assert httpx.post(f"{second.url}/api/v1/auth/login", json=credentials).status_code == 200


def test_what_the_worker_sends_is_in_the_mailbox(up: Callable[..., Up]) -> None:
    running = up()
    running.wait_until_serving()
    mailbox = re.search(r"Mail +(http://\S+)", running.printed)
    assert mailbox
    account = {"email": "ada@example.com", "password": "correct horse", "first_name": "Ada", "last_name": "Lovelace"}

    httpx.post(f"{running.url}/api/v1/auth/register", json=account).raise_for_status()

    wait_until(lambda: "Confirm your address" in httpx.get(mailbox[1]).text, seconds=10, what=lambda: running.printed)
    mail = re.search(r'href="(/dev/mail/\S+)"', httpx.get(mailbox[1]).text)
    assert mail
    assert running.url.replace("127.0.0.1", "localhost") in httpx.get(f"{running.url}{mail[1]}/text").text


def test_a_process_that_a_change_of_the_code_has_ended_starts_again_with_the_next(up: Callable[..., Up]) -> None:
    running = up(RELOAD="true")
    running.wait_until_serving()
    api = next(each for each in psutil.Process(running.process.pid).children() if "granian" in " ".join(each.cmdline()))

    api.kill()
    wait_until(lambda: "Mend the code and save it." in running.printed, seconds=10, what=lambda: running.printed)
    assert not running.has_ended()

    saved_at = -math.inf

    def is_back_after_saving() -> bool:
        """Saved once more when nothing has come of it: whoever saves while it starts stops it again."""
        nonlocal saved_at
        if time.monotonic() - saved_at > 15:
            saved_at = time.monotonic()
            (SOURCE / "__init__.py").touch()
        try:
            return httpx.get(f"{running.url}/health/live").is_success
        except httpx.TransportError:
            return False

    wait_until(is_back_after_saving, seconds=60, what=lambda: running.printed)
    assert running.interrupt() == 0


def test_an_up_that_was_killed_does_not_block_the_next(up: Callable[..., Up], local_dir: Path) -> None:
    port = free_port()
    first = up(port)
    first.wait_until_serving()

    first.process.kill()
    first.process.wait()
    second = up(port)
    second.wait_until_serving()

    assert httpx.get(f"{second.url}/health/live").status_code == 200
    assert second.interrupt() == 0
    assert left_over(local_dir) == []


def test_a_second_up_and_a_taken_port_are_one_line_each(up: Callable[..., Up]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        refused = up(taken.getsockname()[1])
        assert refused.process.wait(30) == 1
    assert re.fullmatch(r"Error: Cannot listen on 127\.0\.0\.1:\d+: .*\n", refused.printed)

    first = up()
    first.wait_until_serving()
    second = up()
    assert second.process.wait(30) == 1
    assert second.printed == f"Error: This checkout is already up (process {first.process.pid}).\n"


def test_commands_bring_the_database_up_for_themselves(local_dir: Path) -> None:
    environment = {**os.environ, "LOCAL_DIR": str(local_dir)}

    def run(*command: str) -> str:
        ended = subprocess.run([LITESTAR, *command], env=environment, capture_output=True, text=True, check=True)
        return ended.stdout

    run("database", "upgrade", "--no-prompt")
    assert "(head)" in run("database", "show-current-revision")
    assert "No new upgrade operations" in run("database", "check")
    name = ("--first-name", "Ada", "--last-name", "Lovelace")
    assert "with the password" in run("users", "create", "ada@example.com", *name, "--administrator")
    assert left_over(local_dir) == []
