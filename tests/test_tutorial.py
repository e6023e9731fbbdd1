"""docs/tutorial.md, done to the letter in a copy of the project: what comes out is a feature whose tests pass."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from sqlalchemy import URL

from app.lib.settings import CHECKOUT
from tests.follower import blocks_of, follow
from tests.live import LiveServer

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.skipif(not (shutil.which("curl") and shutil.which("bash")), reason="needs the programs curl and bash"),
    pytest.mark.skipif((CHECKOUT / "src/app/domain/notes").exists(), reason="the tutorial was followed here"),
]

TUTORIAL = CHECKOUT / "docs" / "tutorial.md"
LEFT_OUT = shutil.ignore_patterns(".git", ".venv", ".local", "__pycache__", ".*_cache", ".coverage*", "htmlcov", "dist")


class Newcomer:
    """Somebody with a fresh copy of the project, a database of their own, and the page in their hands."""

    def __init__(self, directory: Path, url: URL) -> None:
        self.checkout = directory / "checkout"
        shutil.copytree(CHECKOUT, self.checkout, ignore=LEFT_OUT)
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(("COV", "PYTEST"))}
        self.environment = inherited | {
            "DATABASE_URL": url.render_as_string(hide_password=False),
            "PYTHONPATH": str(self.checkout / "src"),
            "LITESTAR_APP": "app.server.asgi:create_app",
            "NO_PROXY": "*",
        }

    def run(self, commands: str) -> None:
        """`manage.py` would make an environment of its own; this is what it becomes in it."""
        for command, module in {"test": "pytest -q", "docs": "docs.generate", "": "litestar"}.items():
            commands = commands.replace(f"python3 manage.py {command}".strip(), f"{sys.executable} -m {module}")
        self.shell(commands)

    def shell(self, commands: str) -> str:
        done = subprocess.run(
            ["bash", "-e", "-c", commands],
            cwd=self.checkout,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            timeout=600,
        )
        assert done.returncode == 0, f"{commands}\n{done.stdout}"
        return done.stdout


def test_the_tutorial_makes_what_it_says(
    tmp_path: Path, live_database: URL, start_server: Callable[..., LiveServer]
) -> None:
    newcomer = Newcomer(tmp_path, live_database)
    *steps, look = blocks_of(TUTORIAL)

    follow(steps, newcomer.checkout, newcomer.run)
    newcomer.shell(f"{sys.executable} -m ruff check . && {sys.executable} -m ruff format --check .")
    server = start_server(live_database, pythonpath=newcomer.checkout / "src")
    registered, note, page = newcomer.shell(look.body.replace("http://localhost:8000", server.url)).splitlines()

    assert json.loads(registered)["email"] == "grace@example.com"
    assert json.loads(note)["tags"] == ["kitchen", "names"]
    assert json.loads(page)["items"] == [json.loads(note)]
    described = json.loads((newcomer.checkout / "openapi.json").read_text())
    assert {"/api/v1/notes", "/api/v1/notes/{note_id}"} <= described["paths"].keys()
