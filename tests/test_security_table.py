"""The table of docs/security.md names every attack, and no other."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

pytestmark = pytest.mark.unit

ROOT = Path(__file__).parents[1]
ROW = re.compile(r"^\| (\d+) \| .+ \| (.+) \|$", re.MULTILINE)
TEST = re.compile(r"\[([^]]+)\]\(\.\./tests/([\w/]+\.py)\)")


class Attack(NamedTuple):
    line: int
    path: str
    name: str


def made() -> Iterator[Attack]:
    for path in (ROOT / "tests").rglob("test_*.py"):
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.FunctionDef):
                for line in lines_of(node):
                    name = node.name.removeprefix("test_").replace("_", " ")
                    yield Attack(line, str(path.relative_to(ROOT / "tests")), name)


def lines_of(test: ast.FunctionDef) -> list[int]:
    """The arguments of its `pytest.mark.attack(...)`."""
    marks = [mark for mark in test.decorator_list if isinstance(mark, ast.Call)]
    return [
        ast.literal_eval(line) for mark in marks if ast.unparse(mark.func) == "pytest.mark.attack" for line in mark.args
    ]


def rows() -> dict[int, str]:
    return {int(line): cell for line, cell in ROW.findall((ROOT / "docs" / "security.md").read_text())}


def test_the_table_names_every_attack_and_no_other() -> None:
    named = {Attack(line, path, name) for line, cell in rows().items() for name, path in TEST.findall(cell)}

    assert named == set(made())


def test_a_line_without_an_attack_says_why() -> None:
    silent = [line for line, cell in rows().items() if not TEST.search(cell) and not cell.startswith("none: ")]

    assert silent == []
    assert set(range(1, 52)) | {70} <= set(rows())


def test_whoever_is_in_the_threat_model_is_tried_in_sections_that_there_are_and_none_is_left_out() -> None:
    document = (ROOT / "docs" / "security.md").read_text()
    named = re.findall(r"\| ((?:[A-Z], )*[A-Z]) \|$", document, re.MULTILINE)

    assert {letter for letters in named for letter in letters.split(", ")} == set(
        re.findall(r"^### ([A-Z])\. ", document, re.MULTILINE)
    )
