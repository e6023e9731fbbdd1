"""Whatever the image, Compose, Kubernetes and systemd start is a command, and has these options."""

import itertools
import re
import shlex
from collections.abc import Iterator

import pytest
import yaml
from litestar import Litestar

from app.lib.settings import CHECKOUT
from tests.command_line import CommandLine
from tests.dockerfile import stages

pytestmark = pytest.mark.integration

DEPLOY = CHECKOUT / "deploy"
OURS = ("migrate", "api", "worker")


def commands() -> Iterator[list[str]]:
    for stage in stages(DEPLOY / "Dockerfile").values():
        if stage.all("CMD"):
            yield stage.command("CMD")
    for name in ("compose.yaml", "compose.development.yaml"):
        services = yaml.safe_load((DEPLOY / name).read_text())["services"]
        yield from (services[key]["command"] for key in OURS if "command" in services[key])
    for path in (DEPLOY / "kubernetes" / "base").glob("*.yaml"):
        for document in yaml.safe_load_all(path.read_text()):
            if "template" in document.get("spec", {}):
                yield from (each["args"] for each in document["spec"]["template"]["spec"]["containers"])
    for path in (DEPLOY / "systemd").glob("*.service"):
        yield from (shlex.split(line)[1:] for line in re.findall(r"^ExecStart=(.+)$", path.read_text(), re.MULTILINE))


@pytest.mark.parametrize("command", sorted({" ".join(command) for command in commands()}))
def test_every_command_exists_with_its_options(command: str, app: Litestar) -> None:
    words = command.split()
    names = itertools.takewhile(lambda word: not word.startswith("-"), words)

    code, help_text = CommandLine(app)(*names, "--help")

    assert code == 0, help_text
    assert {word for word in words if word.startswith("-")} <= set(re.findall(r"--?[\w-]+", help_text))
