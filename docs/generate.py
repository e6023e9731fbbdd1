"""Writes what is made from AGENTS.md, from the code and from pages of the documentation: `python3 manage.py docs`.

Assistants look for their rules in files of many names. All of them are made here, so that they cannot disagree, and a
test compares them with what is in the repository.
"""

import ast
import json
import sys
import tempfile
import tomllib
from collections.abc import Iterator
from pathlib import Path
from textwrap import dedent
from typing import Any, NamedTuple

import click
from docs.generate_settings import PAGE as SETTINGS_PAGE
from docs.generate_settings import default_of, env_example, settings_page, without_meaning
from litestar import Litestar

from app.db.metadata import MODULES
from app.domain.access.models import Permission
from app.lib.access.guards import guarded_routes, scope_of
from app.lib.settings import CHECKOUT, Settings
from app.server.asgi import build_app
from app.server.controllers import CONTROLLERS
from app.server.errors import ANSWERS
from tests.command_line import CommandLine
from tests.follower import Block, blocks_of

AGENTS = CHECKOUT / "AGENTS.md"
TUTORIAL = CHECKOUT / "docs" / "tutorial.md"
SOURCE = CHECKOUT / "src" / "app"
MADE = "Made from {source} by `python3 manage.py docs`. Change that, not this."
CONTEXT = ".ai-project-context.json"
TEMPLATES = """\
# Code templates

Every file of a resource called notes, and every line that it adds to files that are there, in the order of
`docs/tutorial.md`, which explains them. A test follows that page, so they work. For one of your own, replace the
names: `Note`, `note`, `notes`, `NOTES`.
"""
ASSISTANTS = """\
# What there is for assistants

Tests see to it that paths, commands and code in these files are those of the project. For people, `docs/README.md`
finds the right page.

| file | what is in it |
|---|---|
"""


class Snippet(NamedTuple):
    title: str
    path: str
    name: str
    """Of a class or a function, with that of its class."""


SNIPPETS = (
    Snippet("A table", "src/app/domain/items/models.py", "Item"),
    Snippet("Schemas: what is sent, and what may be changed", "src/app/domain/items/schemas.py", "ItemCreate"),
    Snippet("", "src/app/domain/items/schemas.py", "ItemUpdate"),
    Snippet("A route that lists", "src/app/domain/items/controllers.py", "ItemController.list_items"),
    Snippet("A route that writes", "src/app/domain/items/controllers.py", "ItemController.create_item"),
    Snippet("A route that needs a permission", "src/app/domain/posts/controllers.py", "PostController.get_post"),
    Snippet("A service that answers only what the caller may see", "src/app/domain/items/services.py", "ItemService"),
    Snippet(
        "A decision about one row, which stays as it is", "src/app/domain/posts/services.py", "PostService.get_for"
    ),
    Snippet("An error that commits what was written", "src/app/domain/sessions/errors.py", "RefreshTokenReusedError"),
    Snippet("A route with a rate limit of its own", "src/app/domain/sessions/controllers.py", "AuthController.refresh"),
    Snippet("A route that takes a file", "src/app/domain/files/controllers.py", "FileController.create_file"),
    Snippet("A job", "src/app/domain/files/jobs.py", "delete_blob"),
    Snippet("A job of every hour, in batches", "src/app/domain/users/jobs.py", "remove_unverified_accounts"),
    Snippet("A mail", "src/app/domain/accounts/jobs.py", "send_farewell"),
    Snippet("An answer that is kept", "src/app/domain/files/services.py", "AvatarService.picture"),
    Snippet("A factory", "tests/factories/items.py", "ItemFactory"),
    Snippet(
        "A test through HTTP that reads back what was stored",
        "tests/domain/posts/test_controllers.py",
        "test_a_new_post_is_stored_as_a_draft_of_its_author",
    ),
    Snippet(
        "A test of who may what",
        "tests/domain/posts/test_controllers.py",
        "test_what_a_role_may_do_with_a_published_post_of_somebody_else",
    ),
)

INDEX = {
    "AGENTS.md": "The source: map, commands, rules, how to make a resource, when it is done.",
    "LLM_CODING_GUIDE.md": "The same with the pairs of good and bad code of STYLE.md, for any assistant.",
    "CODE_TEMPLATES.md": "Every file of a new resource, and every line it adds elsewhere: those of the tutorial.",
    "QUICK_SNIPPETS.md": "Short pieces of real code, by what they do.",
    CONTEXT: "For programs: features, tables, routes, commands, settings, permissions, errors.",
    ".cursorrules": "AGENTS.md, where Cursor looks.",
    ".github/copilot-instructions.md": "AGENTS.md, where Copilot looks.",
}


def documents(app: Litestar) -> dict[str, str]:
    """What each file must contain, by its path in the checkout."""
    litestar = CommandLine(app)
    agents, settings = AGENTS.read_text(), settings_page(SETTINGS_PAGE.read_text())
    return {
        ".cursorrules": _made("AGENTS.md") + agents,
        ".github/copilot-instructions.md": _made("AGENTS.md") + agents,
        "LLM_CODING_GUIDE.md": coding_guide(agents),
        "CODE_TEMPLATES.md": templates(),
        "QUICK_SNIPPETS.md": snippets(),
        "README_AI_DOCS.md": index(),
        "docs/settings.md": settings,
        ".env.example": env_example(settings),
        "openapi.json": litestar("openapi", "export")[1].rstrip(),
        CONTEXT: json.dumps(context(app, litestar.commands()), indent=2, ensure_ascii=False) + "\n",
    }


