"""The processes that `up` starts, each in its own session, so that a later `up` can find and end them."""

import contextlib
import fcntl
import os
import signal
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

POLL_INTERVAL = 0.02
KILL_DEADLINE = 10.0
STARTING_GRACE = 1.0
RECORD_VARIABLE = "KEEL_PROCESS_RECORD"


class ProcessError(RuntimeError):
    """A process cannot be started or ended. The text is one plain line."""


class ChildProcess:
    """One process and its descendants, which stop within `grace` seconds of SIGTERM or are killed.

    `record` holds the number of their process group, and all of them share a lock on it. So the kernel knows
    whether any is alive, also of those that a killed `up` left behind, and no reused pid is ever mistaken for
    one. A descendant that did not inherit the lock joins with `join_process`.
    """

    def __init__(self, name: str, command: Sequence[str], *, record: Path, grace: float) -> None:
        self.name = name
        self.record = record
        self.grace = grace
        self.is_serving = False  # set by whoever sees it serve: before that, there is nothing to finish
        self._command = [*command]
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it, after ending what an earlier `up` left behind under the same record."""
        self.end_leftover()
        self.record.parent.mkdir(parents=True, exist_ok=True)
        with os.fdopen(os.open(self.record, os.O_RDWR | os.O_CREAT, 0o600), "r+") as record:
            fcntl.flock(record, fcntl.LOCK_SH)
            record.truncate()
            self._process = subprocess.Popen(
                self._command,
                stdin=subprocess.DEVNULL,
                pass_fds=(record.fileno(),),
                start_new_session=True,
                env={**os.environ, RECORD_VARIABLE: str(self.record)},
            )
            record.write(str(self._process.pid))

    def has_ended(self) -> bool:
        """Whether the process itself is gone; its descendants may linger until `stop`."""
        return self._process is None or self._process.poll() is not None

    def stop(self) -> None:
        """End it and all its descendants; returns when none is left."""
        if self._process is None:
            return
        if not self.has_ended():
            self._process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(self.grace if self.is_serving else STARTING_GRACE)
        self._kill_group()
        self._process.wait()

    def end_leftover(self) -> None:
        """End what an `up` that was killed left behind, if anything."""
        if (group := self._living_group()) is None:
            return
        with contextlib.suppress(ProcessLookupError):
            os.killpg(group, signal.SIGTERM)
        self._wait_until_gone(self.grace)
        self._kill_group()

    def _kill_group(self) -> None:
        if (group := self._living_group()) is None:
            return
        with contextlib.suppress(ProcessLookupError):
            os.killpg(group, signal.SIGKILL)
        if not self._wait_until_gone(KILL_DEADLINE):
            raise ProcessError(f"{self.name} (process group {group}) cannot be ended.")

    def _living_group(self) -> int | None:
        if not self._is_locked():
            return None
        text = self.record.read_text()
        if not text.isdigit():
            raise ProcessError(f"A process that uses {self.record} still runs, and must be ended by hand.")
        return int(text)

    def _wait_until_gone(self, seconds: float) -> bool:
        deadline = time.monotonic() + seconds
        while self._is_locked():
            if time.monotonic() > deadline:
                return False
            time.sleep(POLL_INTERVAL)
        return True

    def _is_locked(self) -> bool:
        try:
            with self.record.open("r+") as record:
                fcntl.flock(record, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except FileNotFoundError:
            return False
        except BlockingIOError:
            return True
        return False


def join_process() -> None:
    """Count this process, until it ends, among those its ChildProcess stands for.

    For those that inherit nothing: multiprocessing's `spawn`, the default on macOS and from Python 3.14.
    """
    fcntl.flock(os.open(os.environ[RECORD_VARIABLE], os.O_RDWR), fcntl.LOCK_SH)
