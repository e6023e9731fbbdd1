"""docs/api.md, run from top to bottom against one server: its commands, its answers, its Python."""

import json
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from itertools import pairwise, zip_longest
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy import URL

from app.lib.settings import CHECKOUT
from tests.follower import Block, blocks_of
from tests.live import LiveServer

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.skipif(not (shutil.which("curl") and shutil.which("bash")), reason="needs the programs curl and bash"),
]

GUIDE = CHECKOUT / "docs" / "api.md"
TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ")
DEFAULT = "http://localhost:8000"


class Reader:
    """Somebody who types in what the page says, in a directory of their own."""

    def __init__(self, server: LiveServer) -> None:
        self._server = server
        self.python: dict[str, Any] = {}

    def follow(self, blocks: list[Block]) -> None:
        self._run_commands(blocks)
        for block in blocks:
            if block.language == "python":
                exec(compile(self._here(block.body), str(GUIDE), "exec"), self.python)

    def _run_commands(self, blocks: list[Block]) -> None:
        """In one shell, as the page goes on with the variables of before."""
        commands = [block for block in blocks if block.language == "bash"]
        end = "\necho; echo '--- end of a block'\n"
        script = end.join(self._here(block.body) for block in commands)
        output = subprocess.check_output(["bash", "-e", "-c", script], text=True, timeout=60, env=os.environ)
        said = dict(zip(map(id, commands), output.split(end.split("'")[1]), strict=True))
        for block, following in pairwise(blocks):
            if following.language == "json":
                answer = json.loads(said[id(block)].strip().splitlines()[-1])
                written = json.loads(following.body)
                assert blurred(written, answer) == written, block.body

    def _here(self, text: str) -> str:
        return text.replace(DEFAULT, self._server.url)


def blurred(written: Any, said: Any) -> Any:
    """What was said, as it is written on the page: times, and texts with `...`, are other ones every time."""
    if isinstance(written, dict) and isinstance(said, dict):
        return {name: blurred(written.get(name), value) for name, value in said.items()}
    if isinstance(written, list) and isinstance(said, list):
        return [blurred(one, other) for one, other in zip_longest(written, said)]
    is_another = isinstance(written, str) and isinstance(said, str) and ("..." in written or TIME.fullmatch(written))
    return written if is_another else said


@pytest.fixture
def reader(
    start_server: Callable[..., LiveServer], live_database: URL, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Reader]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NO_PROXY", "*")
    server = start_server(live_database, rate_limit_enabled="true", storage_url=f"file://{tmp_path}/storage")
    reader = Reader(server)
    yield reader
    if client := reader.python.get("client"):
        client.close()


def test_the_guide_is_true_from_its_first_line_to_the_last(reader: Reader, tmp_path: Path) -> None:
    reader.follow(blocks_of(GUIDE))

    said = reader.python
    assert said["titles"] == ["Loaf 0", "Loaf 1", "Loaf 2"]
    assert list(said["wrong"]) == ["title"]
    assert said["again"] == (tmp_path / "milk.csv").read_bytes()
    assert said["without_code"].json()["code"] == "totp_required"
    with pytest.raises(httpx.HTTPStatusError, match="401"):
        said["client"].get("/users/me")
    assert "ratelimit-remaining" in (tmp_path / "headers.txt").read_text().lower()
