from datetime import date, datetime
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.orm import Session

from app.domain.accounts.models import Closure
from app.domain.files.models import File
from app.domain.files.services import FileService
from app.domain.users.models import User
from app.lib.db.service import BATCH
from app.lib.jobs.broker import enqueue
from app.lib.jobs.declaration import job
from app.lib.mail.mailer import Mailer
from app.lib.mail.wording import day_of, time_of


@job(retries=10, retry_delay=30)
def send_address_notice(session: Session, mailer: Mailer, *, user_id: UUID, day: date) -> None:
    """Tell somebody that another account wanted their address, which the other is not told."""
    if user := session.get(User, user_id):
        key, shown = f"{user_id} {day}", day_of(day)
        mailer.send("accounts/address_notice", to=user.email, name=user.known_name, key=key, day=shown)


@job(retries=10, retry_delay=30)
def send_password_notice(session: Session, mailer: Mailer, *, user_id: UUID, changed_at: datetime) -> None:
    """Tell somebody that their password was changed, in case it was not them (ASVS 6.3.7)."""
    if user := session.get(User, user_id):
        key, shown = f"{user_id} {changed_at}", time_of(changed_at)
        mailer.send("accounts/password_changed", to=user.email, name=user.known_name, key=key, changed_at=shown)


@job(retries=10, retry_delay=30)
def send_farewell(session: Session, mailer: Mailer, *, closure_id: UUID) -> None:
    """Tell somebody that their account was deleted."""
    if closure := session.get(Closure, closure_id):
        mailer.send("accounts/farewell", to=closure.email, key=str(closure_id))


@job(retries=10, retry_delay=30)
def remove_closed_account(files: FileService, *, user_id: UUID) -> None:
    """Delete the row of a closed account and all that belongs to it; the blobs of its files go in jobs of their own."""
    rows = files.session.scalars(select(File).where(File.owner_id == user_id).limit(BATCH)).all()
    for row in rows:
        files.remove(row)
    if len(rows) == BATCH:
        enqueue(files.session, remove_closed_account, user_id=user_id)
    elif closure := files.session.scalar(select(Closure).where(Closure.user_id == user_id)):
        files.session.delete(files.session.get_one(User, closure.user_id))
