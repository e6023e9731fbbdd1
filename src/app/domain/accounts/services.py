import hashlib
from datetime import timedelta
from typing import Any
from uuid import UUID

import msgspec
from msgspec import UNSET
from sqlalchemy import select
from uuid_utils.compat import uuid7

from app.domain.access.errors import OutrankedError
from app.domain.access.models import Permission
from app.domain.access.services import AccountAccessService, PolicyService
from app.domain.accounts.jobs import (
    remove_closed_account,
    send_address_notice,
    send_farewell,
    send_password_notice,
)
from app.domain.accounts.models import Closure
from app.domain.accounts.schemas import AccountUpdate
from app.domain.audit.models import Action
from app.domain.audit.services import AuditService, differences
from app.domain.confirmations.models import Purpose
from app.domain.confirmations.services import ConfirmationService
from app.domain.files.services import AvatarService
from app.domain.sessions.services import SessionService
from app.domain.throttles.services import ThrottleService
from app.domain.totp.services import TotpService
from app.domain.users.errors import EmailTakenError, WrongPasswordError
from app.domain.users.models import User
from app.domain.users.services import UserService
from app.lib.access.guards import Principal, refuse_old_sign_in
from app.lib.db.models import utc_now
from app.lib.db.service import Repository, Service
from app.lib.db.unit_of_work import AnySession
from app.lib.email_address import canonical_email
from app.lib.jobs.broker import enqueue
from app.lib.link_tokens import LinkTokens
from app.lib.password_policy import PasswordPolicy
from app.lib.passwords import Passwords
from app.lib.secret_keys import SecretKeys

CLOSED_FOR = timedelta(minutes=5)
"""Beyond the life of the last access token: so long the ended sessions of a closed account must be known."""


