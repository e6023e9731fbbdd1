from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, ForeignKey, Index, LargeBinary, String, func
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from app.lib.db.models import Model


class Purpose(StrEnum):
    """What a link is for. Its mail is `confirmations/<purpose>`, its page `/confirm/<purpose>`."""

    VERIFICATION = "verification"
    PASSWORD_RESET = "password_reset"
    EMAIL_CHANGE = "email_change"
    EMAIL_UNDO = "email_undo"


class Confirmation(Model):
    """A link in a mail to `email`, with which the owner of that mailbox shows to be it, once.

    It is open until it is used or expires; when a newer one takes its place, it expires at once. `bound_to` is a digest
    of what must still be so when it is used. `registration` is what a registration of a known but unverified address
    would make of the account. The secret in the link is no column: see `lib.link_tokens`.
    """

    __tablename__ = "confirmations"
    __table_args__ = (
        Index(None, "user_id", "purpose"),
        Index(None, "email", "purpose"),
    )

    user_id: Mapped[UUID] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"))
    purpose: Mapped[Purpose] = mapped_column(String(30))
    email: Mapped[str] = mapped_column(String(254))
    bound_to: Mapped[bytes] = mapped_column(LargeBinary(32))
    registration: Mapped[dict[str, Any] | None] = mapped_column(JSONB(none_as_null=True), default=None)
    expires_at: Mapped[datetime] = mapped_column(index=True)
    used_at: Mapped[datetime | None] = mapped_column(default=None)

    @classmethod
    def is_open(cls) -> ColumnElement[bool]:
        """By the clock on the wall: `now()` is when the transaction began, before it waited for a lock perhaps."""
        return cls.used_at.is_(None) & (cls.expires_at > func.clock_timestamp())
