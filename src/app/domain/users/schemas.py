from datetime import datetime
from typing import Annotated, Literal
from uuid import UUID

from msgspec import Meta

from app.lib.email_address import MAX_LENGTH
from app.lib.schema import UNSET, Line, Schema, UnsetType

Email = Annotated[Line, Meta(min_length=3, max_length=MAX_LENGTH, examples=["ada@example.com"])]
Name = Annotated[Line, Meta(min_length=1, max_length=100, examples=["Ada"])]
Phone = Annotated[str, Meta(pattern=r"^\+?[0-9 ()./-]{5,32}$(?!\n)", examples=["+44 20 7946 0000"])]
NewPassword = Annotated[str, Meta(min_length=8, max_length=1024, examples=["correct horse battery staple"])]
"""Any characters, spaces included, and no composition rules (NIST SP 800-63B section 3.1.1.2)."""
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


class RegistrationCreate(Schema):
    email: Email
    password: NewPassword
    first_name: Name
    last_name: Name
    phone: Phone | None = None


class RegistrationRead(Schema):
    """The same for a new address and a known one: nobody learns who has an account (ASVS 6.3.8)."""

    email: str
    verification_required: bool


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
