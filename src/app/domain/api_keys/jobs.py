from datetime import timedelta
from uuid import UUID

from sqlalchemy import or_
from sqlalchemy.orm import Session

from app.domain.api_keys.models import ApiKey
from app.domain.users.models import User
from app.lib.db.models import utc_now
from app.lib.db.service import BATCH, remove_batch
from app.lib.jobs.broker import enqueue
from app.lib.jobs.declaration import job
from app.lib.mail.mailer import Mailer

KEEP_DEAD = timedelta(days=30)
"""So long people can look up which key did what."""


@job(retries=10, retry_delay=30)
def send_api_key_notice(session: Session, mailer: Mailer, *, api_key_id: UUID) -> None:
    """Tell the owner that a key was made, in case it was not they who made it."""
    row = session.get(ApiKey, api_key_id)
    user = session.get(User, row.user_id) if row else None
    if row and user:
        mailer.send(
            "api_keys/created",
            to=user.email,
            name=user.known_name,
            key=str(api_key_id),
            key_name=row.name if user.is_verified else "",  # as for `known_name`: anybody can have typed it
            prefix=row.prefix,
        )


@job(cron="52 * * * *")
def remove_dead_api_keys(session: Session) -> None:
    """Delete keys that expired or were revoked long ago, a batch at a time."""
    before = utc_now() - KEEP_DEAD
    if remove_batch(session, ApiKey, or_(ApiKey.revoked_at < before, ApiKey.expires_at < before)) == BATCH:
        enqueue(session, remove_dead_api_keys)
