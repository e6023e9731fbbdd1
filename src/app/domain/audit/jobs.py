from app.domain.audit.services import AuditService
from app.lib.db.service import BATCH
from app.lib.jobs.broker import enqueue
from app.lib.jobs.declaration import job
from app.lib.settings import Settings


@job(cron="42 * * * *")
def remove_old_audit_events(audit: AuditService, settings: Settings) -> None:
    """Delete what is older than AUDIT_RETENTION_DAYS, a batch at a time."""
    if audit.remove_older(days=settings.audit_retention_days) == BATCH:
        enqueue(audit.session, remove_old_audit_events)
