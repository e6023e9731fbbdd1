from enum import StrEnum
from typing import Any
from uuid import UUID

from sqlalchemy import Index, String
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from app.lib.db.models import Model


class Action(StrEnum):
    """What was done, or tried. Another feature adds its own here."""

    SESSION_CREATED = "session.created"
    SESSION_REAUTHENTICATED = "session.reauthenticated"
    SESSION_ENDED = "session.ended"
    SESSION_REVOKED = "session.revoked"
    REFRESH_TOKEN_REUSED = "refresh_token.reused"
    USER_REGISTERED = "user.registered"
    USER_CREATED = "user.created"
    USER_UPDATED = "user.updated"
    USER_ACTIVATION_CHANGED = "user.activation_changed"
    USER_ADMINISTRATOR_CHANGED = "user.administrator_changed"
    USER_RECLAIMED = "user.reclaimed"
    USER_DELETED = "user.deleted"
    USER_READ = "user.read"
    USERS_LISTED = "users.listed"
    VERIFICATION_REQUESTED = "email.verification_requested"
    EMAIL_VERIFIED = "email.verified"
    EMAIL_CHANGE_REQUESTED = "email.change_requested"
    EMAIL_CHANGED = "email.changed"
    EMAIL_CHANGE_UNDONE = "email.change_undone"
    PASSWORD_RESET_REQUESTED = "password.reset_requested"
    PASSWORD_RESET = "password.reset"
    PASSWORD_CHANGED = "password.changed"
    PASSWORD_REMOVED = "password.removed"
    TOTP_ENABLED = "totp.enabled"
    TOTP_DISABLED = "totp.disabled"
    RECOVERY_CODES_REPLACED = "recovery_codes.replaced"
    RECOVERY_CODE_USED = "recovery_code.used"
    API_KEY_CREATED = "api_key.created"
    API_KEY_REVOKED = "api_key.revoked"
    IDENTITY_LINKED = "identity.linked"
    IDENTITY_UNLINKED = "identity.unlinked"
    ROLE_CREATED = "role.created"
    ROLE_DELETED = "role.deleted"
    ROLE_PARENT_ADDED = "role.parent_added"
    ROLE_PARENT_REMOVED = "role.parent_removed"
    ROLE_GIVEN = "role.given"
    ROLE_TAKEN = "role.taken"
    PERMISSION_GIVEN = "permission.given"
    PERMISSION_TAKEN = "permission.taken"
    ACCESS_EXPLAINED = "access.explained"
    JOB_RETRIED = "job.retried"
    JOB_ABORTED = "job.aborted"
    ACCESS_DENIED = "access.denied"
    DATABASE_BACKED_UP = "database.backed_up"
    DATABASE_RESTORED = "database.restored"


class Outcome(StrEnum):
    """`failure`: it was tried, and nothing came of it. `denied`: whoever tried may not."""

    SUCCESS = "success"
    FAILURE = "failure"
    DENIED = "denied"


class AuditEvent(Model):
    """Somebody did something, or tried to. Triggers of the table refuse to change or to remove a row.

    It refers to other rows by ids only, for it outlives them. `source` and the columns after it say where the act
    came from (`lib.origin`). `permission` is the one by which it was allowed or refused, `attributes` those of the
    object of that decision. `changes` are fields with their values before and after, `details` what else there is to
    say. `count` is how many alike the row stands for.
    """

    __tablename__ = "audit_events"
    __table_args__ = (
        Index(None, "created_at", "id"),
        Index(None, "actor_id", "created_at", "id", postgresql_where="actor_id IS NOT NULL"),
        Index(None, "subject_type", "subject_id", "created_at", "id", postgresql_where="subject_type IS NOT NULL"),
        Index(None, "action", "created_at", "id"),
        Index(None, "outcome", "created_at", "id", postgresql_where="outcome <> 'success'"),
        Index(None, "permission", "created_at", "id", postgresql_where="permission IS NOT NULL"),
        Index(None, "request_id", postgresql_where="request_id IS NOT NULL"),
    )

    updated_at = None  # type: ignore[assignment]  # a row that never changes has no such column

    action: Mapped[Action] = mapped_column(String(60))
    outcome: Mapped[Outcome] = mapped_column(String(10))
    subject_type: Mapped[str | None] = mapped_column(String(40), default=None)
    subject_id: Mapped[str | None] = mapped_column(String(200), default=None)
    permission: Mapped[str | None] = mapped_column(String(100), default=None)
    attributes: Mapped[dict[str, Any] | None] = mapped_column(JSONB(none_as_null=True), default=None)
    details: Mapped[dict[str, Any] | None] = mapped_column(JSONB(none_as_null=True), default=None)
    changes: Mapped[dict[str, Any] | None] = mapped_column(JSONB(none_as_null=True), default=None)
    count: Mapped[int] = mapped_column(default=1)
    source: Mapped[str] = mapped_column(String(200))
    actor_id: Mapped[UUID | None] = mapped_column(default=None)
    impersonator_id: Mapped[UUID | None] = mapped_column(default=None)
    session_id: Mapped[UUID | None] = mapped_column(default=None)
    address: Mapped[str | None] = mapped_column(String(64), default=None)
    request_id: Mapped[str | None] = mapped_column(String(64), default=None)
