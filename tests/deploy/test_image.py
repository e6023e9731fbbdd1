"""The image, without an engine: what its Dockerfile says, and what the commands of its stages leave."""

import os
import re
import subprocess
import sys
from fnmatch import fnmatch
from pathlib import Path
from secrets import token_urlsafe

import pytest

from app.lib.settings import CHECKOUT, Settings
from tests.dockerfile import stages

DOCKERFILE = CHECKOUT / "deploy" / "Dockerfile"
STAGES = stages(DOCKERFILE)
FINAL = STAGES["production"]
BUILD = STAGES["build"]
RUNS_AS = {"production": FINAL, "development": STAGES["development"]}
LEAST = {
    "SECRET_KEY": token_urlsafe(48),
    "PUBLIC_URL": "https://api.example.com",
    "DATABASE_URL": "postgresql://keel@127.0.0.1:1/keel",
    "MAIL_BACKEND": "smtp",
    "SMTP_HOST": "mail.example.com",
    "EMAILS_FROM_EMAIL": "keel@example.com",
    "STORAGE_URL": "s3://keel-files",
}
"""With which production starts."""


def package_lines(lock: str) -> set[str]:
    """Each package with its version and hashes, without what only says for whom it is."""
    text = re.sub(" ;.*", " \\\\", (CHECKOUT / "requirements" / lock).read_text())
    return {
        re.sub(r"\s*\\\s*", " ", each) for each in re.findall(r"^[a-z0-9].*(?:\\\n {4}--hash.*)+", text, re.MULTILINE)
    }


@pytest.mark.unit
@pytest.mark.parametrize("name", RUNS_AS)
def test_it_runs_as_nobody_and_hears_signals_itself(name: str) -> None:
    stage = RUNS_AS[name]

    assert re.fullmatch(r"[1-9]\d{3,}:[1-9]\d{3,}", stage.last("USER"))
    assert stage.command("ENTRYPOINT") == ["python", "-m", "app"]
    assert stage.command("CMD")
    assert stage.last("STOPSIGNAL") == "SIGTERM"


@pytest.mark.unit
def test_it_is_the_last_stage_and_its_base_is_pinned() -> None:
    assert list(STAGES)[-1] == "production"
    bases = {stage.base for stage in STAGES.values()} - set(STAGES)
    assert bases == {"python:${PYTHON}"}
    assert re.search(r"^ARG PYTHON=3\.\d+-slim-\w+$", DOCKERFILE.read_text(), re.MULTILINE)


@pytest.mark.unit
def test_its_health_check_asks_whether_it_is_ready_and_needs_nothing_but_python() -> None:
    python, option, script = FINAL.command("HEALTHCHECK")

    assert (python, option) == ("python", "-c")
    compile(script, "HEALTHCHECK", "exec")
    assert "/health/ready" in script


@pytest.mark.unit
def test_it_copies_only_files_that_are_there_and_let_through() -> None:
    *patterns, _ = (CHECKOUT / ".dockerignore").read_text().splitlines()
    let_through = [pattern[1:].rstrip("/") for pattern in patterns if pattern.startswith("!")]
    copied = {
        source
        for stage in STAGES.values()
        for arguments in stage.all("COPY")
        if not arguments.startswith("--from=")
        for source in arguments.split()[:-1]
    }

    assert "*" in patterns
    for source in copied:
        assert (CHECKOUT / source).exists()
        assert any(fnmatch(source, pattern) or source.startswith(f"{pattern}/") for pattern in let_through), source
    assert {source.split("/")[0] for source in copied} == {pattern.split("/")[0] for pattern in let_through}


@pytest.mark.unit
def test_its_variables_are_settings_and_none_is_a_secret() -> None:
    known = {name.upper() for name in Settings.model_fields}
    own = re.compile(r"PATH|(PYTHON|PIP_)\w+")

    for stage in RUNS_AS.values():
        names = {name for name in stage.environment if not own.fullmatch(name)}
        assert names <= known
        assert not {name for name in names if re.search(r"SECRET|PASSWORD|TOKEN|URL", name)}
    assert FINAL.environment["APP_ENV"] == "production"


@pytest.mark.unit
def test_the_packages_in_it_are_those_that_are_tested() -> None:
    assert package_lines("base.txt") | package_lines("build.txt") <= package_lines("dev.txt")
    assert [
        line
        for line in BUILD.all("RUN")
        if "install" in line and "--requirement" in line and "--require-hashes" not in line
    ] == []
    assert BUILD.environment["PIP_NO_DEPS"] == "1"
    assert BUILD.environment["PIP_ONLY_BINARY"] == ":all:"


@pytest.mark.e2e
def test_the_commands_of_its_stages_make_a_program_that_writes_nothing_beside_itself(tmp_path: Path) -> None:
    """All but the one that installs the locked packages, which the environment of the tests has already."""
    root, work = tmp_path / "keel", tmp_path / "build"
    work.mkdir()
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    environment = {**os.environ, **BUILD.environment, "PATH": path}

    for name, arguments in BUILD.instructions:
        if name == "COPY":
            *sources, target = arguments.split()
            (work / target).mkdir(exist_ok=True)
            copy = [str(CHECKOUT / each) for each in sources]
            subprocess.run(["cp", "-R", *copy, work if target == Path(sources[0]).name else work / target], check=True)
        elif name == "RUN" and not re.search(r"useradd|base\.txt", arguments):
            subprocess.run(
                ["sh", "-ec", arguments.replace("/opt/keel", str(root))], cwd=work, env=environment, check=True
            )
    [packages] = root.glob("lib/python3.*/site-packages")
    (packages / "tested.pth").write_text(str(Path(pytest.__file__).parents[1]))
    before = files_below(root)

    command = [str(root / "bin" / "python"), *FINAL.command("ENTRYPOINT")[1:], *FINAL.command("CMD"), "--help"]
    ended = subprocess.run(command, cwd="/", env=FINAL.environment | LEAST, capture_output=True, text=True, check=False)

    assert ended.returncode == 0, ended.stderr
    assert "--drain" in ended.stdout
    assert files_below(root) == before
    assert (packages / "app" / "__main__.py").exists()


def files_below(directory: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in directory.rglob("*") if path.is_file()}
