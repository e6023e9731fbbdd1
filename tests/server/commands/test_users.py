from collections.abc import Callable, Iterator

import pytest
from sqlalchemy import URL, make_url

from app.lib.settings import Settings
from app.server.postgres.embedded import EmbeddedPostgres
from tests.command_line import CommandLine, command_line

pytestmark = pytest.mark.integration
ADA = "ada@example.com"


@pytest.fixture(scope="module")
def litestar(settings: Settings, new_database: Callable[[], URL]) -> Iterator[CommandLine]:
    with command_line(settings, new_database()) as litestar:
        yield litestar


def create(litestar: CommandLine, name: str) -> str:
    email = f"{name.lower()}@example.com"
    litestar("users", "create", email, "--first-name", name, "--last-name", "Lovelace")
    return email


def test_accounts_are_made_listed_promoted_and_deactivated(litestar: CommandLine) -> None:
    name = ("--first-name", "Ada", "--last-name", "Byron")
    assert litestar("users", "create", "Ada@example.com", *name)[1].startswith(
        "Created Ada@example.com with the password "
    )
    assert litestar("users", "create", "ada@EXAMPLE.com", *name) == (1, "Error: Another account has this address.")
    assert litestar("users", "promote", ADA) == (0, f"{ADA} is an administrator.\n")
    assert "Error: This is the last administrator." in litestar("users", "deactivate", ADA)[1]
    assert litestar("users", "list", "--search", "byron") == (
        (0, f"{ADA}  Ada Byron  last sign-in never  administrator\n1 in all.\n")
    )


def test_roles_are_given_listed_and_taken(litestar: CommandLine) -> None:
    bob = create(litestar, "Bob")

    assert litestar("roles", "grant", bob, "editor") == (0, f"{bob} has the role editor.\n")
    assert litestar("roles", "list", "--user", bob)[1].startswith("editor  ")
    assert litestar("roles", "revoke", bob, "editor") == (0, f"{bob} no longer has the role editor.\n")
    assert litestar("roles", "list", "--user", bob) == (0, "")
    assert litestar("roles", "revoke", bob, "editor") == (1, "Error: They do not have this role.")
    assert litestar("roles", "grant", bob, "king") == (1, "Error: There is no such role.")


def test_a_password_is_printed_once_or_a_link_is_sent(litestar: CommandLine) -> None:
    eve = create(litestar, "Eve")

    assert litestar("users", "reset-password", eve)[1].startswith(f"The password of {eve} is ")
    assert litestar("users", "reset-password", eve, "--mail") == (0, f"{eve} gets a link for a new password.\n")
    assert litestar("users", "reset-password", "nobody") == (1, "Error: There is no account with this address.")


def test_lists_are_json_when_asked_and_nothing_else_is_printed(litestar: CommandLine) -> None:
    joe = create(litestar, "Joe")
    litestar("roles", "grant", joe, "editor")

    assert [user["email"] for user in litestar.items("users", "list", "--search", "joe")] == [joe]
    assert "viewer" in [role["name"] for role in litestar.items("roles", "list")]
    assert [role["name"] for role in litestar.items("roles", "list", "--user", joe)] == ["editor"]


def test_a_database_without_tables_is_one_line(settings: Settings, postgres: EmbeddedPostgres) -> None:
    with command_line(settings, make_url(postgres.url())) as litestar:
        ended = litestar("users", "list")

    assert ended == (
        1,
        "Error: The database lacks tables of this version: run `litestar database upgrade --no-prompt`.",
    )
