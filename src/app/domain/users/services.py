from collections.abc import Set as AbstractSet
from uuid import UUID

import msgspec
from msgspec import UNSET
from sqlalchemy import select
from sqlalchemy.dialects.postgresql import insert
from uuid_utils.compat import uuid7

from app.domain.api_keys.models import ApiKey
from app.domain.api_keys.services import ApiKeyService
from app.domain.sessions.services import SessionService
from app.domain.throttles.services import ThrottleService
from app.domain.totp.errors import TotpRequiredError, WrongCodeError
from app.domain.totp.services import TotpService
from app.domain.users.errors import (
    EmailTakenError,
    InvalidCredentialsError,
    LastAdministratorError,
    WrongPasswordError,
)
from app.domain.users.jobs import send_password_invitation, send_registration_notice, send_welcome_email
from app.domain.users.models import User
from app.domain.users.schemas import AccountUpdate
from app.lib.db.models import utc_now
from app.lib.db.service import Repository, Service
from app.lib.email_address import canonical_email
from app.lib.errors import InvalidInputError, NotFoundError, PermissionDeniedError
from app.lib.jobs.broker import enqueue
from app.lib.passwords import Passwords
from app.lib.secret_keys import SecretKeys


class UserService(Service[User]):
    class Repo(Repository[User]):
        model_type = User

    repository_type = Repo

    def register(self, *, email: str, password_hash: str, first_name: str, last_name: str, phone: str | None) -> None:
        """Make an account unless the address has one: one statement, so that two at once make one account.

        The owner of the address gets a mail, which says which it was. Both ways take the same statements, so that
        the time tells nothing either (ASVS 6.3.8).
        """
        address, new_id = canonical_email(email), uuid7()
        account = insert(User).values(
            id=new_id,
            email=address,
            password_hash=password_hash,
            first_name=first_name,
            last_name=last_name,
            phone=phone,
        )
        self.session.execute(account.on_conflict_do_nothing(index_elements=[User.email]))
        user_id = self.session.scalar(select(User.id).where(User.email == address))
        if user_id == new_id:
            enqueue(self.session, send_welcome_email, user_id=new_id)
        elif user_id:
            self._notify_of_registration(user_id)

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
        user = self.find_by_email(email)
        is_right = passwords.verify(password, user.password_hash if user else None)
        if user is None or not is_right or not user.is_active or (must_be_verified and not user.is_verified):
            throttles.fail(attempt)
            raise InvalidCredentialsError
        try:
            self._ask_second_factor(user, totp, address=address, keys=keys)
        except WrongCodeError as error:
            throttles.fail(attempt)
            raise InvalidCredentialsError from error
        throttles.succeed(attempt)
        if user.password_hash and passwords.needs_rehash(user.password_hash):
            user.password_hash = passwords.hash(password)
        return user

    def verify_password(self, user_id: UUID, password: str, *, passwords: Passwords, field: str = "password") -> User:
        """The user, who has just proved to be it.

        Raises WrongPasswordError, also when they have no password, and TooManyRequestsError after several of those.
        """
        throttles = ThrottleService(self.session)
        attempt = throttles.begin_password(user_id)
        user = self.get_one(User.id == user_id)
        if not passwords.verify(password, user.password_hash):
            throttles.fail(attempt)
            raise WrongPasswordError("This is not your password.", field=field)
        throttles.succeed(attempt)
        return user

    def find_by_email(self, email: str) -> User | None:
        """None also for text that is no address at all."""
        try:
            return self.get_one_or_none(User.email == canonical_email(email))
        except InvalidInputError:
            return None

    def has_administrator(self) -> bool:
        return self.exists(User.is_superuser.is_(True), User.is_active.is_(True))

    def create_administrator(self, *, email: str, password_hash: str) -> User:
        """Raises IntegrityError when the address has an account."""
        return self.create(
            User(
                email=canonical_email(email),
                password_hash=password_hash,
                first_name="Keel",
                last_name="Administrator",
                is_verified=True,
                is_superuser=True,
            )
        )

    def _ask_second_factor(self, user: User, code: str | None, *, address: str, keys: SecretKeys) -> None:
        second_factor = TotpService(self.session)
        if not second_factor.is_enabled(user.id):
            return
        if code is None:
            raise TotpRequiredError
        second_factor.verify(user.id, code, address=address, keys=keys)

    def create_account(self, account: User, *, by: UUID | None = None) -> User:
        """As an administrator does. Without a password, its owner is asked to choose one.

        Raises EmailTakenError, and PermissionDeniedError as below.
        """
        if account.is_superuser:
            _refuse_former_administrator(by, self._lock_administrators())
        account.email = self._free_address(account.email)
        self.create(account)
        if account.password_hash is None:
            self.invite_to_choose_password(account)
        return account

    def update_account(self, user_id: UUID, changes: AccountUpdate, *, by: UUID | None = None) -> User:
        """As an administrator does; `by` is the one who asks. What the account may no longer do ends at once.

        Raises NotFoundError, EmailTakenError, LastAdministratorError, and PermissionDeniedError for somebody who has
        ceased to be an administrator.
        """
        user = self._lock_account(user_id, by=by, removes_administrator=_removes_administrator(changes))
        was_administrator, old_address = user.is_superuser, user.email
        if changes.email is not UNSET and (address := self._free_address(changes.email, user_id)) != user.email:
            user.email, user.is_verified = address, False
        self.apply(user, msgspec.structs.replace(changes, email=UNSET))
        if not user.is_active:
            self.end_access(user_id, reason="deactivated")
        elif was_administrator and not user.is_superuser:
            self.end_access(user_id, reason="demoted")
        elif user.email != old_address:
            self.end_access(user_id, reason="email_changed")
        return user

    def reset_password(self, user_id: UUID, *, by: UUID | None = None) -> None:
        """Take the password away, and all access with it. Raises NotFoundError, PermissionDeniedError."""
        user = self._lock_account(user_id, by=by)
        user.password_hash = None
        self.end_access(user_id, reason="password_reset")
        self.invite_to_choose_password(user)

    def remove_account(self, user_id: UUID, *, by: UUID | None = None) -> None:
        """Raises NotFoundError, LastAdministratorError, PermissionDeniedError."""
        user = self._lock_account(user_id, by=by, removes_administrator=True)
        self.end_access(user_id, reason="deleted")
        self.remove(user)

    def sign_out(self, user_id: UUID) -> None:
        """End every session. Raises NotFoundError."""
        user = self.get_one(User.id == user_id)
        SessionService(self.session).end_all(user.id, reason="signed_out_by_administrator")

    def end_access(self, user_id: UUID, *, reason: str) -> None:
        """End every session and every API key, in all processes at once."""
        SessionService(self.session).end_all(user_id, reason=reason)
        ApiKeyService(self.session).revoke(ApiKey.user_id == user_id)

    def invite_to_choose_password(self, user: User) -> None:
        enqueue(self.session, send_password_invitation, user_id=user.id, asked_at=utc_now())

    def _lock_account(self, user_id: UUID, *, by: UUID | None, removes_administrator: bool = False) -> User:
        """The account, which nobody else can change before this transaction ends, and nobody the administrators.

        They are locked first and in one order, so that two who demote each other wait, and the second finds that it
        is no administrator any more, or the last one.
        """
        administrators = self._lock_administrators()
        user = self.session.scalars(
            select(User).where(User.id == user_id).with_for_update(key_share=True),
            execution_options={"populate_existing": True},
        ).one_or_none()
        if user is None:
            raise NotFoundError
        if removes_administrator and administrators == {user_id}:
            raise LastAdministratorError
        _refuse_former_administrator(by, administrators)
        return user

    def _lock_administrators(self) -> AbstractSet[UUID]:
        active = select(User.id).where(User.is_superuser, User.is_active).order_by(User.id)
        return set(self.session.scalars(active.with_for_update(key_share=True)))

    def _free_address(self, text: str, user_id: UUID | None = None) -> str:
        """Of two at once, the unique index answers the second: 409 as well."""
        address = canonical_email(text)
        if self.exists(User.email == address, User.id != user_id):
            raise EmailTakenError
        return address

    def _notify_of_registration(self, user_id: UUID) -> None:
        """Once a day at most, whoever tries how often."""
        day = utc_now().date()
        key = f"registration-notice:{user_id}:{day}"
        enqueue(self.session, send_registration_notice, key=key, once=True, user_id=user_id, day=day)


def _refuse_former_administrator(by: UUID | None, administrators: AbstractSet[UUID]) -> None:
    """The token of the one who asks was good when the request came. None: an operator at a command line."""
    if by is not None and by not in administrators:
        raise PermissionDeniedError


def _removes_administrator(changes: AccountUpdate) -> bool:
    return changes.is_active is False or changes.is_superuser is False
