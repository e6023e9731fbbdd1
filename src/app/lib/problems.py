"""The body of every answer that is an error: RFC 9457."""

from http import HTTPStatus
from typing import Self

from msgspec import UNSET, Struct, UnsetType

MEDIA_TYPE = "application/problem+json"


class InvalidValue(Struct):
    """Which field, in which part of the request, and what is wrong with it."""

    field: str
    message: str
    source: str = "body"


class Problem(Struct, kw_only=True):
    """`code` is what programs compare; `detail` is for people; `request_id` is in the log."""

    type: str
    title: str
    status: int
    detail: str
    code: str
    request_id: str
    errors: list[InvalidValue] | UnsetType = UNSET

    @classmethod
    def of(cls, status: HTTPStatus, code: str, *, detail: str, request_id: str) -> Self:
        return cls(
            type=f"urn:keel:problem:{code}",
            title=status.phrase,
            status=status,
            detail=detail,
            code=code,
            request_id=request_id,
        )
