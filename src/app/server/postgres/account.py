"""The account PostgreSQL's programs run under: this process's own, or another one when this process is root.

PostgreSQL refuses to run as root. Where the other account may not enter the checkout, its processes keep one
single capability of root's, the one that lets them pass closed directories.
"""

import os
import pwd
import shutil
import stat
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from click import ClickException

STAND_IN_FOR_ROOT = "nobody"
CAPABILITIES_TO_PASS = ("dac_read_search", "dac_override")  # the second can do more, but containers keep it
FOR_ACCESS = "--securebits=+no_setuid_fixup"  # or access(2), which initdb asks, disregards capabilities

Command = Sequence[str | Path]


class PostgresError(ClickException):
    """The embedded PostgreSQL cannot do what was asked. The text is one plain line, which commands end with."""


@dataclass(frozen=True)
class Account:
    uid: int
    gid: int
    prefix: tuple[str, ...] = ()
    options: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def for_server(cls, data: Path) -> Self:
        """Ours, unless we are root: then the owner of the cluster in `data`, or `nobody` for a new one."""
        if os.geteuid() != 0:
            return cls(os.geteuid(), os.getegid())
        if data.exists() and (owner := data.stat()).st_uid != 0:
            uid, gid = owner.st_uid, owner.st_gid
        else:
            entry = pwd.getpwnam(STAND_IN_FOR_ROOT)
            uid, gid = entry.pw_uid, entry.pw_gid
        return cls(uid, gid, options={"user": uid, "group": gid, "extra_groups": []})

    @property
    def is_ours(self) -> bool:
        return self.uid == os.geteuid()

    def able_to_reach(self, *paths: Path) -> Self:
        """This account, given what it takes to use `paths`. Raises PostgresError when nothing suffices."""
        for candidate in (self, *self._with_capabilities()):
            probe: Command = ["/bin/sh", "-c", 'for path do test -x "$path" || exit 1; done', "sh", *paths]
            if candidate.run(probe) == 0:
                return candidate
        raise PostgresError(
            f"PostgreSQL refuses to run as root, and its stand-in (uid {self.uid}) cannot enter {paths[-1]}: "
            "move the checkout to a directory that others may enter, or set DATABASE_URL."
        )

    def run(
        self,
        command: Command,
        *,
        output: int | Any = subprocess.DEVNULL,
        text: str = "",
        inherited: Sequence[int] = (),
    ) -> int:
        """The exit code of `command`, run as this account, in a session that no terminal's Ctrl-C reaches."""
        return subprocess.run(
            [*self.prefix, *command],
            input=text.encode(),
            stdout=output,
            stderr=output,
            cwd="/",
            env={"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C"},
            pass_fds=inherited,
            start_new_session=True,
            check=False,
            **self.options,
        ).returncode

    def make_private(self, directory: Path) -> None:
        """Have a directory that this account owns and no other may enter; somebody else's is an error."""
        try:
            directory.mkdir(mode=0o700)
            if not self.is_ours:
                os.chown(directory, self.uid, self.gid)
        except FileExistsError:
            found = directory.lstat()
            if not stat.S_ISDIR(found.st_mode) or found.st_uid != self.uid or found.st_mode & 0o077:
                raise PostgresError(f"{directory} belongs to somebody else or is open to others.") from None

    def write_private(self, file: Path, text: str) -> None:
        """Write a new file that only this account (and root) can read."""
        with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as stream:
            stream.write(text)
            if not self.is_ours:
                os.fchown(stream.fileno(), self.uid, self.gid)

    def _with_capabilities(self) -> list[Self]:
        setpriv = shutil.which("setpriv")
        if self.is_ours or setpriv is None:
            return []
        accounts = []
        for name in CAPABILITIES_TO_PASS:
            only = (f"--bounding-set=-all,+{name}", f"--inh-caps=-all,+{name}", f"--ambient-caps=+{name}")
            identity = (f"--reuid={self.uid}", f"--regid={self.gid}", "--clear-groups", FOR_ACCESS)
            accounts.append(type(self)(self.uid, self.gid, (setpriv, *identity, *only)))
        return accounts
