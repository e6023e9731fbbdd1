import re
from datetime import timedelta
from uuid import UUID

from sqlalchemy import or_, select
from sqlalchemy.orm import Session

from app.domain.sessions.models import RefreshToken, UserSession
from app.domain.users.models import User
from app.lib.db.models import utc_now
from app.lib.db.service import BATCH, remove_batch
from app.lib.jobs.broker import enqueue
from app.lib.jobs.declaration import job
from app.lib.mail.mailer import Mailer
from app.lib.mail.wording import time_of

KEEP_ENDED = timedelta(days=30)
"""So long people can look up when and from where somebody was signed in."""
KEEP_USED = timedelta(days=30)
"""So long a refresh token that comes a second time ends its session."""
ADDRESS = r"[0-9A-Fa-f.:\[\]]+"
"""Of IPv4 or IPv6, perhaps with a port. A proxy may let anything through, and nobody shall write into our mails."""


@job(retries=10, retry_delay=30)
def send_new_device_notice(session: Session, mailer: Mailer, *, session_id: UUID) -> None:
    """Tell somebody that their account was used on a device which it was not used on before."""
    signed_in = select(UserSession, User).join(User, User.id == UserSession.user_id)
    if found := session.execute(signed_in.where(UserSession.id == session_id)).one_or_none():
        row, user = found
        mailer.send(
            "sessions/new_device_notice",
            to=user.email,
            name=user.known_name,
            key=str(session_id),
            time=time_of(row.created_at),
            device=row.device,
            address=row.address if re.fullmatch(ADDRESS, row.address) else "unknown",
        )


@job(cron="7 * * * *")
def remove_ended_sessions(session: Session) -> None:
    """Delete sessions that expired or were ended long ago, with their refresh tokens, a batch at a time."""
    before = utc_now() - KEEP_ENDED
    is_old = or_(UserSession.expires_at < before, UserSession.revoked_at < before)
    if remove_batch(session, UserSession, is_old) == BATCH:
        enqueue(session, remove_ended_sessions)


@job(cron="22 * * * *")
def remove_used_refresh_tokens(session: Session) -> None:
    """Delete the links of long sessions' chains that were exchanged long ago, a batch at a time.

    Whoever comes with one that is gone is refused as before, but the session no longer ends.
    """
    if remove_batch(session, RefreshToken, RefreshToken.used_at < utc_now() - KEEP_USED) == BATCH:
        enqueue(session, remove_used_refresh_tokens)
