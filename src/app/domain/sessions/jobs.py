from datetime import timedelta

from app.domain.sessions.services import SessionService
from app.lib.db.models import utc_now
from app.lib.db.service import BATCH
from app.lib.jobs.broker import enqueue
from app.lib.jobs.declaration import job

KEEP_ENDED = timedelta(days=30)
"""So long people can look up when and from where somebody was signed in."""
KEEP_USED = timedelta(days=30)
"""So long a refresh token that comes a second time ends its session."""


@job(cron="7 * * * *")
def remove_ended_sessions(sessions: SessionService) -> None:
    """Delete sessions that expired or were ended long ago, a batch at a time."""
    if sessions.remove_ended(before=utc_now() - KEEP_ENDED) == BATCH:
        enqueue(sessions.session, remove_ended_sessions)


@job(cron="22 * * * *")
def remove_used_refresh_tokens(sessions: SessionService) -> None:
    """Delete the links of long sessions' chains that were exchanged long ago, a batch at a time."""
    if sessions.remove_used_tokens(before=utc_now() - KEEP_USED) == BATCH:
        enqueue(sessions.session, remove_used_refresh_tokens)
