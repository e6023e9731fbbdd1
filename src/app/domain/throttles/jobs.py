from app.domain.throttles.services import ThrottleService
from app.lib.db.service import BATCH
from app.lib.jobs.broker import enqueue
from app.lib.jobs.declaration import job


@job(cron="52 * * * *")
def remove_expired_throttles(throttles: ThrottleService) -> None:
    """Delete the failures that are forgotten, a batch at a time."""
    if throttles.remove_expired() == BATCH:
        enqueue(throttles.session, remove_expired_throttles)
