from datetime import datetime
from typing import Annotated, Literal
from uuid import UUID

from msgspec import Meta

from app.lib.schema import UNSET, Email, Name, NewPassword, Password, Phone, Schema, UnsetType

Token = Annotated[str, Meta(max_length=200)]
UserSort = Literal[
    "created_at", "-created_at", "email", "-email", "last_name", "-last_name", "last_login", "-last_login"
]


class UserRead(Schema):
    id: UUID
    email: str
    first_name: str
    last_name: str
    phone: str | None
    avatar_url: str | None
    is_active: bool
    is_verified: bool
    is_superuser: bool
    created_at: datetime
    updated_at: datetime
    last_login: datetime | None


class UserUpdate(Schema):
    first_name: Name | UnsetType = UNSET
    last_name: Name | UnsetType = UNSET
    phone: Phone | UnsetType | None = UNSET


class AccountCreate(Schema):
    """What an administrator makes. Without a password, its owner chooses one by mail."""

    email: Email
    first_name: Name
    last_name: Name
    password: NewPassword | None = None
    phone: Phone | None = None
    is_verified: bool = False
    is_superuser: bool = False


class AccountUpdate(UserUpdate):
    """What an administrator may change. A new address is unverified unless `is_verified` says otherwise."""

    email: Email | UnsetType = UNSET
    is_active: bool | UnsetType = UNSET
    is_verified: bool | UnsetType = UNSET
    is_superuser: bool | UnsetType = UNSET


class ConfirmationRequestCreate(Schema):
    email: Email


class ConfirmationRequestRead(Schema):
    """The same for every address: whether a mail goes there, only its owner sees."""

    email: str


class TokenCreate(Schema):
    """What stands behind `#token=` in the link."""

    token: Token


class PasswordResetCreate(TokenCreate):
    password: NewPassword


class ConfirmedRead(Schema):
    """The address of the account."""

    email: str


class EmailChangeCreate(Schema):
    """`password` may be left out only by somebody who has none, and who has just signed in."""

    email: Email
    password: Password | None = None


class PasswordUpdate(Schema):
    """`current_password` may be null only for somebody who has none, and who has just signed in."""

    current_password: Password | None
    password: NewPassword
