from datetime import datetime
from typing import Annotated, Literal
from uuid import UUID

from msgspec import Meta

from app.lib.schema import Line, Schema, Word

PermissionSort = Literal["resource", "-resource", "action", "-action", "created_at", "-created_at"]


class PermissionRead(Schema):
    """`object_id`: null for all objects. `rule`: null for always. `granted_by`: null for what came with Keel, or from
    an operator."""

    id: UUID
    resource: str
    action: str
    object_id: UUID | None
    rule: str | None
    effect: str
    granted_by: UUID | None
    created_at: datetime


class PermissionCreate(Schema):
    """Without `object_id` for all objects, without `rule` always. A `deny` wins over whatever allows."""

    resource: Annotated[Word, Meta(examples=["posts"])]
    action: Annotated[Word, Meta(examples=["update"])]
    object_id: UUID | None = None
    rule: Annotated[Line, Meta(min_length=1, max_length=500, examples=["r.obj.owner_id == r.sub.id"])] | None = None
    effect: Literal["allow", "deny"] = "allow"
