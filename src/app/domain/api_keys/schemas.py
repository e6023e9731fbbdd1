from datetime import datetime
from typing import Annotated, Literal
from uuid import UUID

from msgspec import Meta

from app.lib.schema import Line, Schema

KeyName = Annotated[Line, Meta(min_length=1, max_length=100, examples=["nightly import"])]
Scope = Annotated[str, Meta(max_length=64, examples=["items:read"])]
Moment = Annotated[datetime, Meta(tz=True)]
ApiKeySort = Literal["name", "-name", "created_at", "-created_at"]


class ApiKeyRead(Schema):
    """`prefix`: the beginning of the key, by which its owner knows it."""

    id: UUID
    name: str
    prefix: str
    scopes: list[str]
    expires_at: datetime | None
    last_used_at: datetime | None
    created_at: datetime


class NewApiKeyRead(ApiKeyRead):
    """`key` is the whole key, and is never shown again."""

    key: str


class ApiKeyCreate(Schema):
    name: KeyName
    scopes: Annotated[list[Scope], Meta(min_length=1, max_length=100)]
    expires_at: Moment | None = None


class ApiKeyScopesRead(Schema):
    """Every scope that a key can have."""

    items: list[str]
