"""Where uploaded bytes are kept: a directory, or a bucket of an S3-compatible service."""

import logging
import os
from collections.abc import AsyncIterable, AsyncIterator, Collection, Iterator
from contextlib import contextmanager, suppress
from datetime import datetime, timedelta
from functools import cached_property
from pathlib import Path
from typing import IO, Any
from urllib.parse import unquote, urlsplit
from uuid import UUID

import obstore
from obstore.exceptions import BaseError
from obstore.store import LocalStore, S3Store

from app.lib.errors import NotFoundError, OverloadedError
from app.lib.settings import Settings

OWNER = "keel-owner"
"""The object that holds the identity of the database whose blobs these are."""
SHARDS = 16
BATCH = 1000
CHUNK = 64 * 1024
PIECE = 256 * 1024
S3_CHUNK = 5 * 1024 * 1024
"""Bytes that are in memory at a time; S3 takes no smaller part of an upload in parts."""
SIGNED_FOR = timedelta(minutes=1)
"""In which a download must have begun."""
CLIENT_OPTIONS: Any = {"connect_timeout": "3s", "timeout": "20s", "allow_http": True}
RETRIES: Any = {"max_retries": 2, "retry_timeout": timedelta(seconds=20)}
"""A request that failed is repeated while it is no older than that, so a call ends after 40 s at the latest."""

logger = logging.getLogger(__name__)


class StorageUnavailableError(OverloadedError):
    detail = "The storage of files does not answer. Try again shortly."


class ForeignStorageError(StorageUnavailableError):
    """The rows that name these blobs are in another database."""

    detail = "The storage of files belongs to another database."


