from datetime import datetime
from typing import Annotated, Literal
from uuid import UUID

from msgspec import Meta

from app.lib.schema import Password, Schema, TotpCode

SessionSort = Literal["last_seen_at", "-last_seen_at", "created_at", "-created_at"]


class LoginCreate(Schema):
    email: Annotated[str, Meta(max_length=254, examples=["ada@example.com"])]
    password: Password
    totp: TotpCode | None = None
    """Where the account asks for one."""


class ReauthenticationCreate(Schema):
    """The code of the app; without a second factor, the password."""

    password: Password | None = None
    totp: TotpCode | None = None


class SignInCodeCreate(Schema):
    """`code` is what stands behind `#code=` after a sign-in with a provider; `totp` as for LoginCreate."""

    code: Annotated[str, Meta(max_length=128)]
    totp: TotpCode | None = None


class RefreshCreate(Schema):
    refresh_token: Annotated[str, Meta(max_length=512)]


class SessionRead(Schema):
    """`device`: what the user agent seems to be, such as `Firefox on Windows`."""

    id: UUID
    user_agent: str
    device: str
    address: str
    created_at: datetime
    last_seen_at: datetime
    expires_at: datetime
    is_current: bool = False
