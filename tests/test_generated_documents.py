"""What is made by `python3 manage.py docs` is up to date."""

import re

import pytest
from docs.generate import AGENTS, INDEX, documents
from docs.generate_settings import PAGE, settings_page, without_meaning
from litestar import Litestar

from app.lib.settings import CHECKOUT

MADE = {*INDEX, "README_AI_DOCS.md", "docs/settings.md", ".env.example", "openapi.json"} - {"AGENTS.md"}
pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def made(app: Litestar) -> dict[str, str]:
    return documents(app)


@pytest.mark.parametrize("path", sorted(MADE))
def test_what_is_made_is_up_to_date(path: str, made: dict[str, str]) -> None:
    assert (CHECKOUT / path).read_text() == made[path], "python3 manage.py docs"


def test_all_that_is_made_is_compared(made: dict[str, str]) -> None:
    assert made.keys() == MADE


def test_every_setting_has_a_meaning() -> None:
    assert without_meaning(PAGE.read_text()) == []


def test_a_setting_that_comes_or_goes_gets_its_row_or_loses_it() -> None:
    page = PAGE.read_text()
    [row] = re.findall(r"^\| `SMTP_PORT` .*\n", page, re.MULTILINE)

    added = settings_page(page.replace(row, ""))

    assert added == page.replace(row, "| `SMTP_PORT` | `587` |  |\n")
    assert without_meaning(added) == ["SMTP_PORT"]
    assert settings_page(page.replace(row, row + row.replace("SMTP_PORT", "SMTP_GONE"))) == page


def test_the_page_that_all_are_made_from_stays_short() -> None:
    assert len(AGENTS.read_text().splitlines()) < 200
