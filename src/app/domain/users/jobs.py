from datetime import date, datetime, timedelta
from uuid import UUID

from sqlalchemy.orm import Session

from app.domain.users.models import User
from app.lib.db.models import utc_now
from app.lib.db.service import BATCH, remove_batch
from app.lib.jobs.broker import enqueue
from app.lib.jobs.declaration import job
from app.lib.mail.mailer import Mailer
from app.lib.settings import Settings

KEEP_UNVERIFIED = timedelta(days=7)


@job(retries=10, retry_delay=30)
def send_welcome_email(session: Session, mailer: Mailer, *, user_id: UUID) -> None:
    """Greet somebody whose address is new here."""
    if user := session.get(User, user_id):
        mailer.send("users/welcome", to=user.email, name=_known_name(user), key=str(user_id))


@job(retries=10, retry_delay=30)
def send_registration_notice(session: Session, mailer: Mailer, *, user_id: UUID, day: date) -> None:
    """Tell somebody who has an account that their address was used to register, which the one who did is not told."""
    if user := session.get(User, user_id):
        shown = f"{day.day} {day:%B %Y}"
        mailer.send(
            "users/registration_notice", to=user.email, name=_known_name(user), key=f"{user_id} {day}", day=shown
        )


@job(retries=10, retry_delay=30)
def send_password_invitation(session: Session, mailer: Mailer, *, user_id: UUID, asked_at: datetime) -> None:
    """Tell somebody without a password how to choose one."""
    if user := session.get(User, user_id):
        mailer.send("users/password_invitation", to=user.email, name=_known_name(user), key=f"{user_id} {asked_at}")


@job(cron="37 * * * *")
def remove_unverified_accounts(session: Session, settings: Settings) -> None:
    """Delete accounts that nobody has verified or used, a batch at a time.

    Only where signing in needs a verified address: elsewhere they are accounts like others.
    """
    abandoned = (
        User.is_verified.is_(False),
        User.is_superuser.is_(False),
        User.last_login.is_(None),
        User.created_at < utc_now() - KEEP_UNVERIFIED,
    )
    if settings.require_verified_email and remove_batch(session, User, *abandoned) == BATCH:
        enqueue(session, remove_unverified_accounts)


def _known_name(user: User) -> str:
    return user.known_name
