from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import NoReturn
from uuid import UUID

from sqlalchemy import ColumnElement, func, select, update

from app.domain.audit.models import Action, Outcome
from app.domain.audit.services import AuditService
from app.domain.sessions.errors import InvalidRefreshTokenError, RefreshTokenReusedError
from app.domain.sessions.jobs import send_new_device_notice
from app.domain.sessions.models import VERSION, RefreshToken, UserSession, without_versions
from app.domain.users.errors import InvalidCredentialsError
from app.domain.users.models import User
from app.lib.access.guards import Principal
from app.lib.csrf import RawHeaders
from app.lib.db.models import utc_now
from app.lib.db.service import Repository, Service, lock
from app.lib.errors import NotAuthenticatedError, NotFoundError
from app.lib.events import publish
from app.lib.jobs.broker import enqueue
from app.lib.random_secrets import hash_of, new_secret
from app.lib.session_cookies import SessionCookies
from app.lib.sign_ins import Device, Grant

SESSION_REVOKED = "session_revoked"
"""Topic; the payload is the session's id."""
ENDS = {"logout": Action.SESSION_ENDED, "refresh_token_reused": Action.REFRESH_TOKEN_REUSED}
"""What an end for this reason is called in the audit log. All others are revocations."""


class SessionService(Service[UserSession]):
    class Repo(Repository[UserSession]):
        model_type = UserSession

    repository_type = Repo

    def sign_in(self, user: User, *, device: Device, lifetime: timedelta, identity_id: UUID | None = None) -> Grant:
        """Begin a session for somebody who has proved to be this user, as the row says that they are.

        Raises InvalidCredentialsError when meanwhile they were deactivated or demoted, or their password was changed.
        """
        now = utc_now()
        is_new_device = user.last_login is not None and not self._has_met(user, device)
        self._record_sign_in(user, now)
        row = self.create(
            UserSession(
                user_id=user.id,
                user_agent=device.user_agent[:400],
                address=device.address[:64],
                authenticated_at=now,
                last_seen_at=now,
                expires_at=now + lifetime,
                identity_id=identity_id,
            )
        )
        AuditService(self.session).record(
            Action.SESSION_CREATED,
            subject=user,
            actor_id=user.id,
            details={"session_id": row.id, "device": row.device, "identity_id": identity_id},
        )
        if is_new_device:
            self._notify_of_new_device(row, user)
        return self._grant(row, user)

    def reauthenticate(self, user: User, session_id: UUID) -> UserSession:
        """Remember that this session has proved anew who it is. Raises NotAuthenticatedError when it has ended."""
        now = utc_now()
        row: UserSession | None = self.session.scalar(
            update(UserSession)
            .where(UserSession.id == session_id, UserSession.user_id == user.id, *_has_not_ended())
            .values(authenticated_at=now, last_seen_at=now)
            .returning(UserSession)
        )
        if row is None:
            raise NotAuthenticatedError
        AuditService(self.session).record(Action.SESSION_REAUTHENTICATED, subject=user)
        return row

    def held_by(self, cookies: SessionCookies, headers: RawHeaders) -> set[UUID]:
        """What the cookies name: that of the refresh token is there when that of the access token has gone."""
        refresh_token = cookies.refresh_token(headers)
        named = (cookies.session_of(headers), refresh_token and self.find_session(refresh_token))
        return {session_id for session_id in named if isinstance(session_id, UUID)}

    def refresh(self, refresh_token: str, *, max_idle: timedelta) -> Grant:
        """Exchange a token for its successor, once.

        Raises RefreshTokenReusedError, after ending the session, when it was exchanged before; of two
        exchanges at once the second waits for the first and is such a reuse. Raises InvalidRefreshTokenError
        when the token is unknown, or its session has ended or was not seen for `max_idle`.
        """
        token_hash = hash_of(refresh_token)
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
            .where(UserSession.id == session_id, *is_live(max_idle), User.is_active)
        ).one_or_none()
        if found is None:
            raise InvalidRefreshTokenError
        row, user = found
        row.last_seen_at = utc_now()
        return self._grant(row, user)

    def find_session(self, refresh_token: str) -> UUID | None:
        """Whose token it is, used or not."""
        return self.session.scalar(
            select(RefreshToken.session_id).where(RefreshToken.token_hash == hash_of(refresh_token))
        )

    def refuse_ended(self, session_id: UUID) -> None:
        """Raises NotAuthenticatedError. Asked once the user's row is locked, by what would let somebody in again: an
        account that has just been taken back must not be lost again to what was sent before and is still under way."""
        if not self.exists(UserSession.id == session_id, *_has_not_ended()):
            raise NotAuthenticatedError

    def lock_user(self, me: Principal) -> User:
        """Who asks, with the row locked. Raises NotAuthenticatedError when the session has ended meanwhile."""
        user = lock(self.session, User, User.id == me.id)
        self.refuse_ended(me.session_id)
        if user is None:
            raise NotAuthenticatedError
        return user

    def end(self, session_id: UUID, *, user_id: UUID) -> None:
        """Raises NotFoundError when there is no such session, it is over, or somebody else's."""
        mine = (UserSession.id == session_id, UserSession.user_id == user_id, UserSession.expires_at > utc_now())
        if not self.revoke(*mine, reason="ended_by_user"):
            raise NotFoundError

    def end_all(self, user_id: UUID, *, reason: str, but: UUID | None = None) -> Sequence[UUID]:
        """End the sessions of a user, but perhaps one: access and refresh tokens stop working in every process.

        Change the account before: a sign-in that is under way then either sees the change or is ended with the rest.
        """
        others = [UserSession.id != but] if but else []
        return self.revoke(UserSession.user_id == user_id, *others, reason=reason)

    def revoke(self, *which: ColumnElement[bool], reason: str) -> Sequence[UUID]:
        """End sessions and tell every process. Returns the ids of those that had not ended yet."""
        revoked = self.session.execute(
            update(UserSession)
            .where(*which, UserSession.revoked_at.is_(None))
            .values(revoked_at=func.now(), revocation_reason=reason)
            .returning(UserSession.id, UserSession.user_id)
        )
        owners = {row.id: row.user_id for row in revoked}
        publish(self.session, SESSION_REVOKED, *map(str, owners))
        self._record_end(owners, reason)
        return list(owners)

    def revoked_within(self, period: timedelta) -> Sequence[UUID]:
        """Sessions that were ended less than `period` ago, by the clock of the database."""
        return self.session.scalars(select(UserSession.id).where(UserSession.revoked_at > func.now() - period)).all()

    def _has_met(self, user: User, device: Device) -> bool:
        plain = func.regexp_replace(UserSession.user_agent, VERSION, "", "g")
        return self.exists(UserSession.user_id == user.id, plain == without_versions(device.user_agent[:400]))

    def _record_sign_in(self, user: User, now: datetime) -> None:
        """One statement looks again and writes: who changes the account at the same time waits, or is waited for."""
        unchanged = (
            User.is_active,
            User.is_superuser.is_(user.is_superuser),
            User.password_hash.is_not_distinct_from(user.password_hash),
        )
        recorded = self.session.scalar(
            update(User)
            .where(User.id == user.id, *unchanged)
            .values(last_login=now, updated_at=User.updated_at)  # signing in does not change the account
            .returning(User.id)
            .execution_options(synchronize_session=False)
        )
        if recorded is None:
            AuditService(self.session).record(Action.SESSION_CREATED, subject=user, outcome=Outcome.FAILURE)
            raise InvalidCredentialsError

    def _record_end(self, owners: Mapping[UUID, UUID], reason: str) -> None:
        """Whoever signs out has shown at least a refresh token."""
        action = ENDS.get(reason, Action.SESSION_REVOKED)
        for user_id in set(owners.values()):
            ended = [session_id for session_id, owner_id in owners.items() if owner_id == user_id]
            AuditService(self.session).record(
                action,
                subject=("user", user_id),
                outcome=Outcome.DENIED if action is Action.REFRESH_TOKEN_REUSED else Outcome.SUCCESS,
                actor_id=user_id if action is Action.SESSION_ENDED else None,
                details={"reason": reason, "session_ids": ended},
            )

    def _notify_of_new_device(self, row: UserSession, user: User) -> None:
        key = user.notice_key("new-device")
        enqueue(self.session, send_new_device_notice, key=key, once=True, session_id=row.id)

    def _refuse_unusable(self, token_hash: bytes) -> NoReturn:
        family = self.session.scalar(select(RefreshToken.session_id).where(RefreshToken.token_hash == token_hash))
        if family is None:
            raise InvalidRefreshTokenError
        self.revoke(UserSession.id == family, reason="refresh_token_reused")
        raise RefreshTokenReusedError

    def _grant(self, row: UserSession, user: User) -> Grant:
        refresh_token = new_secret()
        self.session.add(RefreshToken(session_id=row.id, token_hash=hash_of(refresh_token)))
        return Grant(principal=principal_of(row, user), refresh_token=refresh_token, expires_at=row.expires_at)


def principal_of(row: UserSession, user: User) -> Principal:
    return Principal(
        id=user.id,
        session_id=row.id,
        is_superuser=user.is_superuser,
        authenticated_at=int(row.authenticated_at.timestamp()),
    )


def is_live(max_idle: timedelta) -> tuple[ColumnElement[bool], ...]:
    """A session that can still be refreshed."""
    return *_has_not_ended(), UserSession.last_seen_at > utc_now() - max_idle


def _has_not_ended() -> tuple[ColumnElement[bool], ...]:
    """By the clock that wrote `expires_at`."""
    return UserSession.revoked_at.is_(None), UserSession.expires_at > utc_now()
