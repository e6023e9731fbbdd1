"""The command line in this process: starting one of its own for each command takes seconds."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
from click.testing import CliRunner, Result
from litestar import Litestar
from litestar.cli._utils import LitestarEnv
from litestar.cli.main import litestar_group
from sqlalchemy import URL

from app.lib.settings import Settings
from app.server.asgi import build_app


@contextmanager
def command_line(settings: Settings, url: URL) -> Iterator["CommandLine"]:
    """With an application upon this database."""
    app = build_app(settings, url)
    yield CommandLine(app)
    app.state.policy_follower.close()
    app.state.database.dispose()


class CommandLine:
    """`litestar`, with an application that is there already. Calling it returns the exit code and what was said."""

    def __init__(self, app: Litestar) -> None:
        self._env = LitestarEnv(app_path="", app=app, cwd=Path.cwd())

    def __call__(self, *arguments: str) -> tuple[int, str]:
        """Boxes and the line breaks of errors that are shown in them are taken out of what was said."""
        ended = self.run(*arguments)
        errors = " ".join(ended.stderr.replace("│", " ").split())
        return ended.exit_code, ended.stdout + errors

    def run(self, *arguments: str) -> Result:
        """The result as click has it. What no command foresaw is raised."""
        litestar_group._prepare_done = False  # so that this application's plugins bring their commands
        ended = CliRunner(env={"COLUMNS": "200", "TERM": "dumb"}).invoke(litestar_group, arguments, obj=self._env)
        if ended.exception and not isinstance(ended.exception, SystemExit):
            raise ended.exception
        return ended

    def items(self, *arguments: str) -> list[Any]:
        """Of a list, asked for its JSON."""
        items: list[Any] = json.loads(self.run(*arguments, "--json").stdout)["items"]
        return items

    def commands(self) -> dict[str, click.Command]:
        """All of them by their full names: `database upgrade`."""
        self.run("--help")
        return dict(_commands_of(litestar_group))


def _commands_of(group: click.Group, *above: str) -> list[tuple[str, click.Command]]:
    found = []
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            found += _commands_of(command, *above, name)
        else:
            found.append((" ".join((*above, name)), command))
    return found
