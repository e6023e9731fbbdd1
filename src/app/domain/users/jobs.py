from datetime import timedelta

from sqlalchemy.orm import Session

from app.domain.audit.models import Action
from app.domain.audit.services import AuditService
from app.domain.users.models import User
from app.lib.db.models import utc_now
from app.lib.db.service import BATCH, remove_batch
from app.lib.jobs.broker import enqueue
from app.lib.jobs.declaration import job
from app.lib.settings import Settings

KEEP_UNVERIFIED = timedelta(days=7)


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
    if not settings.require_verified_email:
        return
    if removed := remove_batch(session, User, *abandoned):
        AuditService(session).record(Action.USER_DELETED, count=removed)
    if removed == BATCH:
        enqueue(session, remove_unverified_accounts)
