import hmac
import logging
import secrets
from uuid import UUID

import pyotp
from sqlalchemy import ColumnElement, delete, func, or_, select, update
from sqlalchemy.dialects.postgresql import insert

from app.domain.audit.models import Action, Outcome
from app.domain.audit.services import AuditService
from app.domain.sessions.services import SessionService
from app.domain.throttles.services import ThrottleService
from app.domain.totp.errors import TotpAlreadyEnabledError, WrongCodeError
from app.domain.totp.jobs import send_recovery_code_notice, send_recovery_codes_notice, send_totp_notice
from app.domain.totp.models import Authenticator, RecoveryCode
from app.domain.users.models import User
from app.lib.access.guards import Principal
from app.lib.db.models import utc_now
from app.lib.db.service import Repository, Service
from app.lib.encryption import DecryptionError, decrypt, encrypt
from app.lib.errors import NotFoundError
from app.lib.jobs.broker import enqueue
from app.lib.random_secrets import hash_of
from app.lib.secret_keys import SecretKeys

PERIOD = 30
"""Seconds for which a code is shown: what authenticator apps assume, with six digits and SHA-1."""
DRIFT = 1
"""Periods by which the clock of a telephone may be wrong."""
RECOVERY_CODES = 10
ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
"""Crockford's base 32: no letter that looks like another character."""
MISREAD = str.maketrans("OIL", "011", " -")
GROUPS, GROUP = 4, 4
"""16 characters, 80 bits: nothing to guess, so a plain hash suffices, and a new SECRET_KEY does not spoil them."""

logger = logging.getLogger(__name__)


