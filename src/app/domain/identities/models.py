from datetime import datetime
from uuid import UUID

from sqlalchemy import ForeignKey, LargeBinary, String, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from app.lib.db.models import Model
from app.lib.redirections import MAX_LENGTH


class Identity(Model):
    """Somebody at a provider, who is a user here. `email` is what the provider knew when it was last used."""

    __tablename__ = "identities"
    __table_args__ = (UniqueConstraint("issuer", "subject"),)

    user_id: Mapped[UUID] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"), index=True)
    provider: Mapped[str] = mapped_column(String(40))
    issuer: Mapped[str] = mapped_column(String(255))
    subject: Mapped[str] = mapped_column(String(255))
    email: Mapped[str | None] = mapped_column(String(254), default=None)
    last_used_at: Mapped[datetime | None] = mapped_column(default=None)


class AuthorizationRequest(Model):
    """A browser that was sent to a provider and has not come back. Nonce and PKCE verifier follow from the state,
    of which only a hash is here.

    With a `session_id`, it is to link an identity to the user of that session; without one, to sign in, and then the
    browser ends with a code or with cookies.
    """

    __tablename__ = "authorization_requests"

    state_hash: Mapped[bytes] = mapped_column(LargeBinary(32), unique=True)
    browser_hash: Mapped[bytes] = mapped_column(LargeBinary(32))
    provider: Mapped[str] = mapped_column(String(40))
    destination: Mapped[str] = mapped_column(String(MAX_LENGTH))
    wants_code: Mapped[bool]
    session_id: Mapped[UUID | None] = mapped_column(ForeignKey("sessions.id", ondelete="CASCADE"), index=True)
    expires_at: Mapped[datetime] = mapped_column(index=True)
    used_at: Mapped[datetime | None] = mapped_column(default=None)


class SignInCode(Model):
    """What a frontend exchanges for tokens, once, after somebody came back from a provider. Only a hash is stored."""

    __tablename__ = "sign_in_codes"

    code_hash: Mapped[bytes] = mapped_column(LargeBinary(32), unique=True)
    identity_id: Mapped[UUID] = mapped_column(ForeignKey("identities.id", ondelete="CASCADE"), index=True)
    browser_hash: Mapped[bytes] = mapped_column(LargeBinary(32))
    needs_browser: Mapped[bool]
    expires_at: Mapped[datetime] = mapped_column(index=True)
    used_at: Mapped[datetime | None] = mapped_column(default=None)
    tries: Mapped[int] = mapped_column(default=0)
