#!/usr/bin/env python3
"""The only door: makes `.venv` from the hashed lock, then starts the application inside it.

Uses nothing but the standard library. The syntax above the version check is kept old, so that an old
Python can still read this file and say what is missing.
"""

import contextlib
import hashlib
import importlib.util
import os
import shutil
import subprocess
import sys
import time

if sys.version_info < (3, 11):  # noqa: UP036  (this file is started by whatever Python there is)
    sys.exit(
        f"Keel needs Python 3.11 or newer and this is {sys.version_info[0]}.{sys.version_info[1]} "
        f"({sys.executable}). Start it with a newer one, for example: python3.12 manage.py up"
    )
if os.name != "posix":
    sys.exit("Keel runs on Linux and macOS. On Windows, use the Windows Subsystem for Linux (WSL).")

import fcntl
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent
VENV = ROOT / ".venv"
PYTHON = VENV / "bin" / "python"
STAMP = VENV / "installed"
LOCK = ROOT / "requirements" / "dev.txt"
APPLICATION = "app.server.asgi:create_app"
HELP = """\
usage: python3 manage.py COMMAND

  up [--host H] [--port P] [--workers N]   database, migrations, administrator and API, until Ctrl-C
  test [PYTEST ARGUMENTS]                  run the tests
  check                                    format, lint, types, tests with coverage: what CI runs
  check --deploy                           what would be unsafe or unwise in production
  lock [--upgrade]                         rebuild requirements/*.txt from pyproject.toml
  docs                                     write what is generated: openapi.json, .env.example, ...
  help                                     this text

Anything else goes to the application's own command line (Litestar's, with ours added), for example:
  python3 manage.py routes
  python3 manage.py database upgrade
  python3 manage.py --help                 lists all of its commands
"""
AS_TESTED = ("--constraints", "requirements/dev.txt")
LOCKS = (
    ("dev", ("pyproject.toml", "--extra", "dev")),
    ("base", ("pyproject.toml", *AS_TESTED)),
    ("build", ("--group", "build", *AS_TESTED)),
)
CHECKS = (
    ("format", ("ruff", "format", "--check", ".")),
    ("lint", ("ruff", "check", ".")),
    ("types", ("mypy",)),
    ("tests and coverage", ("pytest", "-n", "3", "--dist", "worksteal", "--cov", "--ignore=tests/load")),
    ("tests under load, which need the machine to themselves", ("pytest", "tests/load")),
)


def wanted_stamp() -> tuple[str, str]:
    """What the environment is built upon, and what is installed in it: a change of the first rebuilds it."""
    foundation = f"{sys.implementation.name}-{sys.version_info[0]}.{sys.version_info[1]} {ROOT}"
    content = hashlib.sha256(LOCK.read_bytes() + (ROOT / "pyproject.toml").read_bytes()).hexdigest()
    return foundation, content


def found_stamp() -> tuple[str, str] | None:
    """The stamp of the last installation that was finished, or None; a venv without its Python has none."""
    if not PYTHON.exists() or not STAMP.exists():
        return None
    foundation, _, content = STAMP.read_text().strip().partition("\n")
    return foundation, content


