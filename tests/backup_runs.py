"""The commands for backups, run in the process of a test."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from click.testing import CliRunner
from sqlalchemy import URL, Connection, NullPool, create_engine, text

from app.lib.settings import Settings
from app.server.backups.table_sums import TableSum, sequences_of, sums_of
from app.server.commands.backups import DatabaseCommands, backup, restore
from app.server.commands.progress import Report
from app.server.postgres import cluster as postgres_cluster
from tests.live import wait_until

WITH_ANOTHER_PROGRAM = """
import pathlib, sys
from app.server.backups import programs as postgres_clients
from litestar.__main__ import run_cli
places = [pathlib.Path(sys.argv.pop(1))]
postgres_clients._places = lambda _: places
run_cli()
"""


class Ended(NamedTuple):
    """`said`: both outputs, without the frame around errors, in one line."""

    code: int
    said: str


class Operator:
    """Somebody at the command line of one database."""

    def __init__(self, url: URL, settings: Settings) -> None:
        self.engine = create_engine(url, poolclass=NullPool)
        self._given = {"ours": DatabaseCommands(self.engine, settings)}

    def back_up(self, file: Path, *options: str) -> Ended:
        return self._run(backup, str(file), *options)

    def restore(self, file: Path, *options: str, answer: str | None = None) -> Ended:
        return self._run(restore, str(file), *options, answer=answer)

    def _run(self, command: Any, *arguments: str, answer: str | None = None) -> Ended:
        ended = CliRunner().invoke(command, arguments, obj=self._given, input=answer, terminal_width=1000)
        assert ended.exception is None or isinstance(ended.exception, SystemExit), ended.exception
        return Ended(ended.exit_code, " ".join(ended.output.replace("│", " ").split()))


@contextmanager
def fresh(url: URL) -> Iterator[Connection]:
    with create_engine(url, poolclass=NullPool, isolation_level="AUTOCOMMIT").connect() as connection:
        yield connection


def content(url: URL) -> tuple[dict[str, TableSum], dict[str, int]]:
    """Every row and every sequence, in numbers."""
    with create_engine(url, poolclass=NullPool).connect() as connection:
        return sums_of(connection, "public", report=quietly, what=""), sequences_of(connection, "public")


quietly: Report = lambda *_: None  # noqa: E731  (a name for a function without a body)


def databases(url: URL) -> set[str]:
    with fresh(url) as connection:
        return set(connection.scalars(text("SELECT datname FROM pg_database")))


def program_before(name: str, directory: Path, act: str) -> Path:
    """One of PostgreSQL's programs, before which something is done, unless it is only asked for its version."""
    real, path = postgres_cluster.program(name), directory / name
    directory.mkdir()
    path.write_text(f'#!/bin/sh\n[ "$1" = --version ] && exec {real} "$@"\n{act}\nexec {real} "$@"\n')
    path.chmod(0o755)
    return path


def start_with(program: Path, url: URL, *command: str | Path, local: Path) -> subprocess.Popen[str]:
    """`litestar database ...` in a process of its own, which uses this program."""
    address = url.render_as_string(hide_password=False)
    return subprocess.Popen(
        [sys.executable, "-c", WITH_ANOTHER_PROGRAM, program, "database", *command],
        env={**os.environ, "APP_ENV": "test", "LOCAL_DIR": str(local), "DATABASE_URL": address},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def said_when_stopped(process: subprocess.Popen[str], running: Path) -> str:
    """What it says when it is told to stop as soon as that file is there. It must fail."""
    with process:
        try:
            wait_until(running.exists, seconds=60)
            process.terminate()
            said, _ = process.communicate(timeout=30)
        finally:
            process.kill()
    assert process.returncode == 1
    return said
