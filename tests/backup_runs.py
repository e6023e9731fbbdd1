"""The commands for backups, run in the process of a test."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from click.testing import CliRunner
from sqlalchemy import URL, Connection, NullPool, create_engine, text

from app.lib.settings import Settings
from app.server.cli_backups import DatabaseCommands, backup, restore
from app.server.cli_progress import Report
from app.server.table_sums import TableSum, sequences_of, sums_of


class Ended(NamedTuple):
    """`said`: both outputs, without the frame around errors, in one line."""

    code: int
    said: str


class Operator:
    """Somebody at the command line of one database."""

    def __init__(self, url: URL, settings: Settings) -> None:
        self._given = {"ours": DatabaseCommands(create_engine(url, poolclass=NullPool), settings)}

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
