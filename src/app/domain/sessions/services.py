import hashlib
import secrets
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import NoReturn
from uuid import UUID

from msgspec import Struct
from sqlalchemy import ColumnElement, func, or_, select, update
from sqlalchemy.orm.attributes import flag_modified

from app.domain.sessions.errors import InvalidRefreshTokenError, RefreshTokenReusedError
from app.domain.sessions.models import RefreshToken, UserSession
from app.domain.users.models import User
from app.lib.access import Principal
from app.lib.db.models import utc_now
from app.lib.db.service import Repository, Service, remove_batch
from app.lib.events import publish

SESSION_REVOKED = "session_revoked"
"""Topic; the payload is the session's id."""


class Device(Struct, frozen=True):
    """Where a sign-in came from, shown to its owner."""

    address: str
    user_agent: str


class Grant(Struct, frozen=True):
    """Who may act, and the secret with which they may go on. The secret exists only here and at the client."""

    principal: Principal
    refresh_token: str


class SessionService(Service[UserSession]):
    class Repo(Repository[UserSession]):
        model_type = UserSession

    repository_type = Repo

    def sign_in(self, user: User, *, device: Device, lifetime: timedelta) -> Grant:
        now = utc_now()
        user.last_login = now
        flag_modified(user, "updated_at")  # written as it was: signing in does not change the account
        row = self.create(
            UserSession(
                user_id=user.id,
                user_agent=device.user_agent[:400],
                address=device.address[:64],
                authenticated_at=now,
                last_seen_at=now,
                expires_at=now + lifetime,
            )
        )
        return self._grant(row, user)

    def refresh(self, refresh_token: str) -> Grant:
        """Exchange a token for its successor, once.

        Raises RefreshTokenReusedError, after ending the session, when it was exchanged before; of two
        exchanges at once the second waits for the first and is such a reuse. Raises InvalidRefreshTokenError
        when the token is unknown or its session has ended.
        """
        token_hash = _hash(refresh_token)
        session_id = self.session.scalar(
            update(RefreshToken)
            .where(RefreshToken.token_hash == token_hash, RefreshToken.used_at.is_(None))
            .values(used_at=utc_now())
            .returning(RefreshToken.session_id)
        )
        if session_id is None:
            self._refuse_unusable(token_hash)
        found = self.session.execute(
            select(UserSession, User)
            .join(User, User.id == UserSession.user_id)
            .where(UserSession.id == session_id, *_is_live(), User.is_active)
        ).one_or_none()
        if found is None:
            raise InvalidRefreshTokenError
        row, user = found
        row.last_seen_at = utc_now()
        return self._grant(row, user)

    def revoke(self, *which: ColumnElement[bool], reason: str) -> Sequence[UUID]:
        """End sessions and tell every process. Returns the ids of those that had not ended yet."""
        revoked = self.session.scalars(
            update(UserSession)
            .where(*which, UserSession.revoked_at.is_(None))
            .values(revoked_at=func.now(), revocation_reason=reason)
            .returning(UserSession.id)
        ).all()
        publish(self.session, SESSION_REVOKED, *map(str, revoked))
        return revoked

    def revoked_within(self, period: timedelta) -> Sequence[UUID]:
        """Sessions that were ended less than `period` ago, by the clock of the database."""
        return self.session.scalars(select(UserSession.id).where(UserSession.revoked_at > func.now() - period)).all()

    def remove_ended(self, *, before: datetime) -> int:
        """Delete a batch of sessions, with their refresh tokens, that were over by then. Returns how many."""
        return self.remove_batch(or_(UserSession.expires_at < before, UserSession.revoked_at < before))

    def remove_used_tokens(self, *, before: datetime) -> int:
        """Delete a batch of refresh tokens that were exchanged by then. Returns how many.

        Whoever comes with one that is gone is refused as before, but the session no longer ends.
        """
        return remove_batch(self.session, RefreshToken, RefreshToken.used_at < before)

    def _refuse_unusable(self, token_hash: bytes) -> NoReturn:
        family = self.session.scalar(select(RefreshToken.session_id).where(RefreshToken.token_hash == token_hash))
        if family is None:
            raise InvalidRefreshTokenError
        self.revoke(UserSession.id == family, reason="refresh_token_reused")
        raise RefreshTokenReusedError

    def _grant(self, row: UserSession, user: User) -> Grant:
        refresh_token = secrets.token_urlsafe(32)
        self.session.add(RefreshToken(session_id=row.id, token_hash=_hash(refresh_token)))
        return Grant(principal=principal_of(row, user), refresh_token=refresh_token)


def principal_of(row: UserSession, user: User) -> Principal:
    return Principal(
        id=user.id,
        session_id=row.id,
        is_superuser=user.is_superuser,
        authenticated_at=int(row.authenticated_at.timestamp()),
    )


def _is_live() -> tuple[ColumnElement[bool], ColumnElement[bool]]:
    return UserSession.revoked_at.is_(None), UserSession.expires_at > func.now()


def _hash(refresh_token: str) -> bytes:
    """SHA-256 suffices: the token has 256 random bits, there is nothing to guess."""
    return hashlib.sha256(refresh_token.encode()).digest()
