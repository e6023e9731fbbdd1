"""Mails as files: what MAIL_BACKEND=file sends, and all that is sent in development, by whatever process."""

import contextlib
import os
import re
from collections.abc import Iterator
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import default
from pathlib import Path
from typing import NamedTuple
from uuid import UUID

from uuid_utils.compat import uuid7

KEPT = 200
UUID_NAME = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")


class KeptMail(NamedTuple):
    id: UUID
    source: bytes

    @property
    def message(self) -> EmailMessage:
        return message_from_bytes(self.source, policy=default)


class MailFolder:
    """One `.eml` file for each mail, which only the owner may read. The newest KEPT stay.

    A file's name is a UUID version 7: the names sort by time, and a name that is a UUID leads nowhere else.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def deliver(self, message: EmailMessage) -> None:
        self._path.mkdir(mode=0o700, parents=True, exist_ok=True)
        file = self._path / f"{uuid7()}.eml"
        draft = file.with_suffix(".draft")
        with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as writer:
            writer.write(message.as_bytes())
        draft.rename(file)  # so that nobody reads half of it
        for old in self._files()[KEPT:]:
            old.unlink(missing_ok=True)

    def newest_first(self) -> Iterator[KeptMail]:
        for file in self._files():
            with contextlib.suppress(FileNotFoundError):  # another process made room
                yield KeptMail(UUID(file.stem), file.read_bytes())

    def get(self, mail_id: UUID) -> KeptMail | None:
        with contextlib.suppress(FileNotFoundError):
            return KeptMail(mail_id, (self._path / f"{mail_id}.eml").read_bytes())
        return None

    def _files(self) -> list[Path]:
        return sorted((file for file in self._path.glob("*.eml") if UUID_NAME.fullmatch(file.stem)), reverse=True)
