import os
import subprocess
import sys
from pathlib import Path

import pytest
from sqlalchemy import URL

pytestmark = pytest.mark.e2e
LITESTAR = Path(sys.executable).with_name("litestar")


@pytest.fixture
def environment(live_database: URL, tmp_path: Path) -> dict[str, str]:
    url = live_database.render_as_string(hide_password=False)
    return {**os.environ, "APP_ENV": "test", "LOCAL_DIR": str(tmp_path), "DATABASE_URL": url}


def test_accounts_are_made_listed_and_deactivated(environment: dict[str, str]) -> None:
    def users(*arguments: str) -> str:
        ended = subprocess.run(
            [LITESTAR, "users", *arguments], env=environment, capture_output=True, text=True, check=False
        )
        return " ".join((ended.stdout + ended.stderr).replace("│", " ").split())

    name = ("--first-name", "Ada", "--last-name", "Lovelace")
    assert users("create", "Ada@example.com", *name).startswith("Created Ada@example.com with the password ")
    assert "Another account has this address." in users("create", "ada@EXAMPLE.com", *name)
    assert users("make-admin", "ada@example.com") == "ada@example.com is an administrator."
    assert "This is the last administrator." in users("deactivate", "ada@example.com")
    assert users("list", "--search", "love") == (
        "ada@example.com Ada Lovelace last sign-in never administrator 1 in all."
    )
