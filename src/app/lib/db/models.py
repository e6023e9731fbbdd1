"""The shape every table shares."""

from datetime import UTC, datetime
from typing import ClassVar
from uuid import UUID

from advanced_alchemy.base import CommonTableAttributes, create_registry
from sqlalchemy import DateTime, Uuid
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
from uuid_utils.compat import uuid7


def utc_now() -> datetime:
    return datetime.now(UTC)


class Model(CommonTableAttributes, DeclarativeBase):
    """A row with a time-ordered id (UUID version 7, RFC 9562) and the times it was made and last changed.

    Ids and times are made in Python, so that an INSERT needs no second round trip to read them back.
    """

    __abstract__ = True
    registry = create_registry({UUID: Uuid(), datetime: DateTime(timezone=True)})
    access_attributes: ClassVar[tuple[str, ...]] = ()
    """What rules on permissions may know of a row, beside its id (`r.obj.owner_id`)."""

    id: Mapped[UUID] = mapped_column(default=uuid7, primary_key=True, sort_order=-1)
    created_at: Mapped[datetime] = mapped_column(default=utc_now, sort_order=100)
    updated_at: Mapped[datetime] = mapped_column(default=utc_now, onupdate=utc_now, sort_order=101)


class Stored(Model):
    """A row whose id is also the name of a blob in the storage. The nightly clean-up spares the blobs of every table
    that derives from this, and no others."""

    __abstract__ = True
