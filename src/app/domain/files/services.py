import hashlib
from collections.abc import Collection
from datetime import timedelta
from io import SEEK_END
from typing import IO
from uuid import UUID, uuid4

from sqlalchemy import ColumnElement, delete, true, update
from sqlalchemy.orm import Session
from uuid_utils.compat import uuid7

from app.domain.files.jobs import delete_blob, identity_of
from app.domain.files.models import Avatar, File
from app.domain.users.models import User
from app.lib.access.guards import Principal
from app.lib.cache.cache import Cache, Region, invalidate
from app.lib.db.service import Repository, Service
from app.lib.db.unit_of_work import AnySession, after_rollback
from app.lib.downloads import Attachment, disposition
from app.lib.errors import InvalidInputError
from app.lib.file_types import CHUNK, media_type_of, plain_name
from app.lib.images import MEDIA_TYPE, square_picture
from app.lib.jobs.broker import enqueue
from app.lib.storage import Storage

AVATARS = Region("avatars", bytes, seconds=3600)
"""Public pictures by their ids, which nobody can guess; whoever asks, the answer is the same."""
AVATAR_SIDE = 512
"""Pixels."""
UNCERTAIN = timedelta(minutes=1)
"""After a failed COMMIT, until nobody can still be executing it."""


class FileService(Service[File]):
    class Repo(Repository[File]):
        model_type = File

    repository_type = Repo

    def upload(
        self, content: IO[bytes], *, name: str, owner_id: UUID, allowed: Collection[str], storage: Storage
    ) -> File:
        """Keep a file. `allowed` are endings of names.

        Raises InvalidInputError when it is empty, or the name or the content cannot be accepted. The blob is
        stored before the row and, but for the first of a process, before any statement: no connection waits for the
        storage.
        """
        file = File(id=uuid7(), owner_id=owner_id, name=plain_name(name))
        file.size = content.seek(0, SEEK_END)
        if not file.size:
            raise InvalidInputError("The file is empty.", field="file")
        file.media_type = media_type_of(content, name=name, allowed=allowed)
        file.sha256 = _sha256(content)
        _prepare(self.session, storage, file.id)
        storage.put(file.id, content, media_type=file.media_type, disposition=disposition(name))
        return self.create(file)

    def get_visible(self, file_id: UUID, user: Principal) -> File:
        """Raises NotFoundError when there is none, or it belongs to somebody else."""
        return self.get_one(File.id == file_id, visible_to(user))

    def remove(self, row: File) -> None:
        """The blob goes after the row: in a job, which exists if and only if this commits."""
        super().remove(row)
        enqueue(self.session, delete_blob, blob_id=row.id)


class AvatarService(Service[Avatar]):
    class Repo(Repository[Avatar]):
        model_type = Avatar

    repository_type = Repo

    def picture(self, avatar_id: UUID, *, storage: Storage, cache: Cache) -> bytes:
        """At most some tens of kilobytes. Raises NotFoundError."""
        return cache.get_or_create(AVATARS, avatar_id, lambda: storage.read(self.get_one(Avatar.id == avatar_id).id))

    def replace(self, content: IO[bytes], *, user_id: UUID, public_url: str, storage: Storage) -> str:
        """Draw the picture anew and make it the user's. Returns its URL, which begins with `public_url`.

        Raises InvalidInputError when it is no picture that can be used.
        """
        avatar = Avatar(id=uuid4(), user_id=user_id)
        small = square_picture(content, side=AVATAR_SIDE)
        _prepare(self.session, storage, avatar.id)
        storage.put(avatar.id, small, media_type=MEDIA_TYPE, disposition="inline")
        url = f"{public_url}/{avatar.id}"
        self._point_to(url, user_id=user_id)
        self.create(avatar)
        return url

    def remove_of(self, user_id: UUID) -> None:
        self._point_to(None, user_id=user_id)

    def _point_to(self, url: str | None, *, user_id: UUID) -> None:
        """The lock on the user's row comes first: of two changes at once, the second sees what the first has made."""
        self.session.execute(update(User).where(User.id == user_id).values(avatar_url=url))
        gone = self.session.scalars(delete(Avatar).where(Avatar.user_id == user_id).returning(Avatar.id)).all()
        for avatar_id in gone:
            invalidate(self.session, AVATARS, avatar_id)
            enqueue(self.session, delete_blob, blob_id=avatar_id)


def visible_to(user: Principal) -> ColumnElement[bool]:
    """People see their own files, superusers all."""
    return true() if user.is_superuser else File.owner_id == user.id


def attachment_of(file: File) -> Attachment:
    return Attachment(blob_id=file.id, name=file.name, media_type=file.media_type, size=file.size, sha256=file.sha256)


def _prepare(session: AnySession, storage: Storage, blob_id: UUID) -> None:
    """For a blob. Raises ForeignStorageError: the clean-up of another database would delete it."""
    if not storage.is_claimed:
        storage.claim(identity_of(session))
    _delete_if_rolled_back(session, blob_id)


def _delete_if_rolled_back(session: AnySession, blob_id: UUID) -> None:
    """Whether a COMMIT that failed has happened is not known at once; the job asks again, and the clean-up after
    it. A unit of work that is repeated leaves the blob of its first attempt to the clean-up."""

    def ask_again(fresh: Session) -> None:
        enqueue(fresh, delete_blob, blob_id=blob_id, after=UNCERTAIN)

    after_rollback(session, ask_again)


def _sha256(content: IO[bytes]) -> str:
    digest = hashlib.sha256()
    content.seek(0)
    while chunk := content.read(CHUNK):
        digest.update(chunk)
    return digest.hexdigest()
