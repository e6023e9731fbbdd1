"""What `doctor` and `check` see on this machine: Python, files, the disk, and the settings' own figures."""

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote, urlsplit

from app.lib.secret_keys import is_weak
from app.lib.settings import Settings
from app.server.doctor.findings import Finding, Level, fault, fine, warning
from app.server.serving.processors import usable_processors

NEWEST_TESTED = (3, 13)
MEBIBYTE = 1024 * 1024
LITTLE_SPACE = 1024 * MEBIBYTE
TOO_LITTLE_SPACE = 100 * MEBIBYTE
GIT_ENTRY = b"\x00\x04.env\x00"
"""How the index of Git names `.env`: the length of the name, the name, an end."""


def python_findings() -> Iterator[Finding]:
    found = ".".join(map(str, sys.version_info[:3]))
    if sys.version_info[:2] > NEWEST_TESTED:
        tested = ".".join(map(str, NEWEST_TESTED))
        yield warning("python", f"Python {found} is newer than what Keel is tested with.", f"Use Python {tested}.")
    else:
        yield fine("python", f"Python {found}.")


def env_file_findings(checkout: Path, *, is_production: bool) -> Iterator[Finding]:
    path = checkout / ".env"
    if _is_committed(checkout):
        yield fault(
            "env file",
            f"{path} is in the Git repository, with every secret in it, for all who have a copy.",
            "Run `git rm --cached .env`, commit, and replace every secret that it held.",
        )
    try:
        mode = path.stat().st_mode
    except OSError:
        yield fine("env file", "There is none: the settings come from the environment.")
        return
    if mode & 0o007:
        level = Level.FAULT if is_production else Level.WARNING
        yield Finding("env file", level, f"{path} can be read by every account here.", f"Run `chmod 600 {path}`.")
    else:
        yield fine("env file", f"{path} is private.")


def secret_findings(settings: Settings) -> Iterator[Finding]:
    """In production a weak one is among what it demands."""
    if settings.is_production:
        return
    if is_weak(settings.secret_key):
        yield warning(
            "secrets",
            "SECRET_KEY could be guessed, and whoever does signs in as anybody.",
            "Remove it, so that one is generated, or set it to the output of `openssl rand -base64 48`.",
        )
    else:
        yield fine("secrets", "SECRET_KEY is strong.")


def thread_findings(settings: Settings) -> Iterator[Finding]:
    processors = usable_processors()
    if settings.password_hash_concurrency > processors:
        yield warning(
            "threads",
            f"PASSWORD_HASH_CONCURRENCY is {settings.password_hash_concurrency}, above the number of processors "
            f"({processors}): sign-ins take them from all other requests.",
            f"Set it to {max(1, processors // 2)}.",
        )
    size = settings.db_pool_size
    yield fine("threads", f"A process of the API has {size} threads and as many connections, so no thread waits.")


def disk_findings(settings: Settings) -> Iterator[Finding]:
    parts = urlsplit(settings.storage_url)
    stored = Path(unquote(parts.path)) if parts.scheme == "file" else settings.local_dir
    for path in dict.fromkeys((_existing(settings.local_dir), _existing(stored))):
        free = shutil.disk_usage(path).free
        said = f"{path} has {free // MEBIBYTE} MiB left."
        if free >= LITTLE_SPACE:
            yield fine("disk", said)
        else:
            level = Level.FAULT if free < TOO_LITTLE_SPACE else Level.WARNING
            yield Finding("disk", level, said, "Make room: remove what is not needed, or give it a larger disk.")


def _existing(path: Path) -> Path:
    return next(each for each in (path.absolute(), *path.absolute().parents) if each.exists())


def _is_committed(checkout: Path) -> bool:
    """As Git's own index tells; a work tree elsewhere has a file that says where it is."""
    git = checkout / ".git"
    try:
        if git.is_file():
            git = checkout / git.read_text().removeprefix("gitdir:").strip()
        return GIT_ENTRY in (git / "index").read_bytes()
    except (OSError, UnicodeDecodeError):
        return False
