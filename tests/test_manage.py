import ast
import contextlib
import fcntl
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.e2e

MANAGE = Path(__file__).resolve().parents[1] / "manage.py"
LAUNCH = """
import runpy, sys
{disguise}
sys.argv[0] = {path!r}
runpy.run_path({path!r}, run_name="__main__")
"""
RECORDER = '#!/bin/sh\necho "$LITESTAR_APP" "$0" "$@"\n'


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """The door and its lock, without an application; a `uv` that records its calls and installs nothing."""
    for name in ("manage.py", "pyproject.toml"):
        shutil.copy(MANAGE.parent / name, tmp_path / name)
    (tmp_path / "requirements").mkdir()
    (tmp_path / "requirements" / "dev.txt").write_text("one==1 \\\n    --hash=sha256:00\n")
    write_program(tmp_path / "bin" / "uv", f'#!/bin/sh\necho "$@" >> {tmp_path}/uv.log\n')
    return tmp_path


def write_program(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)  # never write through a link to the real Python
    path.write_text(text)
    path.chmod(0o755)


def call(checkout: Path, *arguments: str, disguise: str = "", uv: bool = True) -> subprocess.CompletedProcess[str]:
    """Run the door from another directory, with nothing on PATH but the fake uv."""
    code = LAUNCH.format(disguise=disguise, path=str(checkout / "manage.py"))
    return subprocess.run(
        [sys.executable, "-c", code, *arguments],
        cwd="/",
        env={"PATH": str(checkout / "bin") if uv else "/nonexistent", "HOME": "/nonexistent"},
        capture_output=True,
        text=True,
        check=False,
    )


def build(checkout: Path) -> list[str]:
    """Have the door prepare its environment, then put a recording `litestar` in it; the calls of uv."""
    call(checkout, "version")
    write_program(checkout / ".venv" / "bin" / "litestar", RECORDER)
    return uv_calls(checkout)


def uv_calls(checkout: Path) -> list[str]:
    log = checkout / "uv.log"
    calls = log.read_text().splitlines() if log.exists() else []
    log.unlink(missing_ok=True)
    return calls


def test_an_old_python_is_told_in_one_line(checkout: Path) -> None:
    said = call(checkout, "up", disguise="sys.version_info = (3, 8, 18, 'final', 0)")
    assert said.returncode == 1
    assert said.stderr.startswith("Keel needs Python 3.11 or newer and this is 3.8 (")
    assert said.stderr.count("\n") == 1


def test_the_door_is_written_so_that_an_old_python_can_read_it() -> None:
    ast.parse(MANAGE.read_text(), feature_version=(3, 8))


@pytest.mark.parametrize(("module", "uv"), [("ensurepip", False), ("venv", False), ("venv", True)])
def test_a_python_without_venv_is_told_in_one_line(checkout: Path, module: str, *, uv: bool) -> None:
    said = call(checkout, "up", disguise=f"sys.modules[{module!r}] = None", uv=uv)
    assert said.returncode == 1
    assert f"without the module {module}" in said.stderr
    assert said.stderr.count("\n") == 1
    assert not (checkout / ".venv").exists()


def test_help_needs_no_environment(checkout: Path) -> None:
    assert call(checkout).stdout == call(checkout, "help").stdout
    assert "Anything else goes to the application's own command line" in call(checkout).stdout
    assert not (checkout / ".venv").exists()


def test_the_first_call_installs_the_lock_with_hashes_and_then_the_project(checkout: Path) -> None:
    packages, project = build(checkout)
    assert f"--require-hashes -r {checkout}/requirements/dev.txt" in packages
    assert project.endswith(f"--no-build-isolation -e {checkout}")


def test_the_second_call_installs_nothing(checkout: Path) -> None:
    build(checkout)
    assert call(checkout, "routes", "--schema").stderr == ""
    assert uv_calls(checkout) == []


