import hashlib
from datetime import timedelta
from typing import Any, NamedTuple
from uuid import UUID, uuid4

from sqlalchemy import ColumnElement, func, insert, literal, or_, select, update
from sqlalchemy.dialects.postgresql import JSONB
from uuid_utils.compat import uuid7

from app.domain.confirmations.jobs import send_confirmation
from app.domain.confirmations.models import Confirmation, Purpose
from app.domain.users.models import User
from app.lib.db.models import utc_now
from app.lib.db.service import Repository, Service
from app.lib.jobs.broker import enqueue
from app.lib.link_tokens import InvalidTokenError, LinkTokens

LIFETIMES = {
    Purpose.VERIFICATION: timedelta(hours=24),
    Purpose.PASSWORD_RESET: timedelta(minutes=60),
    Purpose.EMAIL_CHANGE: timedelta(hours=24),
    Purpose.EMAIL_UNDO: timedelta(days=7),
}
PAUSE = timedelta(minutes=2)
"""Between two mails to one address for one purpose and account, however often somebody asks."""
MAILS_A_DAY = 10


class Registrations(NamedTuple):
    """How many can still be confirmed, and how many there were in a day."""

    open: int
    today: int


class ConfirmationService(Service[Confirmation]):
    """Whoever issues or claims holds the lock on the user's row first: that is the order of locks."""

    class Repo(Repository[Confirmation]):
        model_type = Confirmation

    repository_type = Repo

    def issue(
        self,
        purpose: Purpose,
        user: User | None,
        *,
        email: str | None = None,
        registration: dict[str, Any] | None = None,
        is_beside: bool = False,
    ) -> UUID:
        """Make one, for the user's address or another. Returns its id, for `send`.

        The older ones of its purpose expire. There are at most MAILS_A_DAY of them for one account, and to one address
        whoever asks; those of one account to one address are PAUSE apart.
        `is_beside` leaves the older ones alone and is not limited. For nobody (None), or one too many, there is none,
        but that takes the same statements, so that the time tells nothing (ASVS 6.3.8).
        """
        confirmation_id, nobody = uuid7(), uuid4()
        user_id = user.id if user else nobody
        address = email or (user.email if user else "")
        if self._has_had_enough(user_id, purpose, address) and not is_beside:
            user_id = nobody
        self._expire(Confirmation.user_id == (nobody if is_beside else user_id), Confirmation.purpose == purpose)
        now = utc_now()
        made: dict[Any, Any] = {
            Confirmation.id: literal(confirmation_id),
            Confirmation.user_id: User.id,
            Confirmation.purpose: literal(purpose.value),
            Confirmation.email: literal(address),
            Confirmation.bound_to: literal(_state_of(user, purpose) if user else b""),
            Confirmation.registration: literal(registration, JSONB(none_as_null=True)),
            Confirmation.expires_at: literal(now + LIFETIMES[purpose]),
            Confirmation.created_at: literal(now),
            Confirmation.updated_at: literal(now),
        }
        rows = select(*made.values()).where(User.id == user_id)
        self.session.execute(insert(Confirmation).from_select([column.key for column in made], rows))
        return confirmation_id

    def send(self, confirmation_id: UUID, *, key: str | None = None) -> None:
        """Once it is committed. With a `key`, once a day at least."""
        enqueue(self.session, send_confirmation, key=key, once=True, confirmation_id=confirmation_id)

    def claim(self, token: str, purpose: Purpose, link_tokens: LinkTokens) -> tuple[Confirmation, User]:
        """Use it up. Returns it with its user, whose row is locked; of many claims at once, one gets them.

        Raises InvalidTokenError when it is not open, the account is not active, or what it was bound to has changed.
        """
        confirmation_id = link_tokens.read(token, purpose=purpose)
        owner = select(User).join(Confirmation, Confirmation.user_id == User.id)
        user = self.session.scalars(
            owner.where(Confirmation.id == confirmation_id).with_for_update(key_share=True, of=User),
            execution_options={"populate_existing": True},
        ).one_or_none()
        row = self.session.scalars(
            update(Confirmation)
            .where(Confirmation.id == confirmation_id, Confirmation.purpose == purpose, Confirmation.is_open())
            .values(used_at=utc_now())
            .returning(Confirmation)
        ).one_or_none()
        if user is None or row is None or not user.is_active or row.bound_to != _state_of(user, purpose):
            raise InvalidTokenError
        return row, user

    def void(self, user_id: UUID, *purposes: Purpose) -> None:
        """Let those that are open expire; without purposes, all but those that undo a change of the address: whoever
        has taken an account over can ask for a new password, and must not get rid of its owner's way back by that."""
        of_kind = Confirmation.purpose.in_(purposes) if purposes else Confirmation.purpose != Purpose.EMAIL_UNDO
        self._expire(Confirmation.user_id == user_id, of_kind)

    def void_for_undo(self, undo: Confirmation) -> None:
        """The same, and those that undo later changes. The earlier owner comes first."""
        is_later = Confirmation.created_at >= undo.created_at
        self._expire(Confirmation.user_id == undo.user_id, or_(Confirmation.purpose != Purpose.EMAIL_UNDO, is_later))

    def void_everything(self, user_id: UUID) -> None:
        self._expire(Confirmation.user_id == user_id)

    def registrations(self, user_id: UUID) -> Registrations:
        """Those that want to make something else of this unverified account."""
        is_of_today = Confirmation.created_at > utc_now() - timedelta(days=1)
        counts = select(func.count().filter(Confirmation.is_open()), func.count().filter(is_of_today))
        ours = Confirmation.user_id == user_id, Confirmation.registration.is_not(None)
        return Registrations(*self.session.execute(counts.where(*ours)).one())

    def open_undo_of(self, email: str) -> UUID | None:
        """While there is one, the address stays reserved: somebody may want it back."""
        undo = Confirmation.purpose == Purpose.EMAIL_UNDO, Confirmation.email == email
        return self.session.scalar(select(Confirmation.id).where(*undo, Confirmation.is_open()).limit(1))

    def _has_had_enough(self, user_id: UUID, purpose: Purpose, email: str) -> bool:
        now = utc_now()
        is_its_own, is_there = Confirmation.user_id == user_id, Confirmation.email == email
        is_of_today = Confirmation.created_at > now - timedelta(days=1)
        of_late = func.count().filter(is_its_own, is_there, Confirmation.created_at > now - PAUSE)
        by_account, by_address = (func.count().filter(which, is_of_today) for which in (is_its_own, is_there))
        counts = select(of_late, by_account, by_address)
        row = self.session.execute(counts.where(or_(is_its_own, is_there), Confirmation.purpose == purpose)).one()
        return bool(row[0] or max(row[1], row[2]) >= MAILS_A_DAY)

    def _expire(self, *which: ColumnElement[bool]) -> None:
        self.session.execute(
            update(Confirmation).where(*which, Confirmation.is_open()).values(expires_at=func.clock_timestamp()),
            execution_options={"synchronize_session": False},
        )


def _state_of(user: User, purpose: Purpose) -> bytes:
    """What must not have changed. The undo of a change of the address outlives further changes."""
    bound = [purpose.value]
    if purpose is not Purpose.EMAIL_UNDO:
        bound.append(user.email)
    if purpose is Purpose.PASSWORD_RESET:
        bound.append(user.password_hash or "")
    return hashlib.sha256("\n".join(bound).encode()).digest()
