"""The diagram of one request in docs/architecture.md is what happens."""

import ast
import re
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import CodeType
from typing import Any, NamedTuple

import pytest
from litestar.testing import TestClient
from sqlalchemy import URL

from app.lib.settings import CHECKOUT, Settings
from app.server.asgi import build_app
from tests.conftest import API
from tests.live import PASSWORD

STEP = re.compile(r"^[ |]*(?P<name>[\w.]+) +(?P<star>\*?) *(?P<path>src/\S+\.py) ", re.MULTILINE)


class Step(NamedTuple):
    name: str
    star: str
    path: str


def steps() -> list[Step]:
    diagram = (CHECKOUT / "docs" / "architecture.md").read_text().split("## One request")[1].split("## ")[0]
    return [Step(**found.groupdict()) for found in STEP.finditer(diagram)]


def defined(path: str) -> Iterator[str]:
    """The names of all functions in a file, with those of their classes."""
    for node in ast.walk(ast.parse((CHECKOUT / path).read_text())):
        if isinstance(node, ast.ClassDef):
            yield from (f"{node.name}.{child.name}" for child in node.body if hasattr(child, "name"))
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node.name


@pytest.mark.unit
@pytest.mark.parametrize("step", steps(), ids=lambda step: step.name)
def test_every_step_of_the_diagram_is_a_function_that_there_is(step: Step) -> None:
    assert step.name in set(defined(step.path))


@contextmanager
def calls() -> Iterator[list[CodeType]]:
    """Those of all threads that begin from now on, and of this one."""
    seen: list[CodeType] = []

    def note(frame: Any, event: str, _: object) -> None:
        if event == "call":
            seen.append(frame.f_code)

    threading.setprofile(note)
    sys.setprofile(note)
    try:
        yield seen
    finally:
        sys.setprofile(None)
        threading.setprofile(None)


@pytest.mark.integration
def test_a_request_goes_through_the_steps_in_their_order(settings: Settings, live_database: URL) -> None:
    app = build_app(settings.model_copy(update={"rate_limit_enabled": True}), live_database)
    with calls() as seen, TestClient(app) as client:
        login = {"email": "ada@example.com", "password": PASSWORD}
        client.post(f"{API}/auth/register", json=login | {"first_name": "Ada", "last_name": "Lovelace"})
        token = client.post(f"{API}/auth/login", json=login).json()["access_token"]
        seen.clear()
        answer = client.post(f"{API}/items", json={"title": "x"}, headers={"Authorization": f"Bearer {token}"})
        called = [(code.co_qualname, code.co_filename) for code in seen]

    assert answer.status_code == 201
    wanted = [(step.name, str(CHECKOUT / step.path)) for step in steps() if not step.star]
    assert [called.index(step) if step in called else step for step in wanted] == sorted(
        called.index(step) for step in wanted if step in called
    )