def test_unknown_commands_become_the_applications(checkout: Path) -> None:
    build(checkout)
    for arguments in (["up", "--port", "1"], ["database", "upgrade"], ["check", "--deploy", "--json"], ["--help"]):
        litestar = f"{checkout}/.venv/bin/litestar"
        assert call(checkout, *arguments).stdout.split() == ["app.server.asgi:create_app", litestar, *arguments]


@pytest.mark.parametrize("changed", ["requirements/dev.txt", "pyproject.toml"])
def test_a_changed_lock_is_installed_into_the_same_environment(checkout: Path, changed: str) -> None:
    build(checkout)
    with (checkout / changed).open("a") as file:
        file.write("# changed\n")
    assert call(checkout, "version").returncode == 0
    assert len(uv_calls(checkout)) == 2
    assert (checkout / ".venv" / "bin" / "litestar").exists()


def test_a_failed_installation_is_repaired_by_the_next_call(checkout: Path) -> None:
    write_program(checkout / "bin" / "uv", "#!/bin/sh\nexit 7\n")
    assert call(checkout, "version").returncode == 7
    (checkout / ".venv" / "half").touch()
    write_program(checkout / "bin" / "uv", f'#!/bin/sh\necho "$@" >> {checkout}/uv.log\n')
    assert len(build(checkout)) == 2
    assert not (checkout / ".venv" / "half").exists()


def test_an_environment_whose_python_vanished_is_made_anew(checkout: Path) -> None:
    build(checkout)
    (checkout / ".venv" / "bin" / "python").unlink()
    (checkout / ".venv" / "bin" / "python").symlink_to("/nonexistent/python")
    assert len(build(checkout)) == 2
    assert (checkout / ".venv" / "bin" / "python").exists()


def test_a_checkout_that_moved_gets_a_new_environment(checkout: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    build(checkout)
    moved = checkout.rename(tmp_path_factory.mktemp("moved") / "checkout")
    write_program(moved / "bin" / "uv", f'#!/bin/sh\necho "$@" >> {moved}/uv.log\n')
    assert len(build(moved)) == 2


def test_two_calls_at_once_build_one_environment(checkout: Path) -> None:
    with contextlib.closing(Lock(checkout)):
        waiting = subprocess.Popen(
            [sys.executable, str(checkout / "manage.py"), "version"],
            env={"PATH": str(checkout / "bin")},
            stderr=subprocess.PIPE,
            text=True,
        )
        assert waiting.stderr
        assert "Another manage.py is preparing .venv" in waiting.stderr.readline()
        assert not (checkout / ".venv").exists()
    with waiting:
        waiting.communicate()
    assert len(uv_calls(checkout)) == 2


class Lock:
    """What the door holds while it builds."""

    def __init__(self, checkout: Path) -> None:
        self._directory = os.open(checkout, os.O_RDONLY)
        fcntl.flock(self._directory, fcntl.LOCK_EX)

    def close(self) -> None:
        os.close(self._directory)


@pytest.mark.parametrize("arguments", [["check", "-k", "x"], ["lock", "everything"]])
def test_check_and_lock_forward_nothing(checkout: Path, arguments: list[str]) -> None:
    build(checkout)
    said = call(checkout, *arguments)
    assert said.returncode == 1
    assert said.stderr.startswith(f"usage: python3 manage.py {arguments[0]}")


def test_docs_are_written_by_the_python_of_the_environment(checkout: Path) -> None:
    build(checkout)
    write_program(checkout / ".venv" / "bin" / "python", '#!/bin/sh\necho "$@"\n')
    assert call(checkout, "docs").stdout.split() == ["-m", "docs.generate"]


def test_a_failing_check_stops_with_that_tools_exit_code(checkout: Path) -> None:
    build(checkout)
    write_program(checkout / ".venv" / "bin" / "python", "#!/bin/sh\n[ $2 = ruff ] || exit 3\n")
    said = call(checkout, "check")
    assert said.returncode == 3
    assert "/5] types: mypy" in said.stderr
    assert "[4/5]" not in said.stderr
