from polyfactory import Use
from polyfactory.factories.sqlalchemy_factory import SQLAlchemyFactory

from app.domain.audit.models import Action, AuditEvent, Outcome
from app.lib.db.models import utc_now


class AuditEventFactory(SQLAlchemyFactory[AuditEvent]):
    """Somebody signed in just now."""

    action = Action.SESSION_CREATED
    outcome = Outcome.SUCCESS
    permission = None
    attributes = None
    details = None
    changes = None
    count = 1
    impersonator_id = None
    created_at = Use(utc_now)
