"""Every command there is: it explains itself, is written down, and is refused in one line when the database is away."""

import re
from collections.abc import Iterator

import pytest
from litestar import Litestar
from sqlalchemy import make_url

from app.lib.settings import CHECKOUT, Settings
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
ASKING = [
    ("users", "list"),
    ("users", "create", "ada@example.com", "--first-name", "Ada", "--last-name", "Lovelace"),
    ("users", "promote", "ada@example.com"),
    ("users", "deactivate", "ada@example.com"),
    ("users", "reset-password", "ada@example.com"),
    ("roles", "list"),
    ("roles", "list", "--user", "ada@example.com"),
    ("roles", "grant", "ada@example.com", "editor"),
    ("roles", "revoke", "ada@example.com", "editor"),
    ("access", "audit"),
    ("access", "explain", "ada@example.com", "posts", "read"),
    ("access", "export"),
    ("access", "diff", "policy.json"),
    ("database", "upgrade", "--no-prompt"),
    ("database", "downgrade", "--no-prompt"),
    ("database", "show-current-revision"),
    ("database", "check"),
]


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


@pytest.mark.parametrize("command", ASKING, ids=" ".join)
def test_a_database_that_is_away_is_one_line(
    command: tuple[str, ...], away: CommandLine, tmp_path_factory: pytest.TempPathFactory
) -> None:
    if "policy.json" in command:
        policy = tmp_path_factory.mktemp("policy") / "policy.json"
        policy.write_text('{"roles": {}, "users": {}}')
        command = (*command[:-1], str(policy))

    ended = away.run(*command)

    assert ended.exit_code == 1
    assert not ended.stdout or command[0] == "database", "which Alembic's commands begin with a headline"
    assert ended.stderr.startswith("Error: The database does not answer: ")
    assert ended.stderr.count("\n") == 1


@pytest.mark.parametrize(
    "command", [("nonsense",), ("users",), ("users", "promote"), ("users", "list", "--page", "0"), ("check", "--x")]
)
def test_what_cannot_be_understood_is_the_exit_code_2(command: tuple[str, ...], app: Litestar) -> None:
    assert CommandLine(app).run(*command).exit_code == 2