class Storage:
    """Blobs, each named by a UUID and by nothing else, so that no client's text can become a path.

    Every method waits for a disk or a network, and may raise StorageUnavailableError. Nothing is connected or
    made before the first call. S3 takes its credentials and its endpoint from the environment (AWS_*).
    """

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._url = url
        self.is_claimed = False
        self._directory = Path(unquote(parts.path)) if parts.scheme == "file" else None

    @classmethod
    def of(cls, settings: Settings) -> "Storage":
        return cls(settings.storage_url or (settings.local_dir / "files").resolve().as_uri())

    @cached_property
    def _store(self) -> LocalStore | S3Store:
        if self._directory is None:
            return S3Store.from_url(self._url, client_options=CLIENT_OPTIONS, retry_config=RETRIES)
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        return LocalStore(self._directory)

    def claim(self, owner: UUID) -> None:
        """Before the first upload of a process: a new storage becomes this database's. Raises ForeignStorageError."""
        if not self.belongs_to(owner):
            with _answering():
                obstore.put(self._store, OWNER, str(owner).encode())
        self.is_claimed = True

    def belongs_to(self, owner: UUID) -> bool:
        """False: it is nobody's yet. Raises ForeignStorageError when it is another database's."""
        with _answering():
            try:
                found = bytes(obstore.get(self._store, OWNER).bytes()).decode(errors="replace")
            except FileNotFoundError:
                return False
        if found != str(owner):
            logger.error(
                "the storage of files belongs to the database %.40s, this one is %s: nothing is written or deleted. "
                "Correct STORAGE_URL or DATABASE_URL; if this database is the right one, delete %s from the storage",
                ascii(found),
                owner,
                OWNER,
            )
            raise ForeignStorageError
        return True

    def put(self, blob_id: UUID, content: IO[bytes] | bytes, *, media_type: str, disposition: str) -> None:
        """Keep all of `content`, from its beginning, or nothing. It is safe on the disk when this returns.

        A bucket also keeps the two headers, and sends them to those who come with a signed URL.
        """
        key = _key(blob_id)
        headers: Any = {"Content-Type": media_type, "Content-Disposition": disposition}
        attributes, chunk_size = (None, CHUNK) if self._directory else (headers, S3_CHUNK)
        if not isinstance(content, bytes):
            content.seek(0)
        with _answering():
            obstore.put(self._store, key, content, attributes=attributes, chunk_size=chunk_size, max_concurrency=1)
            if self._directory:
                _make_private_and_durable(self._directory / key)

    def read(self, blob_id: UUID) -> bytes:
        """All of it, in memory. Raises NotFoundError."""
        with _answering(), _finding():
            return bytes(obstore.get(self._store, _key(blob_id)).bytes())

    def stream(self, blob_id: UUID, *, start: int, stop: int) -> AsyncIterable[bytes]:
        """The bytes from `start` up to but not including `stop`, in pieces, each read by obstore's own threads
        when it is asked for on the event loop: a client that reads slowly holds no file open. Raises NotFoundError
        now, not then."""
        with _answering(), _finding():
            obstore.head(self._store, _key(blob_id))
        return self._pieces(_key(blob_id), start, stop)

    async def _pieces(self, key: str, start: int, stop: int) -> AsyncIterator[bytes]:
        for at in range(start, stop, PIECE):
            yield bytes(await obstore.get_range_async(self._store, key, start=at, end=min(at + PIECE, stop)))

    def signed_url(self, blob_id: UUID) -> str | None:
        """Where anybody may download the blob from the bucket, for a minute. None: there is no bucket."""
        if not isinstance(self._store, S3Store):
            return None
        with _answering():
            return obstore.sign(self._store, "GET", _key(blob_id), SIGNED_FOR)

    def delete(self, blob_id: UUID) -> None:
        """Nothing happens when there is no such blob."""
        with _answering(), suppress(FileNotFoundError):
            obstore.delete(self._store, _key(blob_id))

    def delete_all(self, blob_ids: Collection[UUID]) -> None:
        """The same for many: in a bucket with one request for 1000."""
        if self._directory:
            for blob_id in blob_ids:
                self.delete(blob_id)
        elif blob_ids:
            with _answering():
                obstore.delete(self._store, [_key(blob_id) for blob_id in blob_ids])

    def stored_before(self, moment: datetime, *, shard: int) -> Iterator[list[UUID]]:
        """The names of the older blobs of one shard (0 to SHARDS - 1), in batches and in no order."""
        with _answering():
            for batch in obstore.list(self._store, f"{shard:x}", chunk_size=BATCH):
                older = [_blob_id(each["path"]) for each in batch if each["last_modified"] < moment]
                yield [blob_id for blob_id in older if blob_id]

    def remove_unfinished(self, moment: datetime, *, shard: int) -> None:
        """Remove the halves of blobs whose process died before that. Buckets need a lifecycle rule for theirs."""
        if self._directory is None:
            return
        for path in self._directory.glob(f"{shard:x}/*#*"):
            with suppress(FileNotFoundError):
                if path.stat().st_mtime < moment.timestamp():
                    path.unlink()


def _key(blob_id: UUID) -> str:
    """By the last digit, which is random: the first ones of UUID version 7 are a time."""
    return f"{blob_id.hex[-1]}/{blob_id}"


def _blob_id(key: str) -> UUID | None:
    """None: somebody else has put it there."""
    try:
        return UUID(key.rpartition("/")[2])
    except ValueError:
        return None


def _make_private_and_durable(path: Path) -> None:
    """obstore renames it into place, but leaves it readable for the group, and to the kernel when it is written."""
    for each, mode in ((path, 0o600), (path.parent, 0o700), (path.parents[1], 0o700)):
        descriptor = os.open(each, os.O_RDONLY)
        try:
            os.fchmod(descriptor, mode)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


@contextmanager
def _answering() -> Iterator[None]:
    try:
        yield
    except (BaseError, OSError) as error:
        logger.warning("the storage of files failed: %s", str(error).partition("\n")[0])
        raise StorageUnavailableError from error


@contextmanager
def _finding() -> Iterator[None]:
    try:
        yield
    except FileNotFoundError as error:
        raise NotFoundError from error
