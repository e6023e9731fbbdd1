from datetime import datetime
from typing import Annotated, Literal
from uuid import UUID

from msgspec import Meta

from app.lib.schema import UNSET, Line, Schema, Text, UnsetType

Title = Annotated[Line, Meta(min_length=1, max_length=200, examples=["Buy milk"])]
Description = Annotated[Text, Meta(max_length=10_000, examples=["Two litres."])]
ItemSort = Literal["title", "-title", "created_at", "-created_at", "updated_at", "-updated_at"]


class ItemRead(Schema):
    id: UUID
    owner_id: UUID
    title: str
    description: str | None
    created_at: datetime
    updated_at: datetime


class ItemCreate(Schema):
    title: Title
    description: Description | None = None


class ItemUpdate(Schema):
    title: Title | UnsetType = UNSET
    description: Description | UnsetType | None = UNSET
