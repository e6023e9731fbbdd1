from uuid import UUID

from msgspec import Struct
from sqlalchemy import delete

from app.domain.api_keys.models import ApiKey
from app.domain.api_keys.services import ApiKeyService
from app.domain.audit.models import Action, Outcome
from app.domain.audit.services import AuditService, differences
from app.domain.identities.models import Identity
from app.domain.sessions.services import SessionService
from app.domain.throttles.services import ThrottleService
from app.domain.totp.errors import TotpRequiredError, WrongCodeError
from app.domain.totp.services import TotpService
from app.domain.users.errors import InvalidCredentialsError, WrongPasswordError
from app.domain.users.models import User
from app.lib.db.service import Repository, Service
from app.lib.email_address import canonical_email
from app.lib.errors import InvalidInputError
from app.lib.passwords import Passwords
from app.lib.secret_keys import SecretKeys

CHANGES = {
    "email": Action.EMAIL_CHANGED,
    "is_active": Action.USER_ACTIVATION_CHANGED,
    "is_superuser": Action.USER_ADMINISTRATOR_CHANGED,
}
"""What the change of a field is called in the audit log."""


class UserService(Service[User]):
    """Whether somebody is who they say, and what ends when they no longer are."""

    class Repo(Repository[User]):
        model_type = User

    repository_type = Repo

    def authenticate(
        self,
        *,
        email: str,
        password: str,
        totp: str | None,
        address: str,
        passwords: Passwords,
        keys: SecretKeys,
        must_be_verified: bool,
    ) -> User:
        """The user with this password and, where they have a second factor, this code of it.

        Raises InvalidCredentialsError, in the same time, whatever is wrong; TotpRequiredError when all but the code
        is right and there is none; TooManyRequestsError after several failures, whether there is an account or not.
        """
        throttles = ThrottleService(self.session)
        attempt = throttles.begin_sign_in(email=email, address=address, keys=keys)
        found = self.find_by_email(email)
        user = self._with_password(found, password, passwords, must_be_verified=must_be_verified)
        if user is None:
            self._record_failure(Action.SESSION_CREATED, found.id if found else None, reason="invalid_credentials")
            throttles.fail(attempt)
            raise InvalidCredentialsError
        try:
            self.ask_second_factor(user, totp, address=address, keys=keys)
        except WrongCodeError as error:
            throttles.fail(attempt)
            raise InvalidCredentialsError from error
        throttles.succeed(attempt)
        if user.password_hash and passwords.needs_rehash(user.password_hash):
            user.password_hash = passwords.hash(password)
        return user

    def ask_second_factor(self, user: User, code: str | None, *, address: str, keys: SecretKeys) -> None:
        """Nothing, where there is none. Raises TotpRequiredError, WrongCodeError and TooManyRequestsError."""
        if not TotpService(self.session).is_enabled(user.id):
            return
        if code is None:
            self._record_failure(Action.SESSION_CREATED, user.id, reason="totp_required")
            raise TotpRequiredError
        self._verify_code(user.id, code, Action.SESSION_CREATED, address=address, keys=keys)

    def verify_password(self, user_id: UUID, password: str, *, passwords: Passwords, field: str = "password") -> User:
        """The user, who has just proved to be it.

        Raises WrongPasswordError, also when they have no password, and TooManyRequestsError after several of those.
        """
        throttles = ThrottleService(self.session)
        attempt = throttles.begin_password(user_id)
        user = self.get_one(User.id == user_id)
        if not passwords.verify(password, user.password_hash):
            self._record_failure(Action.SESSION_REAUTHENTICATED, user_id, reason="wrong_password")
            throttles.fail(attempt)
            raise WrongPasswordError("This is not your password.", field=field)
        throttles.succeed(attempt)
        return user

    def prove(
        self,
        user_id: UUID,
        password: str | None,
        totp: str | None,
        *,
        address: str,
        passwords: Passwords,
        keys: SecretKeys,
    ) -> User:
        """The user, who has just proved anew to be it, by a code of the app or, where there is none, the password.

        Raises InvalidInputError without either, and as `verify_password` and `TotpService.verify`.
        """
        if totp is not None:
            self._verify_code(user_id, totp, Action.SESSION_REAUTHENTICATED, address=address, keys=keys)
        elif TotpService(self.session).is_enabled(user_id):
            raise InvalidInputError(TotpRequiredError.detail, field="totp")
        elif password is None:
            raise InvalidInputError("Send the password, or a code of the authenticator app.", field="password")
        if password is not None:
            self.verify_password(user_id, password, passwords=passwords)
        return self.get_one(User.id == user_id)

    def find_by_email(self, email: str) -> User | None:
        """None also for text that is no address at all."""
        try:
            return self.get_one_or_none(User.email == canonical_email(email))
        except InvalidInputError:
            return None

    def change(self, user: User, changes: Struct) -> User:
        """As `apply`, and it is recorded."""
        self.record_changes(user, differences(user, changes))
        return self.apply(user, changes)

    def record_changes(self, user: User, changed: dict[str, list[object]]) -> None:
        """Each kind of change by its own name, before it is done."""
        audit = AuditService(self.session)
        for name in [name for name in CHANGES if name in changed]:
            audit.record(CHANGES[name], subject=user, changes={name: changed[name]})
        if rest := {name: values for name, values in changed.items() if name not in CHANGES}:
            audit.record(Action.USER_UPDATED, subject=user, changes=rest)

    def end_access(self, user_id: UUID, *, reason: str) -> None:
        """End every session and every API key, in all processes at once. Change the account before."""
        SessionService(self.session).end_all(user_id, reason=reason)
        ApiKeyService(self.session).revoke(ApiKey.user_id == user_id)

    def shut_out(self, user_id: UUID, *, reason: str) -> None:
        """As `end_access`, and no provider signs anybody in any more. The second factor stays."""
        self.end_access(user_id, reason=reason)
        self.session.execute(delete(Identity).where(Identity.user_id == user_id))

    def hand_over(self, user_id: UUID, *, reason: str) -> None:
        """Whatever lets anybody in, but the password: the account belongs to the owner of its mailbox from now on."""
        self.shut_out(user_id, reason=reason)
        TotpService(self.session).remove_of(user_id)

    def has_administrator(self) -> bool:
        return self.exists(User.is_superuser.is_(True), User.is_active.is_(True))

    def create_administrator(self, *, email: str, password_hash: str) -> User:
        """Raises IntegrityError when the address has an account."""
        return self.create_account(
            User(
                email=canonical_email(email),
                password_hash=password_hash,
                first_name="Keel",
                last_name="Administrator",
                is_verified=True,
                is_superuser=True,
            )
        )

    def create_account(self, account: User) -> User:
        """As an administrator does. Raises IntegrityError when the address has one."""
        self.create(account)
        fields = {name: [None, getattr(account, name)] for name in ("email", "is_verified", "is_superuser")}
        AuditService(self.session).record(Action.USER_CREATED, subject=account, changes=fields)
        return account

    def _record_failure(self, action: Action, user_id: UUID | None, *, reason: str) -> None:
        """Of what was typed, nothing: people type their password where their address belongs."""
        subject = ("user", user_id) if user_id else None
        AuditService(self.session).record(action, subject=subject, outcome=Outcome.FAILURE, details={"reason": reason})

    def _verify_code(self, user_id: UUID, code: str, action: Action, *, address: str, keys: SecretKeys) -> None:
        try:
            TotpService(self.session).verify(user_id, code, address=address, keys=keys)
        except WrongCodeError:
            self._record_failure(action, user_id, reason="wrong_code")
            raise

    def _with_password(
        self, found: User | None, password: str, passwords: Passwords, *, must_be_verified: bool
    ) -> User | None:
        """Locked, and looked at again: the password may have been reset, and all sessions ended, while we hashed."""
        seen = found.password_hash if found else None
        if (
            not passwords.verify(password, seen)
            or found is None
            or not _may_sign_in(found, must_be_verified=must_be_verified)
        ):
            return None
        user = self.lock(User.id == found.id, User.password_hash == seen)
        return user if user and _may_sign_in(user, must_be_verified=must_be_verified) else None


def _may_sign_in(user: User, *, must_be_verified: bool) -> bool:
    return user.is_active and (user.is_verified or not must_be_verified)
