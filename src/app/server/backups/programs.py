"""pg_dump and pg_restore: which ones can read and write what the server has, and how they find the server."""

import os
import re
import shutil
import signal
import subprocess
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from psycopg.pq import Conninfo
from sqlalchemy import Engine

from app.server.postgres.account import PostgresError
from app.server.postgres.cluster import program

DEBIAN = Path("/usr/lib/postgresql")
STOPS = (signal.SIGINT, signal.SIGTERM)
INHERITED = ("PATH", "HOME", "TMPDIR", "PGSSLROOTCERT", "PGSYSCONFDIR", "PGSERVICEFILE")


class BackupError(Exception):
    """What was asked cannot be done. The text is one plain line, which commands end with."""


class ClientProgram:
    """One of PostgreSQL's client programs. What it writes is English; what it is told is not seen by `ps`."""

    def __init__(self, path: Path, major: int) -> None:
        self.path = path
        self.major = major

    @classmethod
    def find(cls, name: str, *, at_least: int) -> "ClientProgram":
        """That of the installed package, or of the PATH. Raises BackupError when all are older than the server."""
        found = [cls(path, major) for path in _places(name) if (major := _major_of(path))]
        for each in found:
            if each.major >= at_least:
                return each
        mend = (
            f"install the client programs of PostgreSQL {at_least} (Debian: apt install postgresql-client-{at_least})"
        )
        if not found:
            raise BackupError(f"{name} is not installed: {mend}.")
        newest = max(each.major for each in found)
        raise BackupError(f"{name} is version {newest}, but version {at_least} is needed: {mend}.")

    def run(self, *options: str | Path, engine: Engine, say: Callable[[str], None]) -> None:
        """Until its end. `say` hears each line of what it writes to its standard error. Raises BackupError."""
        environment = {**_environment(), **_whereabouts(engine)}
        words: list[str] = []
        with _ended([self.path, *options], env=environment, stderr=subprocess.PIPE) as process:
            assert process.stderr is not None
            for line in process.stderr:
                words.append(line.decode(errors="replace").strip())
                say(words[-1])
        self._refuse_failure(process, words)

    @contextmanager
    def reading(self, *options: str | Path) -> Iterator[IO[bytes]]:
        """What it writes to its standard output. Raises BackupError when it fails, at the latest at the end."""
        with tempfile.TemporaryFile() as complaints:
            command = [self.path, *options]
            with _ended(command, env=_environment(), stdout=subprocess.PIPE, stderr=complaints) as process:
                assert process.stdout is not None
                yield process.stdout
            complaints.seek(0)
            self._refuse_failure(process, complaints.read().decode(errors="replace").splitlines())

    def _refuse_failure(self, process: subprocess.Popen[bytes], words: list[str]) -> None:
        if process.returncode == 0:
            return
        if process.returncode < 0:
            reason = f"it was ended by a signal ({signal.strsignal(-process.returncode)})"
        else:
            reason = " ".join([word for word in words if "error:" in word][:1] or words[-1:]) or "it gives no reason"
        raise BackupError(f"{self.path.name} failed: {reason.removeprefix(f'{self.path.name}: error: ')}")


@contextmanager
def _ended(command: Sequence[str | Path], **options: Any) -> Iterator[subprocess.Popen[bytes]]:
    """A process that never outlives us, whatever ends us."""
    with ExitStack() as stack:
        with _uninterrupted():
            process = stack.enter_context(subprocess.Popen(command, **options))
            stack.push(lambda kind, *_: process.kill() if kind else None)
        yield process


@contextmanager
def _uninterrupted() -> Iterator[None]:
    """Signals wait until it is over: a process that is just being started would be nobody's."""
    if threading.current_thread() is not threading.main_thread():
        yield  # signals are the main thread's
        return
    missed: list[int] = []
    before = {each: signal.signal(each, lambda number, _: missed.append(number)) for each in STOPS}
    try:
        yield
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)
        for number in missed:
            signal.raise_signal(number)


def _places(name: str) -> Iterator[Path]:
    with suppress(PostgresError):  # production has no embedded server
        yield program(name)
    if on_path := shutil.which(name):
        yield Path(on_path)
    yield from sorted(DEBIAN.glob(f"*/bin/{name}"), reverse=True)


def _major_of(path: Path) -> int | None:
    """None when it cannot even say its version."""
    ended = subprocess.run([path, "--version"], env=_environment(), capture_output=True, text=True, check=False)
    found = re.search(r"\(PostgreSQL\) (\d+)", ended.stdout)
    return int(found[1]) if found else None


def _environment() -> dict[str, str]:
    """None of our secrets are in it."""
    return {name: os.environ[name] for name in INHERITED if name in os.environ} | {"LC_ALL": "C"}


def _whereabouts(engine: Engine) -> dict[str, str]:
    """What the engine's own connections use, as the environment variables of libpq: nothing of it is in `ps`."""
    _, given = engine.dialect.create_connect_args(engine.url)
    known = {option.keyword.decode(): option.envvar.decode() for option in Conninfo.get_defaults() if option.envvar}
    return {known[name]: str(value) for name, value in given.items() if name in known}
