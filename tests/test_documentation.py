"""The documentation tells the truth: its commands run, its paths exist, its tables agree with the code."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from secrets import token_urlsafe
from textwrap import dedent

import pytest
from litestar import Litestar
from sqlalchemy import URL, NullPool, create_engine, text

from app.lib.settings import CHECKOUT, Settings, _production_faults
from tests.command_line import CommandLine
from tests.live import LiveServer

DOCUMENTS = [path for where in (".", "docs", ".github") for path in sorted((CHECKOUT / where).glob("*.md"))]
DOCUMENTS += [CHECKOUT / ".cursorrules"]
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
EXAMPLE = re.compile(r"(?:# good: |# |\{# )(?P<path>(?:src|tests)/\S+)(?: #\})?\n(?P<example>.*)", re.DOTALL)
README = CHECKOUT / "README.md"
SETTINGS_TABLE = CHECKOUT / "docs" / "settings.md"
MADE_LATER = (".local", ".venv")
ISSUER_WITHOUT_TLS = {"name": "a", "issuer": "http://id.example.com", "client_id": "b", "client_secret": "c"}
OWN_COMMANDS = {"test", "check", "lock", "docs", "help"}
"""Of `manage.py`; all others are the application's."""
COMMAND = re.compile(r"(?:python3 manage\.py|(?<!from )litestar|^keel(?:_as owner)?) ([^`#\n]+)", re.MULTILINE)
PLACE = re.compile(r"`(\w+)(?:\([^`]*\))?`\s(?:in|of|from)\s`(src/[\w/]+\.py|tests/[\w/]+\.py|app\.[\w.]+)`")
NEEDS_CURL = pytest.mark.skipif(
    not (shutil.which("curl") and shutil.which("bash")), reason="needs the programs curl and bash"
)


def in_checkout(path: Path) -> str:
    return str(path.relative_to(CHECKOUT))


def section(document: Path, heading: str) -> str:
    return document.read_text().split(f"\n## {heading}\n")[1].split("\n## ")[0]


def blocks(markdown: str, language: str) -> list[str]:
    return [body for name, body in FENCE.findall(markdown) if name == language]


@pytest.mark.e2e
@NEEDS_CURL
def test_the_tour_runs_as_it_is_written(start_server: Callable[..., LiveServer], live_database: URL) -> None:
    [tour] = blocks(section(README, "Tour"), "bash")
    server = start_server(live_database)

    shell = ["bash", "-e", "-c", tour.replace("http://localhost:8000", server.url)]
    output = subprocess.check_output(shell, text=True, timeout=60, env=os.environ | {"NO_PROXY": "*"})

    registered, item, page, signed_out, refused = output.splitlines()
    assert json.loads(registered) == {"email": "ada@example.com", "verification_required": False}
    assert json.loads(item)["title"] == "Buy milk"
    assert json.loads(page)["items"] == [json.loads(item)]
    assert signed_out == ""
    assert json.loads(refused)["status"] == 401
    with create_engine(live_database, poolclass=NullPool).connect() as fresh:
        assert fresh.scalar(text("SELECT title FROM items JOIN users ON owner_id = users.id")) == "Buy milk"
        assert fresh.scalar(text("SELECT revocation_reason FROM sessions")) == "logout"


@pytest.mark.unit
def test_the_tour_is_five_calls() -> None:
    [tour] = blocks(section(README, "Tour"), "bash")

    assert len([line for line in tour.splitlines() if line and not line.startswith("api()")]) == 5


def example_lines() -> list[str]:
    """`.env.example` with every setting uncommented."""
    return re.findall(r"^#([A-Z][A-Z0-9_]*=.*)$", (CHECKOUT / ".env.example").read_text(), re.MULTILINE)


def table_lines() -> list[str]:
    """The table of settings in the form of a `.env` file."""
    rows = re.findall(r"^\| `([A-Z0-9_]+)` \| (?:empty|`(.*?)`) \|", SETTINGS_TABLE.read_text(), re.MULTILINE)
    return [f'{name}="{default}"' for name, default in rows]