@contextlib.contextmanager
def alone() -> Iterator[None]:
    """Let one process at a time build the environment. A pip that outlives a killed one inherits its lock."""
    directory = os.open(ROOT, os.O_RDONLY)
    os.set_inheritable(directory, True)  # noqa: FBT003  (positional only)
    try:
        try:
            fcntl.flock(directory, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("Another manage.py is preparing .venv; waiting for it.")
            fcntl.flock(directory, fcntl.LOCK_EX)
        yield
    finally:
        os.close(directory)


def prepare() -> None:
    """Make `.venv` what the lock says. Costs a few milliseconds when it already is."""
    if found_stamp() == wanted_stamp():
        return
    with alone():
        found, wanted = found_stamp(), wanted_stamp()
        if found == wanted:
            return
        began = time.monotonic()
        umask = os.umask(0o022)  # for a root: its PostgreSQL runs under another account and reads .venv
        uv = shutil.which("uv")
        if found is None or found[0] != wanted[0]:
            create(with_pip=uv is None)
        STAMP.unlink(missing_ok=True)
        install(uv)
        STAMP.write_text("\n".join(wanted) + "\n")
        os.umask(umask)
        say(f"Ready in {time.monotonic() - began:.0f} s.")


def create(*, with_pip: bool) -> None:
    missing = [name for name in ("venv", "ensurepip") if importlib.util.find_spec(name) is None]
    if "venv" in missing or (missing and with_pip):
        sys.exit(
            f"This Python ({sys.executable}) comes without the module {missing[0]}, which .venv needs. "
            "On Debian and Ubuntu: apt install python3-venv"
        )
    say(f"Creating .venv with Python {sys.version.split()[0]}.")
    if VENV.is_symlink():
        VENV.unlink()
    elif VENV.exists():
        shutil.rmtree(VENV)
    run(sys.executable, "-m", "venv", *(() if with_pip else ("--without-pip",)), str(VENV))


def install(uv: str | None) -> None:
    """Install the lock, then the project itself as editable.

    `--no-deps` because the lock is complete, and because one package names a dependency that is left out on
    purpose (see [tool.uv] in pyproject.toml).
    """
    total = sum(" \\" in line and line[0].isalnum() for line in LOCK.read_text().splitlines() if line)
    say(f"Installing the {total} packages of requirements/dev.txt (once; a minute or so).")
    if uv is None:
        command = [str(PYTHON), "-m", "pip", "install", "--disable-pip-version-check", "--no-user"]
    else:
        command = [uv, "pip", "install", "--python", str(PYTHON)]
    run(*command, "--no-deps", "--require-hashes", "-r", str(LOCK))
    say("Installing Keel itself.")
    run(*command, "--quiet", "--no-deps", "--no-build-isolation", "-e", str(ROOT))


def lock(arguments: list[str]) -> None:
    if arguments not in ([], ["--upgrade"]):
        sys.exit("usage: python3 manage.py lock [--upgrade]")
    for name, what in LOCKS:
        say(f"Resolving requirements/{name}.txt.")
        run(
            *(str(VENV / "bin" / "uv"), "pip", "compile", *what, *arguments, "--quiet"),
            *("--universal", "--generate-hashes", "--python-version", "3.11", "--no-emit-index-url"),
            *("--custom-compile-command", "python3 manage.py lock", "-o", f"requirements/{name}.txt"),
        )


def check(arguments: list[str]) -> None:
    """Everything CI runs, in order of cost; the first failure ends it with that tool's exit code."""
    if arguments:
        sys.exit("usage: python3 manage.py check")
    began = time.monotonic()
    for number, (what, (module, *options)) in enumerate(CHECKS, start=1):
        say(f"[{number}/{len(CHECKS)}] {what}: {' '.join((module, *options))}")
        run(str(PYTHON), "-m", module, *options)
    say(f"All checks passed in {time.monotonic() - began:.0f} s.")


def run(*command: str) -> None:
    """Run to the end; a failure becomes this process's exit code, after the tool has said why."""
    code = subprocess.run(command, check=False, close_fds=False).returncode
    if code:
        say(f"Failed ({code}): {' '.join(command)}")
        sys.exit(code if code > 0 else 128 - code)


def become(*command: str) -> None:
    """Replace this process, so that the signals and the exit code are the command's own."""
    os.execve(command[0], command, {"LITESTAR_APP": APPLICATION, "LITESTAR_QUIET_CONSOLE": "1", **os.environ})


def say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def main(arguments: list[str]) -> None:
    if not arguments or arguments == ["help"]:
        print(HELP, end="")
        return
    os.chdir(ROOT)
    prepare()
    command, *rest = arguments
    if command == "test":
        become(str(PYTHON), "-m", "pytest", *rest)
    elif command == "docs":
        become(str(PYTHON), "-m", "docs.generate", *rest)
    elif command == "check" and rest[:1] != ["--deploy"]:
        check(rest)
    elif command == "lock":
        lock(rest)
    else:
        become(str(VENV / "bin" / "litestar"), *arguments)


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except KeyboardInterrupt:
        sys.exit(130)
