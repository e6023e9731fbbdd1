"""What is made from AGENTS.md, from the tutorial and from the code is up to date."""

import pytest
from docs.generate import AGENTS, INDEX, documents
from litestar import Litestar

from app.lib.settings import CHECKOUT
from tests.command_line import CommandLine

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def made(app: Litestar) -> dict[str, str]:
    return documents(app, CommandLine(app).commands())


@pytest.mark.parametrize("path", sorted({*INDEX, "README_AI_DOCS.md"} - {"AGENTS.md"}))
def test_what_is_made_is_up_to_date(path: str, made: dict[str, str]) -> None:
    assert (CHECKOUT / path).read_text() == made[path], "python3 manage.py docs"


def test_the_index_names_all_that_is_made(made: dict[str, str]) -> None:
    assert made.keys() == {*INDEX, "README_AI_DOCS.md"} - {"AGENTS.md"}


def test_the_page_that_all_are_made_from_stays_short() -> None:
    assert len(AGENTS.read_text().splitlines()) < 200
