from datetime import datetime
from typing import Annotated, Literal
from uuid import UUID

from msgspec import Meta

from app.lib.schema import UNSET, Line, Schema, Text, UnsetType

Title = Annotated[Line, Meta(min_length=1, max_length=200, examples=["On the Analytical Engine"])]
Body = Annotated[Text, Meta(max_length=100_000, examples=["It weaves algebraic patterns."])]
PostSort = Literal["title", "-title", "created_at", "-created_at", "updated_at", "-updated_at"]


class PostRead(Schema):
    id: UUID
    owner_id: UUID
    title: str
    body: str
    published: bool
    created_at: datetime
    updated_at: datetime


class PostCreate(Schema):
    title: Title
    body: Body
    published: bool = False


class PostUpdate(Schema):
    title: Title | UnsetType = UNSET
    body: Body | UnsetType = UNSET
    published: bool | UnsetType = UNSET
