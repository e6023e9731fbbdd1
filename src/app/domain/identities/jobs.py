from datetime import timedelta
from uuid import UUID

from sqlalchemy.orm import Session

from app.domain.identities.models import AuthorizationRequest, Identity, SignInCode
from app.domain.users.models import User
from app.lib.db.models import utc_now
from app.lib.db.service import BATCH, remove_batch
from app.lib.jobs.broker import enqueue
from app.lib.jobs.declaration import job
from app.lib.mail.mailer import Mailer

KEEP_EXPIRED = timedelta(hours=1)


@job(retries=10, retry_delay=30)
def send_identity_notice(
    session: Session, mailer: Mailer, *, user_id: UUID, identity_id: UUID, was_reclaimed: bool
) -> None:
    """Tell somebody that there is a new way to sign in to their account, even if it is gone already."""
    identity = session.get(Identity, identity_id)
    if user := session.get(User, user_id):
        mailer.send(
            "identities/identity_notice",
            to=user.email,
            name=user.known_name,
            key=str(identity_id),
            provider=identity.provider if identity else "another provider",
            was_reclaimed=was_reclaimed,
        )


@job(cron="52 * * * *")
def remove_expired_sign_ins(session: Session) -> None:
    """Delete what sign-ins with providers leave behind, a batch at a time."""
    before = utc_now() - KEEP_EXPIRED
    requests = remove_batch(session, AuthorizationRequest, AuthorizationRequest.expires_at < before)
    codes = remove_batch(session, SignInCode, SignInCode.expires_at < before)
    if BATCH in (requests, codes):
        enqueue(session, remove_expired_sign_ins)
