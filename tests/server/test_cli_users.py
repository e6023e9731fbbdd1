from collections.abc import Iterator

import pytest
from sqlalchemy import URL

from app.lib.settings import Settings
from tests.command_line import CommandLine, command_line

pytestmark = pytest.mark.integration


@pytest.fixture
def litestar(settings: Settings, live_database: URL) -> Iterator[CommandLine]:
    with command_line(settings, live_database) as litestar:
        yield litestar


def test_accounts_are_made_listed_and_deactivated(litestar: CommandLine) -> None:
    def users(*arguments: str) -> str:
        return " ".join(litestar("users", *arguments)[1].split())

    name = ("--first-name", "Ada", "--last-name", "Lovelace")
    assert users("create", "Ada@example.com", *name).startswith("Created Ada@example.com with the password ")
    assert "Another account has this address." in users("create", "ada@EXAMPLE.com", *name)
    assert users("make-admin", "ada@example.com") == "ada@example.com is an administrator."
    assert "This is the last administrator." in users("deactivate", "ada@example.com")
    assert users("list", "--search", "love") == (
        "ada@example.com Ada Lovelace last sign-in never administrator 1 in all."
    )