@pytest.fixture
def no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing configured, in the directory of the checkout."""
    for name in os.environ:
        if name.lower() in Settings.model_fields:
            monkeypatch.delenv(name)
    monkeypatch.chdir(CHECKOUT)


@pytest.mark.unit
@pytest.mark.usefixtures("no_settings")
@pytest.mark.parametrize("lines", [example_lines(), table_lines()], ids=[".env.example", "docs/settings.md"])
def test_every_setting_is_named_once_with_its_real_default(lines: list[str], tmp_path: Path) -> None:
    written = tmp_path / "env"
    written.write_text("\n".join(lines))

    said, real = Settings(_env_file=written, secret_key="key"), Settings(_env_file=None, secret_key="key")

    assert sorted(line.partition("=")[0].lower() for line in lines) == sorted(Settings.model_fields)
    assert said.model_dump(exclude={"local_dir"}) == real.model_dump(exclude={"local_dir"})
    assert said.local_dir.resolve() == real.local_dir


@pytest.mark.unit
@pytest.mark.usefixtures("no_settings")
def test_every_demand_of_production_is_written_down() -> None:
    faulty = [
        Settings(
            _env_file=None,
            app_env="production",
            secret_key=key,
            debug=True,
            backend_cors_origins=("*",),
            allowed_hosts=("*",),
            trusted_proxies=("*",),
            db_echo=True,
            smtp_security="none",
            smtp_password="sesame",
            oidc_allow_private_addresses=True,
            oidc_providers=json.dumps([ISSUER_WITHOUT_TLS]),
        )
        for key in ("", "short")
    ]
    demands = {sentence for settings in faulty for sentence in _production_faults(settings)}

    assert set(re.findall(r"^- (.+)$", section(SETTINGS_TABLE, "What production demands"), re.MULTILINE)) == demands


@pytest.mark.unit
@pytest.mark.usefixtures("no_settings")
def test_the_least_that_the_readme_gives_production_is_enough(tmp_path: Path) -> None:
    [settings] = blocks(section(README, "Production"), "bash")
    written = tmp_path / "env"
    written.write_text(settings.replace("SECRET_KEY=...", f"SECRET_KEY={token_urlsafe(48)}"))

    Settings(_env_file=written).refuse_unsafe_production()

    for line in re.findall(r"^[^#].*$", settings, re.MULTILINE):
        assert "#" not in line, "systemd takes a comment behind a value for a part of it"
        with_one_less = tmp_path / "less"
        with_one_less.write_text(written.read_text().replace(line.split("=")[0], "UNKNOWN"))
        is_demanded = not line.startswith(("APP_ENV", "TRUSTED_PROXIES"))
        assert not is_demanded or _production_faults(Settings(_env_file=with_one_less))


def named_paths(document: Path) -> Iterator[str]:
    prose = FENCE.sub("", document.read_text())
    for word in re.findall(r"`([\w./-]+)`", prose):
        if "/" in word and (CHECKOUT / word.split("/")[0]).exists() and not word.startswith(("/", *MADE_LATER)):
            yield word
    for block in blocks(document.read_text(), "text"):
        yield from re.findall(r"^(?:src|tests|docs|deploy|requirements|benchmarks)/\S*|^\w+\.py\b", block, re.MULTILINE)


@pytest.mark.unit
@pytest.mark.parametrize("document", DOCUMENTS, ids=in_checkout)
def test_every_path_that_is_named_exists(document: Path) -> None:
    links = re.findall(r"\]\((?!https?:)([^)#]+)\)", document.read_text())

    missing = [path for path in named_paths(document) if not (CHECKOUT / path).exists()]
    missing += [link for link in links if not (document.parent / link).exists()]

    assert missing == []


def anchors(document: Path) -> set[str]:
    """As GitHub makes them of headings."""
    headings = re.findall(r"^#+ (.+)$", FENCE.sub("", document.read_text()), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.unit
@pytest.mark.parametrize("document", DOCUMENTS, ids=in_checkout)
def test_every_heading_that_is_linked_exists(document: Path) -> None:
    links = re.findall(r"\]\((?!https?:)([^)#]*)#([^)]+)\)", document.read_text())

    missing = [
        (path, name) for path, name in links if name not in anchors(document.parent / path if path else document)
    ]

    assert missing == []


@pytest.mark.unit
def test_every_page_is_found_from_the_index() -> None:
    index = CHECKOUT / "docs" / "README.md"
    found = set(re.findall(r"\]\(([\w-]+\.md)", index.read_text()))

    assert {page.name for page in index.parent.glob("*.md")} - {index.name} == found, "add it to docs/README.md"


def named_code() -> list[tuple[str, str]]:
    """What a document says to be in a file or a module: "`MODULES` in `src/app/db/metadata.py`"."""
    found = {pair for document in DOCUMENTS for pair in PLACE.findall(document.read_text())}
    return sorted((name, place if "/" in place else f"src/{place.replace('.', '/')}.py") for name, place in found)


@pytest.mark.unit
@pytest.mark.parametrize(("name", "path"), named_code())
def test_everything_is_in_the_file_in_which_it_is_said_to_be(name: str, path: str) -> None:
    assert re.search(rf"\b{name}\b", (CHECKOUT / path).read_text())


@pytest.mark.unit
def test_the_map_shows_every_feature() -> None:
    features = {path.parent.name for path in (CHECKOUT / "src/app/domain").glob("*/services.py")}

    assert features - set(section(README, "Map").split()) == set()


def named_commands() -> dict[str, set[str]]:
    """Every command with the options that the documents give it."""
    found: dict[str, set[str]] = {}
    for document in DOCUMENTS:
        for words in COMMAND.findall(document.read_text()):
            names = re.match(r"[a-z][a-z-]*(?: [a-z][a-z-]*(?![\w@./]))*", words)  # no address and no file
            command = names[0] if names else ""
            found.setdefault(command, set()).update(re.findall(r"(?<=\s)--?[a-z-]+", words))
    return found


@pytest.mark.unit
def test_every_command_of_manage_py_is_named_in_its_help() -> None:
    described = subprocess.check_output([sys.executable, "manage.py", "help"], cwd=CHECKOUT, text=True)

    assert OWN_COMMANDS & set(named_commands()) <= set(described.split())


@pytest.mark.integration
@pytest.mark.parametrize("command", sorted(set(named_commands()) - OWN_COMMANDS))
def test_every_command_that_is_named_exists_with_its_options(command: str, app: Litestar) -> None:
    code, help_text = CommandLine(app)(*command.split(), "--help")

    assert code == 0, help_text
    assert named_commands()[command] <= set(re.findall(r"--?[\w-]+", help_text))


@pytest.mark.unit
@NEEDS_CURL
@pytest.mark.parametrize("document", DOCUMENTS, ids=in_checkout)
def test_every_command_line_is_one_that_a_shell_can_read(document: Path) -> None:
    for block in blocks(document.read_text(), "bash"):
        read = subprocess.run(["bash", "-n"], input=block, text=True, capture_output=True, check=False)

        assert not read.stderr, block


def good_examples() -> list[tuple[str, str]]:
    """Each with the path of the file in which its first line says that it stands."""
    bodies = [body for document in DOCUMENTS for _, body in FENCE.findall(document.read_text())]
    return [(found["path"], found["example"]) for found in map(EXAMPLE.match, bodies) if found]


@pytest.mark.unit
@pytest.mark.parametrize(("path", "example"), good_examples())
def test_every_good_example_stands_in_the_code(path: str, example: str) -> None:
    length = example.count("\n")
    lines = (CHECKOUT / path).read_text().splitlines(keepends=True)

    places = ("".join(lines[start : start + length]) for start in range(len(lines)))

    assert any(dedent(place) == example for place in places)


@pytest.mark.unit
@pytest.mark.parametrize("document", [one for one in DOCUMENTS if one.name != "api.md"], ids=in_checkout)
def test_every_example_says_where_it_stands_or_that_it_is_bad(document: Path) -> None:
    """Those of api.md are run."""
    examples = blocks(document.read_text(), "python")

    assert all(EXAMPLE.match(example) or example.startswith(("# bad: ", "# new file: ")) for example in examples)
