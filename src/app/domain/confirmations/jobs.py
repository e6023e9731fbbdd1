from datetime import timedelta
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.orm import Session

from app.domain.confirmations.models import Confirmation
from app.domain.users.models import User
from app.lib.db.models import utc_now
from app.lib.db.service import BATCH, remove_batch
from app.lib.jobs.broker import enqueue
from app.lib.jobs.declaration import job
from app.lib.link_tokens import LinkTokens
from app.lib.mail.mailer import Mailer
from app.lib.mail.wording import time_of

KEEP_EXPIRED = timedelta(days=1)
"""So long they are counted against the limit of mails in a day."""


@job(retries=10, retry_delay=30)
def send_confirmation(session: Session, mailer: Mailer, link_tokens: LinkTokens, *, confirmation_id: UUID) -> None:
    """Send the link, unless it would not work any more. An id of nothing is asked for when there is nobody to tell."""
    row = session.scalar(select(Confirmation).where(Confirmation.id == confirmation_id, Confirmation.is_open()))
    if row is None:
        return
    user = session.get_one(User, row.user_id)
    token = link_tokens.issue(row.id, purpose=row.purpose)
    mailer.send(
        f"confirmations/{row.purpose}",
        to=row.email,
        name=user.known_name if row.email == user.email else "",
        key=str(row.id),
        path=f"/confirm/{row.purpose}#token={token}",
        requested_at=time_of(row.created_at),
        valid_until=time_of(row.expires_at),
        is_known=row.registration is not None,
        has_password=user.password_hash is not None,
    )


@job(cron="52 * * * *")
def remove_expired_confirmations(session: Session) -> None:
    """Delete what can no longer be used and is no longer counted, a batch at a time."""
    if remove_batch(session, Confirmation, Confirmation.expires_at < utc_now() - KEEP_EXPIRED) == BATCH:
        enqueue(session, remove_expired_confirmations)