class TotpService(Service[Authenticator]):
    """Codes of authenticator apps (RFC 6238) and recovery codes: the second factor of an account."""

    class Repo(Repository[Authenticator]):
        model_type = Authenticator

    repository_type = Repo

    def is_enabled(self, user_id: UUID) -> bool:
        return self.exists(*_enabled(user_id))

    def recovery_codes_left(self, user_id: UUID) -> int:
        left = select(func.count()).where(RecoveryCode.user_id == user_id, RecoveryCode.used_at.is_(None))
        return self.session.scalar(left) or 0

    def enrol(self, user_id: UUID, *, keys: SecretKeys) -> str:
        """A new secret, in base 32, in place of an unconfirmed one. Raises TotpAlreadyEnabledError."""
        secret = pyotp.random_base32()
        values = {"secret": encrypt(secret.encode(), key=_key(keys), bound_to=user_id.bytes), "updated_at": utc_now()}
        row = insert(Authenticator).values(user_id=user_id, **values)
        statement = row.on_conflict_do_update(
            index_elements=[Authenticator.user_id], set_=values, where=Authenticator.confirmed_at.is_(None)
        )
        if self.session.scalar(statement.returning(Authenticator.id)) is None:
            raise TotpAlreadyEnabledError
        return secret

    def confirm(self, me: Principal, code: str, *, keys: SecretKeys) -> list[str]:
        """Enable it, end all other sessions (they have proved less), and return the recovery codes.

        Raises NotFoundError without a secret, TotpAlreadyEnabledError, WrongCodeError, or NotAuthenticatedError when
        the session has ended meanwhile. The user's row is locked: a sign-in that was not asked for a code is waited
        for, and ended with the others.
        """
        sessions = SessionService(self.session)
        sessions.lock_user(me)
        found = self._locked(me.id)
        if found is None:
            raise NotFoundError
        if found.confirmed_at:
            raise TotpAlreadyEnabledError
        step = self._step_of(found, code, keys)
        if step is None:
            self._record(Action.TOTP_ENABLED, me.id, outcome=Outcome.FAILURE)
            raise WrongCodeError
        self._record(Action.TOTP_ENABLED, me.id)
        found.confirmed_at, found.last_step = utc_now(), step
        sessions.end_all(me.id, but=me.session_id, reason="totp_enabled")
        self._notify(me.id, is_enabled=True)
        return self._new_recovery_codes(me.id)

    def disable(self, user_id: UUID) -> None:
        """Also drops a secret that was never confirmed. Raises NotFoundError when there is none."""
        gone = delete(Authenticator).where(Authenticator.user_id == user_id).returning(Authenticator.confirmed_at)
        found = self.session.execute(gone).one_or_none()
        if found is None:
            raise NotFoundError
        self.session.execute(delete(RecoveryCode).where(RecoveryCode.user_id == user_id))
        if found.confirmed_at:
            self._record(Action.TOTP_DISABLED, user_id)
            self._notify(user_id, is_enabled=False)

    def remove_of(self, user_id: UUID) -> None:
        """For an account that somebody else gets: no mail, for it is not theirs to know."""
        self.session.execute(delete(RecoveryCode).where(RecoveryCode.user_id == user_id))
        self.session.execute(delete(Authenticator).where(Authenticator.user_id == user_id))

    def replace_recovery_codes(self, user_id: UUID) -> list[str]:
        """A new set; the old one is void. Raises NotFoundError where there is no second factor."""
        found = self._locked(user_id)
        if found is None or found.confirmed_at is None:
            raise NotFoundError
        self._record(Action.RECOVERY_CODES_REPLACED, user_id)
        key = self.session.get_one(User, user_id).notice_key("recovery-codes-notice")
        now = utc_now()
        enqueue(self.session, send_recovery_codes_notice, key=key, once=True, user_id=user_id, at_time=now)
        return self._new_recovery_codes(user_id)

    def verify(self, user_id: UUID, code: str, *, address: str, keys: SecretKeys) -> None:
        """Use up a code of the app, or a recovery code. A recovery code is noticed by mail.

        Raises WrongCodeError, also where there is no second factor, and TooManyRequestsError after several wrong
        ones. As for passwords, a network in which the account was right has a count of its own.
        """
        throttles = ThrottleService(self.session)
        attempt = throttles.begin_code(user_id, address=address, keys=keys)
        if not (self._use_code(user_id, code, keys) or self._use_recovery_code(user_id, code)):
            throttles.fail(attempt)
            raise WrongCodeError
        throttles.succeed(attempt)

    def _record(
        self, action: Action, user_id: UUID, *, outcome: Outcome = Outcome.SUCCESS, left: int | None = None
    ) -> None:
        AuditService(self.session).record(
            action, subject=("user", user_id), outcome=outcome, details=None if left is None else {"left": left}
        )

    def _notify(self, user_id: UUID, *, is_enabled: bool) -> None:
        key = self.session.get_one(User, user_id).notice_key("totp-on" if is_enabled else "totp-off")
        enqueue(
            self.session,
            send_totp_notice,
            key=key,
            once=True,
            user_id=user_id,
            is_enabled=is_enabled,
            at_time=utc_now(),
        )

    def _use_code(self, user_id: UUID, code: str, keys: SecretKeys) -> bool:
        """One statement says that the step was not used before: of several at once, one is right."""
        found = self.get_one_or_none(*_enabled(user_id))
        step = self._step_of(found, code, keys) if found else None
        if step is None:
            return False
        is_unused = or_(Authenticator.last_step.is_(None), Authenticator.last_step < step)
        used = update(Authenticator).where(*_enabled(user_id), is_unused).values(last_step=step)
        return self.session.scalar(used.returning(Authenticator.id)) is not None

    def _use_recovery_code(self, user_id: UUID, code: str) -> bool:
        is_it = (
            RecoveryCode.user_id == user_id,
            RecoveryCode.code_hash == _hash(code),
            RecoveryCode.used_at.is_(None),
        )
        used = update(RecoveryCode).where(*is_it).values(used_at=utc_now()).returning(RecoveryCode.id)
        code_id = self.session.scalar(used)
        if code_id is None:
            return False
        left = self.recovery_codes_left(user_id)
        self._record(Action.RECOVERY_CODE_USED, user_id, left=left)
        enqueue(self.session, send_recovery_code_notice, user_id=user_id, code_id=code_id, left=left)
        return True

    def _step_of(self, authenticator: Authenticator, code: str, keys: SecretKeys) -> int | None:
        """The period to which a code belongs. None also when SECRET_KEY has been changed since: the codes are lost."""
        try:
            secret = decrypt(authenticator.secret, key=_key(keys), bound_to=authenticator.user_id.bytes)
        except DecryptionError:
            logger.warning("the TOTP secret of user %s cannot be decrypted", authenticator.user_id)
            return None
        now = int(utc_now().timestamp()) // PERIOD
        totp, plain = pyotp.TOTP(secret.decode(), interval=PERIOD), "".join(code.split())
        steps = range(now - DRIFT, now + DRIFT + 1)
        return next((step for step in steps if hmac.compare_digest(totp.generate_otp(step), plain)), None)

    def _locked(self, user_id: UUID) -> Authenticator | None:
        """The row, kept from everybody else until the COMMIT."""
        return self.session.scalar(select(Authenticator).where(Authenticator.user_id == user_id).with_for_update())

    def _new_recovery_codes(self, user_id: UUID) -> list[str]:
        self.session.execute(delete(RecoveryCode).where(RecoveryCode.user_id == user_id))
        codes = [_recovery_code() for _ in range(RECOVERY_CODES)]
        self.session.add_all([RecoveryCode(user_id=user_id, code_hash=_hash(code)) for code in codes])
        return codes


def otpauth_uri(secret: str, *, account: str, issuer: str) -> str:
    """What authenticator apps read, as a link or a QR code."""
    return pyotp.TOTP(secret, interval=PERIOD).provisioning_uri(name=account, issuer_name=issuer)


def _enabled(user_id: UUID) -> tuple[ColumnElement[bool], ColumnElement[bool]]:
    return Authenticator.user_id == user_id, Authenticator.confirmed_at.is_not(None)


def _key(keys: SecretKeys) -> bytes:
    return keys.key_for("totp secrets")


def _recovery_code() -> str:
    return "-".join("".join(secrets.choice(ALPHABET) for _ in range(GROUP)) for _ in range(GROUPS))


def _hash(recovery_code: str) -> bytes:
    """Small letters, spaces, dashes, and letters that look like digits make no difference."""
    plain = recovery_code.upper().translate(MISREAD)
    return hash_of(plain)
