from datetime import datetime
from typing import Literal
from uuid import UUID

from litestar.datastructures import UploadFile

from app.lib.schema import Schema

FileSort = Literal["name", "-name", "size", "-size", "created_at", "-created_at"]


class FileCreate(Schema):
    """A multipart form with one file."""

    file: UploadFile


class FileRead(Schema):
    """`media_type` is what the content is; `size` is in bytes, `sha256` in hexadecimal."""

    id: UUID
    owner_id: UUID
    name: str
    media_type: str
    size: int
    sha256: str
    created_at: datetime
    updated_at: datetime


class AvatarRead(Schema):
    """`avatar_url` can be shown by anybody who knows it."""

    avatar_url: str
