from typing import Annotated, Any
from uuid import UUID

from litestar import Controller
from litestar.params import FromQuery, QueryParameter
from sqlalchemy.orm import InstrumentedAttribute

from app.domain.access.models import Permission
from app.domain.audit.models import Action, AuditEvent, Outcome
from app.domain.audit.schemas import AuditEventRead, AuditSort
from app.domain.audit.services import AuditService
from app.lib.access.guards import requires
from app.lib.pagination import Page, PageQuery, contains
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
        wanted: dict[InstrumentedAttribute[Any], object] = {
            AuditEvent.actor_id: actor_id,
            AuditEvent.action: action,
            AuditEvent.subject_type: subject_type,
            AuditEvent.subject_id: subject_id,
            AuditEvent.outcome: outcome,
            AuditEvent.permission: permission,
            AuditEvent.request_id: request_id,
        }
        where = [column == value for column, value in wanted.items() if value is not None]
        text = contains(page.q, AuditEvent.source, AuditEvent.subject_id)
        return audit.page(*where, text, page=page, sort=sort, into=AuditEventRead)
