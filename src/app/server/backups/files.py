"""A backup: an archive of pg_dump, which pg_restore reads as it is, and behind it what we know of its content."""

import hashlib
import os
import struct
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta, Struct

from app.server.backups.programs import BackupError
from app.server.backups.table_sums import TableSum
from app.server.commands.progress import Report

FOOTER = struct.Struct(">32sQ8s")
"""The SHA-256 of all before it, the length of the manifest, and the mark."""
MARK = b"KEELBKP1"
CHUNK = 1024 * 1024


Line = Annotated[str, Meta(pattern=r"\A[^\x00-\x1f\x7f-\x9f]*\Z")]
"""Harmless on a terminal, whoever has written it."""


class Manifest(Struct, frozen=True, kw_only=True):
    """`revisions`: the heads of Alembic. `server` and `client`: major versions of PostgreSQL, and of pg_dump.
    `sequences`: at least so far they had got. `grantees`: the roles that have rights on something in it."""

    keel: Line
    made_at: datetime
    database: str
    db_schema: str
    revisions: Annotated[list[Line], Meta(min_length=1)]
    server: int
    client: int
    tables: dict[str, TableSum]
    sequences: dict[str, int]
    grantees: list[str]

    @property
    def rows(self) -> int:
        return sum(each.rows for each in self.tables.values())


@contextmanager
def new_file(path: Path, *, overwrite: bool) -> Iterator[Path]:
    """A draft beside `path`, readable for its owner only, which becomes `path` when all went well, else is gone.

    Raises BackupError for a place that cannot be written, or is taken.
    """
    _refuse_taken(path, overwrite=overwrite)
    try:
        descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent)
        os.close(descriptor)
        draft = Path(name)
        try:
            yield draft
            _make_durable(draft)
            _publish(draft, path, overwrite=overwrite)
            _make_durable(path.parent)
        finally:
            draft.unlink(missing_ok=True)
    except OSError as error:
        raise BackupError(f"{path} cannot be written: {error.strerror}.") from error


def seal(archive: Path, manifest: Manifest, report: Report) -> None:
    """Append the manifest and the footer."""
    written = msgspec.json.encode(manifest)
    digest = _digest(archive, archive.stat().st_size, report)
    digest.update(written)
    with archive.open("ab") as stream:
        stream.write(written + FOOTER.pack(digest.digest(), len(written), MARK))


def unseal(path: Path, report: Report) -> Manifest:
    """Raises BackupError unless it is a whole backup, of which no bit has changed."""
    try:
        with path.open("rb") as stream:
            size = stream.seek(0, os.SEEK_END)
            stream.seek(max(0, size - FOOTER.size))
            footer = stream.read()
            if len(footer) < FOOTER.size or not footer.endswith(MARK):
                raise BackupError(f"{path} is no backup of Keel, or its end is missing.")
            expected, length, _ = FOOTER.unpack(footer)
            digest = _digest(path, size - FOOTER.size, report)
            stream.seek(size - FOOTER.size - min(length, size - FOOTER.size))
            written = stream.read(size)[: -FOOTER.size]
    except OSError as error:
        raise BackupError(f"{path} cannot be read: {error.strerror}.") from error
    if digest.digest() != expected:
        raise BackupError(f"{path} is damaged: its checksum is wrong. Take another backup.")
    try:
        return msgspec.json.decode(written, type=Manifest)
    except msgspec.MsgspecError as error:
        raise BackupError(f"{path} was made by a version of Keel that this one cannot read.") from error


def _digest(path: Path, size: int, report: Report) -> "hashlib._Hash":
    """Of its first `size` bytes."""
    digest, done = hashlib.sha256(), 0
    with path.open("rb") as stream:
        while done < size and (chunk := stream.read(min(CHUNK, size - done))):
            digest.update(chunk)
            done += len(chunk)
            report("Checking the file", done, size)
    return digest


def _refuse_taken(path: Path, *, overwrite: bool) -> None:
    if path.is_dir():
        raise BackupError(f"{path} is a directory: name a file in it.")
    if os.path.lexists(path) and not overwrite:
        raise _taken(path)


def _taken(path: Path) -> BackupError:
    return BackupError(f"{path} is there already: choose another name, or say --overwrite.")


def _publish(draft: Path, path: Path, *, overwrite: bool) -> None:
    """A file that has come meanwhile is not replaced, either."""
    if overwrite:
        draft.replace(path)
        return
    try:
        os.link(draft, path)
    except FileExistsError:
        raise _taken(path) from None
    except OSError:  # a file system without links
        _refuse_taken(path, overwrite=False)
        draft.replace(path)


def _make_durable(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
