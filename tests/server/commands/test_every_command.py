"""Every command there is: it explains itself, is written down, and is refused in one line when the database is away."""

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from litestar import Litestar
from sqlalchemy import make_url

from app.lib.settings import CHECKOUT, Settings
from app.server.commands.refusals import plain_refusals
from tests.command_line import CommandLine, command_line
from tests.live import free_port

pytestmark = pytest.mark.integration

DOCUMENT = CHECKOUT / "docs" / "commands.md"
LISTS = {
    "users list",
    "roles list",
    "mail list",
    "access audit",
    "access explain",
    "access diff",
    "doctor",
    "check",
    "openapi diff",
}
ASKING = {
    "users list": "",
    "users create": "ada@example.com --first-name Ada --last-name Lovelace",
    "users promote": "ada@example.com",
    "users deactivate": "ada@example.com",
    "users reset-password": "ada@example.com",
    "roles list": "--user ada@example.com",
    "roles grant": "ada@example.com editor",
    "roles revoke": "ada@example.com editor",
    "access audit": "",
    "access explain": "ada@example.com posts read",
    "access export": "",
    "access diff": "{folder}/policy.json",
    "database upgrade": "--no-prompt",
    "database downgrade": "--no-prompt",
    "database show-current-revision": "",
    "database check": "",
    "database stamp": "head",
    "database ensure-version": "",
    "database make-migrations": "--no-prompt -m x",
    "database drop-all": "--no-prompt",
    "database backup": "{folder}/backup",
    "seed": "--count 1",
}
"""Whoever asks the database, and with which arguments it comes so far."""
WAITING = {"up", "serve", "run", "worker", "workers run"}
"""Run until they are stopped; without a database they wait for it, and say so."""
NEEDING_NONE = {
    *("mail list", "mail preview", "openapi export", "openapi diff", "check", "routes", "info", "version"),
    *("schema openapi", "schema typescript", "sessions clear", "sessions delete"),
    *("database heads", "database history", "database show", "database branches", "database list-templates"),
    *("database edit", "database merge"),
    "database restore",  # which reads its file first; tests/server/backups/test_restoration.py
    "doctor",  # to which it is a fault among others; tests/server/doctor/test_doctor.py
}


@pytest.fixture(scope="module")
def away(settings: Settings) -> Iterator[CommandLine]:
    """Its database does not run."""
    with command_line(settings, make_url(f"postgresql+psycopg://keel@127.0.0.1:{free_port()}/keel")) as litestar:
        yield litestar


def test_every_command_explains_itself(app: Litestar) -> None:
    litestar = CommandLine(app)
    commands = litestar.commands()

    unexplained = [name for name, command in commands.items() if not command.help]
    broken = [name for name in commands if litestar(*name.split(), "--help")[0] != 0]

    assert (unexplained, broken) == ([], [])


def test_every_command_is_written_down(app: Litestar) -> None:
    table = DOCUMENT.read_text().split("\n## All of them\n")[1].split("\n## ")[0]

    assert sorted(re.findall(r"^\| `([a-z -]+)` \|", table, re.MULTILINE)) == sorted(CommandLine(app).commands())


def test_every_list_prints_json(app: Litestar) -> None:
    commands = CommandLine(app).commands()

    with_json = {name for name, command in commands.items() if any("--json" in each.opts for each in command.params)}

    assert with_json >= LISTS
    assert {name for name in commands if name.split()[-1] == "list"} <= with_json


@pytest.mark.parametrize("command", ASKING)
def test_a_database_that_is_away_is_one_line(command: str, away: CommandLine, tmp_path: Path) -> None:
    (tmp_path / "policy.json").write_text('{"roles": {}, "users": {}}')

    ended = away.run(*command.split(), *ASKING[command].format(folder=tmp_path).split())

    assert ended.exit_code == 1
    assert not ended.stdout or command.startswith("database "), "which Alembic's commands begin with a headline"
    assert ended.stderr.startswith("Error: The database ")
    assert "connection refused" in ended.stderr.lower()
    assert ended.stderr.count("\n") == 1


def test_every_command_is_known_to_ask_the_database_or_not(app: Litestar) -> None:
    assert set(CommandLine(app).commands()) == {*ASKING, *WAITING, *NEEDING_NONE}


@pytest.mark.e2e
def test_doctor_has_its_say_where_nothing_else_starts(tmp_path: Path) -> None:
    litestar = Path(sys.executable).with_name("litestar")
    environment = {"APP_ENV": "test", "DB_POOL_SIZE": "many", "LOCAL_DIR": str(tmp_path)}

    ended = subprocess.run([litestar, "doctor"], env=environment, capture_output=True, text=True, check=False)

    assert (ended.returncode, ended.stderr) == (1, "")
    assert "fault    settings: DB_POOL_SIZE cannot be used. Input should be a valid integer" in ended.stdout


def test_output_that_cannot_be_written_is_one_line(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    with pytest.raises(SystemExit) as ended, plain_refusals():
        (tmp_path / "nowhere" / "file").write_text("x")

    assert ended.value.code == 1
    assert capsys.readouterr().err == f"Error: {tmp_path}/nowhere/file: no such file or directory.\n"


@pytest.mark.parametrize(
    "command", [("nonsense",), ("users",), ("users", "promote"), ("users", "list", "--page", "0"), ("check", "--x")]
)
def test_what_cannot_be_understood_is_the_exit_code_2(command: tuple[str, ...], app: Litestar) -> None:
    assert CommandLine(app).run(*command).exit_code == 2
