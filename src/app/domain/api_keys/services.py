from collections.abc import Collection, Sequence
from datetime import datetime, timedelta
from uuid import UUID

from msgspec import Struct
from sqlalchemy import ColumnElement, bindparam, func, or_, select, update

from app.domain.api_keys.errors import TooManyApiKeysError
from app.domain.api_keys.jobs import send_api_key_notice
from app.domain.api_keys.models import ApiKey
from app.domain.audit.models import Action
from app.domain.audit.services import AuditService
from app.domain.sessions.services import SessionService
from app.domain.users.models import User
from app.lib.access.guards import Principal
from app.lib.api_keys import SHOWN, new_api_key
from app.lib.db.models import utc_now
from app.lib.db.service import Repository, Service
from app.lib.errors import InvalidInputError
from app.lib.events import publish
from app.lib.jobs.broker import enqueue
from app.lib.random_secrets import hash_of

API_KEY_REVOKED = "api_key_revoked"
"""Topic; the payload is the key's id."""
MAX_KEYS = 50
"""Of one account, not counting those that were revoked."""
MAX_LIFETIME = timedelta(days=10 * 365)
USE_PRECISION = timedelta(minutes=1)

_IS_GOOD = (
    ApiKey.revoked_at.is_(None),
    or_(ApiKey.expires_at.is_(None), ApiKey.expires_at > func.clock_timestamp()),
    User.is_active,
)
_FIND = (
    select(ApiKey, User.is_superuser)
    .join(User, User.id == ApiKey.user_id)
    .where(ApiKey.key_hash == bindparam("key_hash"), *_IS_GOOD)
)


class KeyHolder(Struct, frozen=True):
    """Whom a key stands for, and until when: None is for ever."""

    principal: Principal
    expires_at: datetime | None


class ApiKeyService(Service[ApiKey]):
    class Repo(Repository[ApiKey]):
        model_type = ApiKey

    repository_type = Repo

    def issue(
        self,
        me: Principal,
        *,
        name: str,
        scopes: Collection[str],
        expires_at: datetime | None,
        known_scopes: Collection[str],
    ) -> tuple[ApiKey, str]:
        """Make a key. Returns the row and the key itself, which exists only here and at the caller.

        Raises InvalidInputError for an unknown scope or an expiry that cannot be, TooManyApiKeysError, and
        NotAuthenticatedError when this session has ended meanwhile.
        """
        if unknown := sorted(set(scopes).difference(known_scopes)):
            raise InvalidInputError(
                f"There is no scope {unknown[0]!r}. There are: {', '.join(known_scopes)}.", field="scopes"
            )
        if expires_at is not None:
            _refuse_impossible(expires_at)
        user = SessionService(self.session).lock_user(me)  # several at once wait, and see each other's keys
        if self.count(ApiKey.user_id == me.id, ApiKey.revoked_at.is_(None)) >= MAX_KEYS:
            raise TooManyApiKeysError
        key = new_api_key()
        row = self.create(
            ApiKey(
                user_id=me.id,
                name=name,
                prefix=key[:SHOWN],
                key_hash=hash_of(key),
                scopes=sorted(set(scopes)),
                expires_at=expires_at,
            )
        )
        AuditService(self.session).record(
            Action.API_KEY_CREATED,
            subject=user,
            details={"api_key_id": row.id, "scopes": row.scopes, "expires_at": expires_at},
        )
        notice = user.notice_key("api-key-notice")
        enqueue(self.session, send_api_key_notice, key=notice, once=True, api_key_id=row.id)
        return row, key

    def find_holder(self, key_hash: bytes) -> KeyHolder | None:
        """Whom the key stands for now; None when it is unknown, expired, revoked, or its owner is not active."""
        found = self.session.execute(_FIND, {"key_hash": key_hash}).one_or_none()
        if found is None:
            return None
        row, is_superuser = found
        if row.last_used_at is None or row.last_used_at < utc_now() - USE_PRECISION:
            self._record_use(row.id)
        principal = Principal(
            id=row.user_id,
            session_id=row.id,
            is_superuser=is_superuser,
            authenticated_at=0,
            scopes=frozenset(row.scopes),
        )
        return KeyHolder(principal=principal, expires_at=row.expires_at)

    def revoke(self, *which: ColumnElement[bool]) -> Sequence[UUID]:
        """End keys and tell every process. Returns the ids of those that had not been revoked yet."""
        ended = update(ApiKey).where(*which, ApiKey.revoked_at.is_(None)).values(revoked_at=func.now())
        revoked = self.session.execute(ended.returning(ApiKey.id, ApiKey.user_id)).all()
        publish(self.session, API_KEY_REVOKED, *[str(key_id) for key_id, _ in revoked])
        for key_id, user_id in revoked:
            AuditService(self.session).record(
                Action.API_KEY_REVOKED, subject=("user", user_id), details={"api_key_id": key_id}
            )
        return [key_id for key_id, _ in revoked]

    def _record_use(self, key_id: UUID) -> None:
        """Passed over while somebody else holds the row: it is being revoked, or another process does the same."""
        free = select(ApiKey.id).where(ApiKey.id == key_id).with_for_update(skip_locked=True)
        used = update(ApiKey).where(ApiKey.id.in_(free))
        self.session.execute(
            used.values(last_used_at=func.now(), updated_at=ApiKey.updated_at),
            execution_options={"synchronize_session": False},
        )


def _refuse_impossible(expires_at: datetime) -> None:
    left = expires_at - utc_now()
    if left <= timedelta(0):
        raise InvalidInputError("This time has passed.", field="expires_at")
    if left > MAX_LIFETIME:
        raise InvalidInputError("At most ten years ahead; leave it out for a key without end.", field="expires_at")
