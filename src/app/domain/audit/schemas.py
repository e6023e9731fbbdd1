from datetime import datetime
from typing import Any, Literal
from uuid import UUID

from app.domain.audit.models import Outcome
from app.lib.schema import Schema

AuditSort = Literal["created_at", "-created_at"]


class AuditEventRead(Schema):
    """Something that was done, or tried. `source` is the route, the job or the command line that it came from.

    `permission` is the one by which it was allowed or refused, `attributes` those of the object of that decision.
    `changes` holds fields with their values before and after, secrets as `***`. `details` is what else there is to say.
    `count`: so many alike, of which this is the first.
    """

    id: UUID
    created_at: datetime
    action: str
    outcome: Outcome
    actor_id: UUID | None
    impersonator_id: UUID | None
    subject_type: str | None
    subject_id: str | None
    permission: str | None
    attributes: dict[str, Any] | None
    details: dict[str, Any] | None
    changes: dict[str, Any] | None
    count: int
    source: str
    session_id: UUID | None
    address: str | None
    request_id: str | None