class AccountService(Service[User]):
    """How accounts change, at the hands of their owners and of administrators; how they change hands, and go."""

    class Repo(Repository[User]):
        model_type = User

    repository_type = Repo

    def __init__(self, session: AnySession, **options: Any) -> None:
        super().__init__(session, **options)
        self._audit = AuditService(session)
        self._confirmations = ConfirmationService(session)
        self._policies = PolicyService(session)
        self._access = AccountAccessService(session)
        self._sessions = SessionService(session)
        self._users = UserService(session)

    def request_password_reset(self, email: str) -> None:
        user = self.lock(User.email == canonical_email(email))
        recipient = user if user and user.is_active else None
        self._audit.record(Action.PASSWORD_RESET_REQUESTED, subject=recipient)
        self._confirmations.send(self._confirmations.issue(Purpose.PASSWORD_RESET, recipient))

    def reset_password(
        self,
        token: str,
        password: str,
        *,
        link_tokens: LinkTokens,
        policy: PasswordPolicy,
        passwords: Passwords,
        keys: SecretKeys,
        address: str,
    ) -> User:
        """Raises InvalidTokenError; InvalidInputError, and then the link still works. The mailbox is proved by it.

        Failures to sign in are forgotten, and strangers block nobody in the network of `address`, where it came from.
        """
        _, user = self._confirmations.claim(token, Purpose.PASSWORD_RESET, link_tokens)
        _check(policy, password, user)
        self._audit.record(Action.PASSWORD_RESET, subject=user, actor_id=user.id)
        was_verified, user.is_verified = user.is_verified, True
        self._set_password(user, passwords.hash(password))
        if was_verified:
            self._users.shut_out(user.id, reason="password_changed")
        else:
            self._users.hand_over(user.id, reason="password_reset")
        self._confirmations.void(user.id)
        ThrottleService(self.session).forget(user, keys=keys, address=address)
        return user

    def change_password(
        self, me: Principal, *, current: str | None, new: str, policy: PasswordPolicy, passwords: Passwords
    ) -> None:
        """Ends my other sessions. Raises WrongPasswordError, ReauthenticationRequiredError, InvalidInputError."""
        user = self._prove(me, current, passwords=passwords, field="current_password")
        _check(policy, new, user)
        self._audit.record(Action.PASSWORD_CHANGED, subject=user)
        self._set_password(user, passwords.hash(new))
        self._sessions.end_all(user.id, but=me.session_id, reason="password_changed")
        self._confirmations.void(user.id, Purpose.PASSWORD_RESET, Purpose.EMAIL_CHANGE)

    def request_email_change(self, me: Principal, email: str, *, password: str | None, passwords: Passwords) -> None:
        """Send a link to the new address; the old one is the account's until it is used.

        If it is another account's, its owner is told, and I am not. Raises WrongPasswordError,
        ReauthenticationRequiredError, InvalidInputError.
        """
        address = canonical_email(email)
        user = self._prove(me, password, passwords=passwords, field="password")
        self._audit.record(Action.EMAIL_CHANGE_REQUESTED, subject=user, changes={"email": [user.email, address]})
        owner_id = self.session.scalar(select(User.id).where(User.email == address))
        link = self._confirmations.issue(Purpose.EMAIL_CHANGE, None if owner_id else user, email=address)
        if owner_id and owner_id != me.id:
            day = utc_now().date()  # once a day at most, whoever tries how often
            key = f"address-notice:{owner_id}:{day}"
            enqueue(self.session, send_address_notice, key=key, once=True, user_id=owner_id, day=day)
        else:
            self._confirmations.send(link)

    def change_email(self, token: str, link_tokens: LinkTokens) -> User:
        """Raises InvalidTokenError; EmailTakenError. Sessions go on: whoever asked has just repeated the password."""
        confirmation, user = self._confirmations.claim(token, Purpose.EMAIL_CHANGE, link_tokens)
        old, was_verified = user.email, user.is_verified
        self._move(user, confirmation.email, Action.EMAIL_CHANGED)
        self._confirmations.void(user.id)
        if was_verified:  # whoever owns an address that was never proved has lost nothing, and nothing to undo
            undo = self._confirmations.issue(Purpose.EMAIL_UNDO, user, email=old, is_beside=True)
            self._confirmations.send(undo)
        return user

    def undo_email_change(self, token: str, link_tokens: LinkTokens) -> User:
        """Give the account back to its earlier address, and to nobody else: its password and sessions end, and a link
        for a new password goes there. Raises InvalidTokenError; EmailTakenError."""
        undo, user = self._confirmations.claim(token, Purpose.EMAIL_UNDO, link_tokens)
        self._move(user, undo.email, Action.EMAIL_CHANGE_UNDONE)
        user.password_hash = None
        self._users.hand_over(user.id, reason="email_change_undone")
        self._confirmations.void_for_undo(undo)
        self._invite(user)
        return user

    def leave(self, me: Principal, *, token_lifetime: timedelta) -> None:
        """Delete my account. Raises LastAdministratorError."""
        self._audit.record(Action.USER_DELETED, subject=("user", me.id))
        self._policies.lock_changes()
        user = self._access.lock_account(me.id, by=None, removes_administrator=True)
        self._sessions.refuse_ended(me.session_id)
        self._close(user, token_lifetime=token_lifetime)

    def create_account(self, account: User, *, by: Principal | None = None) -> User:
        """As an administrator does; `by` is the one who asks. Without a password, its owner is asked to choose one.

        Raises EmailTakenError; PermissionDeniedError for somebody who may not, or not any more; OutrankedError.
        """
        authority = self._access.authority_to_create(by)
        if account.is_superuser and not authority.is_unlimited:
            raise OutrankedError
        if account.password_hash and not authority.is_unlimited:  # it would still be theirs when the account may more
            raise OutrankedError(
                "Only superusers choose somebody else's password. Leave it out: they are asked by mail."
            )
        account.email = canonical_email(account.email)
        self._refuse_taken(account.email)
        self._users.create_account(account)
        authority.check(Permission.USERS_CREATE, account)
        if account.password_hash is None:
            self._invite(account)
        return account

    def update_account(self, user_id: UUID, changes: AccountUpdate, *, by: Principal | None = None) -> User:
        """As an administrator does. What the account may no longer do ends at once; at a new address, everything does,
        and a link for a password goes there.

        Raises NotFoundError, EmailTakenError, LastAdministratorError, PermissionDeniedError.
        """
        is_removal = changes.is_active is False or changes.is_superuser is False
        makes_administrator = changes.is_superuser is True
        user = self._access.lock_account(
            user_id, by=by, removes_administrator=is_removal, makes_administrator=makes_administrator
        )
        was_administrator, old_address = user.is_superuser, user.email
        address = old_address if changes.email is UNSET else canonical_email(changes.email)
        changed = differences(user, msgspec.structs.replace(changes, email=address))
        self._users.record_changes(user, changed)
        if not changed:
            self._audit.record(Action.USER_READ, subject=user)  # for the answer shows it
        if address != old_address:
            self._refuse_taken(address, user_id=user_id)
            user.email, user.is_verified = address, False
            self._confirmations.void_everything(user_id)
        self.apply(user, msgspec.structs.replace(changes, email=UNSET))
        if not user.is_active:
            self._users.end_access(user_id, reason="deactivated")
        elif was_administrator and not user.is_superuser:
            self._users.end_access(user_id, reason="demoted")
        if user.email != old_address:  # otherwise one could move an account to oneself, and back with a password
            user.password_hash = None
            self._users.hand_over(user_id, reason="email_changed")
            self._invite(user)
        return user

    def take_password(self, user_id: UUID, *, by: Principal | None = None, replacement: str | None = None) -> None:
        """With all access. A link for another one is sent, unless its hash is given, as operators do, who hand it over.
        Raises NotFoundError, PermissionDeniedError."""
        action = Action.PASSWORD_RESET if replacement else Action.PASSWORD_REMOVED
        self._audit.record(action, subject=("user", user_id))
        user = self._access.lock_account(user_id, by=by)
        user.password_hash = None
        self._users.shut_out(user_id, reason="password_reset")
        self._confirmations.void(user_id)
        if replacement:
            self._set_password(user, replacement)
        else:
            self._invite(user)

    def take_second_factor(self, user_id: UUID, *, by: Principal) -> None:
        """Raises NotFoundError, also when there is none; PermissionDeniedError."""
        user = self._access.lock_account(user_id, by=by)
        TotpService(self.session).disable(user.id)

    def remove_account(self, user_id: UUID, *, by: Principal | None, token_lifetime: timedelta) -> None:
        """Raises NotFoundError, LastAdministratorError, PermissionDeniedError."""
        self._audit.record(Action.USER_DELETED, subject=("user", user_id))
        self._policies.lock_changes()
        user = self._access.lock_account(user_id, by=by, permission=Permission.USERS_DELETE, removes_administrator=True)
        self._close(user, token_lifetime=token_lifetime)

    def sign_out(self, user_id: UUID, *, by: Principal) -> None:
        """End every session. Raises NotFoundError, PermissionDeniedError."""
        user = self._access.lock_account(user_id, by=by)
        self._sessions.end_all(user.id, reason="signed_out_by_administrator")

    def _close(self, user: User, *, token_lifetime: timedelta) -> None:
        """What it says of a person is gone at once, and the address is free. The empty row, with its ended sessions,
        stays until no access token can be left: a process that starts meanwhile must know that they have ended.
        """
        closure = Closure(id=uuid7(), user_id=user.id, email=user.email)
        key = None if user.is_verified else _farewell_key(user.email)
        self.session.add(closure)
        AvatarService(self.session).remove_of(user.id)
        self._confirmations.void_everything(user.id)
        user.email, user.password_hash = f"{user.id}@deleted.invalid", None
        user.first_name = user.last_name = ""
        user.phone = user.avatar_url = None
        user.is_active = user.is_verified = user.is_superuser = False
        self.session.flush()
        self._users.hand_over(user.id, reason="account_deleted")
        self._policies.forget(user.id)
        enqueue(self.session, send_farewell, key=key, once=True, closure_id=closure.id)
        enqueue(self.session, remove_closed_account, after=token_lifetime + CLOSED_FOR, user_id=user.id)

    def _invite(self, user: User) -> None:
        """To choose a password, whoever has none."""
        self.session.flush()
        self._confirmations.send(self._confirmations.issue(Purpose.PASSWORD_RESET, user, is_beside=True))

    def _prove(self, me: Principal, password: str | None, *, passwords: Passwords, field: str) -> User:
        """By the password, or, for those who have none, by having signed in a moment ago."""
        user = self._sessions.lock_user(me)
        if user.password_hash is None:
            refuse_old_sign_in(me)
            return user
        if password is None:
            raise WrongPasswordError("Repeat your password.", field=field)
        return self._users.verify_password(me.id, password, passwords=passwords, field=field)

    def _set_password(self, user: User, password_hash: str) -> None:
        """And tell the owner. The caller ends the sessions that somebody with the old one may have (ASVS 7.4.3)."""
        user.password_hash = password_hash
        key = user.notice_key("password-notice")
        enqueue(self.session, send_password_notice, key=key, once=True, user_id=user.id, changed_at=utc_now())

    def _move(self, user: User, email: str, action: Action) -> None:
        self._audit.record(action, subject=user, changes={"email": [user.email, email]}, actor_id=user.id)
        self._refuse_taken(email, user_id=user.id)
        user.email, user.is_verified = email, True
        self.session.flush()

    def _refuse_taken(self, address: str, *, user_id: UUID | None = None) -> None:
        """Of two at once, the unique index answers the second: 409 as well."""
        if self.exists(User.email == address, User.id != user_id):
            raise EmailTakenError


def _farewell_key(email: str) -> str:
    """Once a day to an address that nobody proved, however often somebody registers with it and leaves."""
    return f"farewell:{hashlib.sha256(email.encode()).hexdigest()}:{utc_now().date()}"


def _check(policy: PasswordPolicy, password: str, user: User) -> None:
    policy.check(password, email=user.email, names=(user.first_name, user.last_name))
