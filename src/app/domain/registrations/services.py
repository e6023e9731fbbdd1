from typing import Any
from uuid import UUID

import msgspec
from msgspec import Struct
from sqlalchemy.dialects.postgresql import insert
from uuid_utils.compat import uuid7

from app.domain.audit.models import Action, Outcome
from app.domain.audit.services import AuditService
from app.domain.confirmations.models import Purpose
from app.domain.confirmations.services import ConfirmationService
from app.domain.files.services import AvatarService
from app.domain.registrations.errors import AddressReservedError
from app.domain.registrations.jobs import send_registration_notice
from app.domain.users.models import User
from app.domain.users.services import UserService
from app.lib.db.models import utc_now
from app.lib.db.service import Repository, Service
from app.lib.db.unit_of_work import AnySession
from app.lib.email_address import canonical_email
from app.lib.jobs.broker import enqueue
from app.lib.link_tokens import InvalidTokenError, LinkTokens

REGISTRATIONS_A_DAY = 5
"""Of one unverified account, beside the first. Whoever owns the mailbox gets a link for a new password after that."""


class Registration(Struct, frozen=True):
    """What somebody who registers wants the account to be. Kept in `Confirmation.registration` until it is proved."""

    password_hash: str
    first_name: str
    last_name: str
    phone: str | None


class RegistrationService(Service[User]):
    """How accounts come, and whose they are when several people want the same address."""

    class Repo(Repository[User]):
        model_type = User

    repository_type = Repo

    def __init__(self, session: AnySession, **options: Any) -> None:
        super().__init__(session, **options)
        self._audit = AuditService(session)
        self._confirmations = ConfirmationService(session)
        self._users = UserService(session)

    def register(self, email: str, registration: Registration) -> None:
        """Make an account unless the address has one: one statement, so that two at once make one account.

        The owner of the address gets a mail, which says what it was. All ways take as many statements, so that the
        time tells nothing either (ASVS 6.3.8).
        """
        address, new_id = canonical_email(email), uuid7()
        account = insert(User).values(id=new_id, email=address, **msgspec.structs.asdict(registration))
        self.session.execute(account.on_conflict_do_nothing(index_elements=[User.email]))
        user = self._users.lock(User.email == address)
        undo_id = self._confirmations.open_undo_of(address)
        others = self._confirmations.registrations(user.id if user else new_id)
        is_new = user is not None and user.id == new_id and undo_id is None
        outcome = Outcome.SUCCESS if is_new else Outcome.FAILURE
        self._audit.record(Action.USER_REGISTERED, subject=user, outcome=outcome)
        if user is None or (user.id == new_id and undo_id):
            self._keep_reserved(user, undo_id)
        elif user.id == new_id:
            self._confirmations.send(self._confirmations.issue(Purpose.VERIFICATION, user))
        elif user.is_verified or not user.is_active:
            self._confirmations.issue(Purpose.VERIFICATION, None)
            self._notify_owner(user)
        elif others.today >= REGISTRATIONS_A_DAY:
            self._confirmations.send(self._confirmations.issue(Purpose.PASSWORD_RESET, user))
        else:
            wanted = msgspec.structs.asdict(registration)
            link = self._confirmations.issue(Purpose.VERIFICATION, user, registration=wanted, is_beside=True)
            self._confirmations.send(link)

    def register_verified(self, *, email: str, first_name: str, last_name: str) -> bool:
        """Make an account without a password for an address that somebody has proved; False when it has one.

        Raises AddressReservedError while an account that had the address can still be taken back to it.
        """
        account = insert(User).values(
            id=uuid7(), email=email, first_name=first_name, last_name=last_name, is_verified=True
        )
        made = account.on_conflict_do_nothing(index_elements=[User.email]).returning(User.id)
        new_id = self.session.scalar(made)
        if new_id and (undo_id := self._confirmations.open_undo_of(email)):
            self._keep_reserved(self._users.lock(User.id == new_id), undo_id)
            raise AddressReservedError
        if new_id:
            self._audit.record(Action.USER_REGISTERED, subject=("user", new_id), actor_id=new_id)
        return new_id is not None

    def reclaim(self, user: User, *, first_name: str, last_name: str) -> None:
        """Give an account that was made with an unproved address to the one who has proved it now.

        Whatever the one who made it typed or holds ends: password, sessions, API keys, second factor, name, telephone
        number (SECURITY 47).
        """
        self._audit.record(Action.USER_RECLAIMED, subject=user, actor_id=user.id)
        user.password_hash, user.phone = None, None
        user.first_name, user.last_name = first_name, last_name
        user.is_verified = True
        self.session.flush()
        self._users.hand_over(user.id, reason="reclaimed")
        AvatarService(self.session).remove_of(user.id)
        self._confirmations.void_everything(user.id)

    def request_verification(self, email: str) -> None:
        """Send a new link. While several registrations want the account, it is one for a new password, which proves
        the mailbox and belongs to none of them."""
        user = self._users.lock(User.email == canonical_email(email))
        others = self._confirmations.registrations(user.id if user else uuid7())
        recipient = user if user and user.is_active and not user.is_verified else None
        purpose = Purpose.PASSWORD_RESET if others.open else Purpose.VERIFICATION
        self._audit.record(Action.VERIFICATION_REQUESTED, subject=recipient)
        self._confirmations.send(self._confirmations.issue(purpose, recipient))

    def verify(self, token: str, link_tokens: LinkTokens) -> User:
        """Raises InvalidTokenError. Of several registrations, the one whose link this is becomes the account."""
        confirmation, user = self._confirmations.claim(token, Purpose.VERIFICATION, link_tokens)
        others = self._confirmations.registrations(user.id)
        if confirmation.registration:
            if user.is_verified:  # meanwhile, in another way: it is nobody else's to take any more
                raise InvalidTokenError
            wanted = msgspec.convert(confirmation.registration, Registration)
            for name, value in msgspec.structs.asdict(wanted).items():
                setattr(user, name, value)
        self._audit.record(Action.EMAIL_VERIFIED, subject=user, actor_id=user.id)
        if confirmation.registration or others.open:
            self._users.hand_over(user.id, reason="registered_again")
        user.is_verified = True
        self._confirmations.void(user.id)
        return user

    def _keep_reserved(self, made: User | None, undo_id: UUID | None) -> None:
        """The address was another account's until lately. Its owner gets the link that undoes it once more."""
        if made:
            self.session.delete(made)
            self.session.flush()
        if undo_id:
            self._confirmations.send(undo_id, key=f"reserved:{undo_id}:{utc_now().date()}")

    def _notify_owner(self, user: User) -> None:
        """Once a day at most, whoever tries how often."""
        day = utc_now().date()
        key = f"registration-notice:{user.id}:{day}"
        enqueue(self.session, send_registration_notice, key=key, once=True, user_id=user.id, day=day)
