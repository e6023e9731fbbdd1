from uuid import UUID

from sqlalchemy import BigInteger, ForeignKey, Index, String
from sqlalchemy.orm import Mapped, mapped_column

from app.lib.db.models import Model, Stored


class File(Stored):
    """Something a user has uploaded. The blob in the storage has the row's id for its name."""

    __tablename__ = "files"
    __table_args__ = (Index(None, "owner_id", "created_at", "id"),)

    owner_id: Mapped[UUID] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"))
    name: Mapped[str] = mapped_column(String(255))
    media_type: Mapped[str] = mapped_column(String(100))
    size: Mapped[int] = mapped_column(BigInteger)
    sha256: Mapped[str] = mapped_column(String(64))


class Avatar(Stored):
    """The picture of a user, as we have drawn it. The blob has the row's id; a new picture is a new row."""

    __tablename__ = "avatars"

    user_id: Mapped[UUID] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"), unique=True)


class DatabaseIdentity(Model):
    """The one row, made by the migration, whose id tells this database from all others. The storage keeps it, too."""

    __tablename__ = "database_identities"
