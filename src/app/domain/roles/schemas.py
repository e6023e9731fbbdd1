from datetime import datetime
from typing import Annotated, Literal
from uuid import UUID

from msgspec import Meta

from app.lib.schema import Line, Schema

# What Casbin, SQL or people could take for something else has no place in a name: `,` `*` `:` quotes, look-alikes.
RoleName = Annotated[str, Meta(pattern=r"^[a-z][a-z0-9_-]{0,49}$(?!\n)", examples=["author"])]
RoleDescription = Annotated[Line, Meta(max_length=200, examples=["Writes posts."])]
RoleSort = Literal["name", "-name", "created_at", "-created_at"]
AssignmentSort = Literal["created_at", "-created_at"]


class RoleRead(Schema):
    """`parents`: the roles whose permissions it has, too."""

    id: UUID
    name: str
    description: str
    parents: list[str]
    created_at: datetime
    updated_at: datetime


class RoleCreate(Schema):
    name: RoleName
    description: RoleDescription = ""
    parents: Annotated[list[RoleName], Meta(max_length=20)] = []


class AssignmentRead(Schema):
    """A role of somebody, and who gave it to them when."""

    name: str
    description: str
    granted_by: UUID | None
    created_at: datetime
