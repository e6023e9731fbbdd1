from typing import Annotated
from uuid import UUID

from litestar import Controller
from litestar.params import FromQuery, QueryParameter

from app.domain.access.models import Permission
from app.domain.audit.models import Action, AuditEvent, Outcome
from app.domain.audit.schemas import AuditEventRead, AuditSort
from app.domain.audit.services import AuditService
from app.lib.access.guards import requires
from app.lib.pagination import Page, PageQuery, contains, equals
from app.lib.routing import get
from app.lib.schema import LINE

Word = Annotated[str | None, QueryParameter(max_length=200, pattern=LINE, description="Only those with exactly this.")]


class AuditController(Controller):
    path = "/audit-events"
    tags = ["audit"]
    opt = {"scope": "audit"}
    guards = [requires(Permission.AUDIT_READ)]

    @get()
    def list_audit_events(
        self,
        audit: AuditService,
        page: PageQuery,
        actor_id: FromQuery[UUID | None] = None,
        action: FromQuery[Action | None] = None,
        subject_type: Word = None,
        subject_id: Word = None,
        outcome: FromQuery[Outcome | None] = None,
        permission: Word = None,
        request_id: Word = None,
        sort: FromQuery[AuditSort] = "-created_at",
    ) -> Page[AuditEventRead]:
        """List what was done, and by whom.

        `q` looks into sources and subjects. The log grows without end: walk it with `cursor`. A time without an offset
        is taken as UTC.
        """
        wanted = (
            equals(actor_id, AuditEvent.actor_id),
            equals(action, AuditEvent.action),
            equals(subject_type, AuditEvent.subject_type),
            equals(subject_id, AuditEvent.subject_id),
            equals(outcome, AuditEvent.outcome),
            equals(permission, AuditEvent.permission),
            equals(request_id, AuditEvent.request_id),
        )
        text = contains(page.q, AuditEvent.source, AuditEvent.subject_id)
        return audit.page(*wanted, text, page=page, sort=sort, into=AuditEventRead)
