from datetime import datetime
from typing import Annotated, Literal
from uuid import UUID

from msgspec import Meta

from app.lib.redirections import MAX_LENGTH
from app.lib.schema import Schema

Destination = Annotated[str, Meta(max_length=MAX_LENGTH, examples=["https://app.example.com/signed-in"])]
IdentitySort = Literal["created_at", "-created_at"]
Mode = Literal["cookies", "code"]
ProviderName = Annotated[str, Meta(max_length=40, examples=["google"])]


class ProviderRead(Schema):
    """`authorize_url` is where a browser is sent; add `?next=`."""

    name: str
    label: str
    authorize_url: str


class IdentityRead(Schema):
    """`email` is what the provider knew when it was last used."""

    id: UUID
    provider: str
    email: str | None
    created_at: datetime
    last_used_at: datetime | None


class IdentityCreate(Schema):
    """`next` is where the browser ends: a path, or a URL of a listed origin."""

    provider: ProviderName
    next: Destination = "/"


class AuthorizationRead(Schema):
    """Where the browser is to be sent now: the one that got this answer, with the cookie in it."""

    authorize_url: str
