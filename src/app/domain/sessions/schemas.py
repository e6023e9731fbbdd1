from typing import Annotated, Literal

from msgspec import Meta

from app.lib.schema import Schema


class LoginCreate(Schema):
    email: Annotated[str, Meta(max_length=254, examples=["ada@example.com"])]
    password: Annotated[str, Meta(max_length=1024, examples=["correct horse battery staple"])]


class RefreshCreate(Schema):
    refresh_token: Annotated[str, Meta(max_length=512)]


class TokenPairRead(Schema):
    """`expires_in`: seconds until the access token ends (RFC 6749 section 5.1)."""

    access_token: str
    refresh_token: str
    expires_in: int
    token_type: Literal["bearer"] = "bearer"