def _made(source: str) -> str:
    return f"<!-- {MADE.format(source=source)} -->\n\n"


def coding_guide(agents: str) -> str:
    style = (CHECKOUT / "STYLE.md").read_text().partition("\n## ")[2]
    rules = agents.replace("# Working on Keel", "# How to write code in Keel", 1)
    return _made("AGENTS.md and STYLE.md") + rules + "\n# House style, by example\n\n## " + style


def templates() -> str:
    text = _made("docs/tutorial.md") + TEMPLATES
    for block in blocks_of(TUTORIAL)[:-1]:
        text += f"\n## {_heading(block)}\n\n```{block.language}\n{block.body}```\n"
    return text


def _heading(block: Block) -> str:
    if block.new_file:
        return block.new_file[0]
    if block.language == "diff":
        return f"In {block.body.split()[1]}"
    return "On the command line"


def snippets() -> str:
    text = _made("the code") + "# Snippets\n\nReal code, to start from. Each says where it stands.\n"
    for title, path, name in SNIPPETS:
        heading = f"\n## {title}\n" if title else ""
        text += f"{heading}\n```python\n# {path}\n{excerpt(CHECKOUT / path, name)}```\n"
    return text


def excerpt(path: Path, name: str) -> str:
    """A class or a function as it stands in its file, without the indentation of its class."""
    node: Any = ast.parse(path.read_text())
    for part in name.split("."):
        [node] = [child for child in node.body if getattr(child, "name", None) == part]
    first = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])
    lines = path.read_text().splitlines(keepends=True)[first - 1 : node.end_lineno]
    return dedent("".join(lines))


def index() -> str:
    return _made("docs/generate.py") + ASSISTANTS + "".join(f"| `{path}` | {what} |\n" for path, what in INDEX.items())


def context(app: Litestar, commands: dict[str, click.Command]) -> dict[str, Any]:
    project = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["project"]
    return {
        "about": MADE.format(source="the application"),
        "name": project["name"],
        "description": project["description"],
        "python": project["requires-python"],
        "documents": INDEX,
        "features": {path.parent.name: feature(path.parent) for path in sorted(SOURCE.glob("domain/*/services.py"))},
        "permissions": list(Permission),
        "routes": dict(routes(app)),
        "errors": {error.__name__: {"status": answer.status, "code": answer.code} for error, answer in ANSWERS.items()},
        "commands": {name: options_of(command) for name, command in sorted(commands.items())},
        "settings": {
            name.upper(): {"default": default_of(name), "secret": not field.repr}
            for name, field in Settings.model_fields.items()
        },
    }


def feature(folder: Path) -> dict[str, Any]:
    module = f"app.domain.{folder.name}"
    models = [one for one in MODULES if one.__name__ == f"{module}.models"]
    page = CHECKOUT / "docs" / f"{folder.name.replace('_', '-')}.md"
    return {
        "path": str(folder.relative_to(CHECKOUT)),
        "modules": sorted(path.stem for path in folder.glob("*.py") if path.stem != "__init__"),
        "tables": [
            mapped.__tablename__
            for one in models
            for mapped in vars(one).values()
            if getattr(mapped, "__module__", None) == one.__name__ and "__tablename__" in vars(mapped)
        ],
        "controllers": [one.__name__ for one in CONTROLLERS if one.__module__ == f"{module}.controllers"],
        **({"page": str(page.relative_to(CHECKOUT))} if page.exists() else {}),
    }


def routes(app: Litestar) -> Iterator[tuple[str, dict[str, Any]]]:
    for route in sorted(guarded_routes(app), key=lambda one: (one.path, one.method)):
        who = " and ".join(rule.name for rule in route.rules)
        yield f"{route.method} {route.path}", {"who": who, "api_key_scope": scope_of(route.handler, route.method)}


def options_of(command: click.Command) -> dict[str, Any]:
    return {
        "what": (command.help or "").strip().partition("\n")[0],
        "parameters": [
            max(parameter.opts, key=len) if isinstance(parameter, click.Option) else parameter.human_readable_name
            for parameter in command.params
        ],
    }


def is_up_to_date(path: Path, text: str) -> bool:
    return path.exists() and path.read_text() == text


def main(arguments: list[str]) -> None:
    if arguments:
        sys.exit("usage: python3 manage.py docs")
    with tempfile.TemporaryDirectory() as directory:
        settings = Settings(_env_file=None, app_env="test", secret_key="x" * 32, local_dir=Path(directory))
        app = build_app(settings, "postgresql+psycopg://")
        made = documents(app)
    changed = {path: text for path, text in made.items() if not is_up_to_date(CHECKOUT / path, text)}
    for path, text in changed.items():
        (CHECKOUT / path).parent.mkdir(exist_ok=True)
        (CHECKOUT / path).write_text(text)
        print(f"Wrote {path}.")
    if not changed:
        print("All is up to date.")
    if missing := without_meaning(made["docs/settings.md"]):
        sys.exit(f"docs/settings.md does not say what these mean, from where .env.example has it: {', '.join(missing)}")


if __name__ == "__main__":
    main(sys.argv[1:])
