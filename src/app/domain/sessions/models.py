import re
from datetime import datetime
from uuid import UUID

from sqlalchemy import ForeignKey, Index, LargeBinary, String
from sqlalchemy.orm import Mapped, mapped_column

from app.lib.db.models import Model

PROGRAMS = [
    ("Edg", "Edge"),  # those that also call themselves Chrome or Safari come before these
    ("OPR/", "Opera"),
    ("SamsungBrowser/", "Samsung Internet"),
    ("Firefox/", "Firefox"),
    ("FxiOS/", "Firefox"),
    ("Chrome/", "Chrome"),
    ("CriOS/", "Chrome"),
    ("Safari/", "Safari"),
    ("curl/", "curl"),
    ("python", "Python"),
]
SYSTEMS = [
    ("Windows", "Windows"),
    ("iPhone", "iPhone"),
    ("iPad", "iPad"),
    ("Android", "Android"),
    ("CrOS", "ChromeOS"),
    ("Macintosh", "macOS"),
    ("Linux", "Linux"),
]
VERSION = r"/[0-9.]+"


class UserSession(Model):
    """One sign-in on one device: the family of every token that follows from it.

    `expires_at` is absolute: refreshing does not move it (ASVS 10.4.8). `authenticated_at` is when the user last
    proved who they are.
    """

    __tablename__ = "sessions"
    __table_args__ = (
        Index(None, "revoked_at", postgresql_where="revoked_at IS NOT NULL"),
        Index(None, "identity_id", postgresql_where="identity_id IS NOT NULL"),
    )

    user_id: Mapped[UUID] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"), index=True)
    user_agent: Mapped[str] = mapped_column(String(400), default="")
    address: Mapped[str] = mapped_column(String(64), default="")
    authenticated_at: Mapped[datetime]
    last_seen_at: Mapped[datetime]
    """When it was last refreshed, signed in or proved: at most the life of an access token before the last request."""
    expires_at: Mapped[datetime]
    revoked_at: Mapped[datetime | None] = mapped_column(default=None)
    revocation_reason: Mapped[str | None] = mapped_column(String(40), default=None)
    identity_id: Mapped[UUID | None] = mapped_column(ForeignKey("identities.id", ondelete="SET NULL"), default=None)
    """With which it was begun; None for a password."""

    @property
    def device(self) -> str:
        """Such as `Firefox on Windows`. Only words of ours: a user agent can say anything, and this goes into mails."""
        found = [next((name for mark, name in known if mark in self.user_agent), "") for known in (PROGRAMS, SYSTEMS)]
        return " on ".join(filter(None, found)) or "Unknown device"


def without_versions(user_agent: str) -> str:
    """The same before and after an update."""
    return re.sub(VERSION, "", user_agent)


class RefreshToken(Model):
    """One link of a session's chain. Only a hash is stored; a used link is kept to recognise its reuse."""

    __tablename__ = "refresh_tokens"

    session_id: Mapped[UUID] = mapped_column(ForeignKey("sessions.id", ondelete="CASCADE"), index=True)
    token_hash: Mapped[bytes] = mapped_column(LargeBinary(32), unique=True)
    used_at: Mapped[datetime | None] = mapped_column(default=None)
