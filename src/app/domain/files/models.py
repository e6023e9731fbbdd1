from uuid import UUID

from sqlalchemy import BigInteger, ForeignKey, Index, String
from sqlalchemy.orm import Mapped, mapped_column

from app.lib.db.models import Model


class File(Model):
    """Something a user has uploaded. The blob in the storage has the row's id for its name."""

    __tablename__ = "files"
    __table_args__ = (Index(None, "owner_id", "created_at", "id"),)

    owner_id: Mapped[UUID] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"))
    name: Mapped[str] = mapped_column(String(255))
    media_type: Mapped[str] = mapped_column(String(100))
    size: Mapped[int] = mapped_column(BigInteger)
    sha256: Mapped[str] = mapped_column(String(64))


class Avatar(Model):
    """The picture of a user, as we have drawn it. The blob has the row's id; a new picture is a new row."""

    __tablename__ = "avatars"

    user_id: Mapped[UUID] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"), index=True)


BLOBS = (File, Avatar)
"""Every table whose ids are names of blobs. What none of them names is removed from the storage."""
