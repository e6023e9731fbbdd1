from typing import Annotated, Any, Literal, Self
from uuid import UUID

from msgspec import Meta

from app.lib.access.policy import Grant
from app.lib.schema import Schema, Word


class RuleRead(Schema):
    """`role`: to which it was given; null: to the user. `object_id`: null for all objects. `rule`: null for always."""

    id: UUID
    role: str | None
    resource: str
    action: str
    object_id: UUID | None
    rule: str | None
    effect: str

    @classmethod
    def of(cls, row: Grant) -> Self:
        kind, _, name = row.subject.partition(":")
        resource, _, action = row.permission.partition(":")
        return cls(
            id=row.id,
            role=name if kind == "role" else None,
            resource=resource,
            action=action,
            object_id=row.object_id,
            rule=row.rule,
            effect=row.effect,
        )


class HeldRoleRead(Schema):
    """`source`: how I came to it; `through`: those of my roles from which it comes when it is inherited."""

    name: str
    source: Literal["assignment", "inheritance", "everyone"]
    through: list[str]


class MyPermissionsRead(Schema):
    """A superuser may do everything, whatever the lists say. A `deny` wins over whatever allows."""

    is_superuser: bool
    roles: list[HeldRoleRead]
    permissions: list[RuleRead]


class ExplanationCreate(Schema):
    """`object`: an id, or the attributes that rules know of an object, which need not exist. Without it, the question
    is whether there is anything to which they may do it."""

    user_id: UUID
    resource: Annotated[Word, Meta(examples=["posts"])]
    action: Annotated[Word, Meta(examples=["update"])]
    object: UUID | dict[str, Any] | None = None


class ExplanationRead(Schema):
    """`matched`: the rules that apply, for and against; `roles`: those through which they do."""

    allowed: bool
    reason: Literal["granted", "denied", "no_rule", "superuser", "inactive"]
    matched: list[RuleRead]
    roles: list[str]
