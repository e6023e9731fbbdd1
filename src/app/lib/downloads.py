"""Stored bytes as an answer: with validators and ranges (RFC 9110 sections 13 and 14), and harmless to browsers."""

import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote
from uuid import UUID

from litestar import Response
from litestar.response import Stream
from litestar.status_codes import HTTP_206_PARTIAL_CONTENT, HTTP_304_NOT_MODIFIED, HTTP_307_TEMPORARY_REDIRECT
from msgspec import Struct

from app.lib.errors import ApplicationError
from app.lib.storage import Storage

SANDBOX = "default-src 'none'; frame-ancestors 'none'; sandbox"
"""Whatever a browser makes of the bytes, it is not our page and runs nothing."""
FOR_EVER = "public, max-age=31536000, immutable"
ASK_AGAIN = "private, no-cache"
SINGLE_RANGE = re.compile(r"bytes=(\d{0,18})-(\d{0,18})", re.IGNORECASE)


class UnsatisfiableRangeError(ApplicationError):
    detail = "The content has no such bytes."

    def __init__(self, *, size: int) -> None:
        super().__init__()
        self.size = size


class Attachment(Struct, frozen=True):
    """A blob, and how it is called. `sha256` is in hexadecimal."""

    blob_id: UUID
    name: str
    media_type: str
    size: int
    sha256: str


def disposition(name: str) -> str:
    """Saved, never shown, under any name at all (RFC 6266, RFC 8187)."""
    return f"attachment; filename*=UTF-8''{quote(name, safe='')}"


def is_head(scope: Any) -> bool:
    """Handlers see GET; `server/envelope.py` remembers what it was."""
    return bool(scope.get("is_head"))


def download(
    attachment: Attachment, storage: Storage, asked: Mapping[str, str], *, is_head: bool = False
) -> Response[Any]:
    """What the request's headers `asked` for: all, a part, or nothing because the client has it (304).

    From a bucket the client fetches it by itself, with a signed URL, which is for GET alone. HEAD reads nothing:
    the row knows the answer. Raises UnsatisfiableRangeError;
    NotFoundError and StorageUnavailableError before anything is sent.
    """
    tag = f'"{attachment.sha256}"'
    if known := unchanged(tag, asked):
        return known
    headers = {"ETag": tag, "Cache-Control": ASK_AGAIN}
    if not is_head and (url := storage.signed_url(attachment.blob_id)):
        return Response(b"", status_code=HTTP_307_TEMPORARY_REDIRECT, headers={"Location": url})
    headers |= {
        "Accept-Ranges": "bytes",
        "Content-Disposition": disposition(attachment.name),
        "Content-Security-Policy": SANDBOX,
    }
    part = _part(asked, tag=tag, size=attachment.size)
    start, stop = part or (0, attachment.size)
    if part:
        headers["Content-Range"] = f"bytes {start}-{stop - 1}/{attachment.size}"
    return Stream(
        () if is_head else storage.stream(attachment.blob_id, start=start, stop=stop),
        status_code=HTTP_206_PARTIAL_CONTENT if part else None,
        headers=headers | {"Content-Type": attachment.media_type, "Content-Length": str(stop - start)},
    )


def unchanged(tag: str, asked: Mapping[str, str]) -> Response[Any] | None:
    """304 when the client has it already."""
    if not _is_known(tag, asked.get("if-none-match", "")):
        return None
    return Response(b"", status_code=HTTP_304_NOT_MODIFIED, headers={"ETag": tag, "Cache-Control": ASK_AGAIN})


def picture(content: bytes, *, media_type: str, cache_control: str, tag: str | None = None) -> Response[bytes]:
    """A picture of our own making, which a page may show."""
    headers = {"Cache-Control": cache_control, "Content-Security-Policy": SANDBOX} | ({"ETag": tag} if tag else {})
    return Response(content, media_type=media_type, headers=headers)


def _is_known(tag: str, none_match: str) -> bool:
    """Compared weakly (RFC 9110 section 13.1.2)."""
    return none_match.strip() == "*" or tag in (each.strip().removeprefix("W/") for each in none_match.split(","))


def _part(asked: Mapping[str, str], *, tag: str, size: int) -> tuple[int, int] | None:
    """From where to before where. None means all: also for several ranges, as RFC 9110 section 14.2 allows, and
    when If-Range holds a date or another tag."""
    found = SINGLE_RANGE.fullmatch(asked.get("range", "").strip())
    if not found or asked.get("if-range", tag) != tag:
        return None
    first, last = found.groups()
    if not first and not last:
        return None
    if not first:
        start, stop = max(0, size - int(last)), size
    else:
        start, stop = int(first), min(int(last) + 1, size) if last else size
        if last and int(last) < start:
            return None  # not a range at all
    if start >= stop:
        raise UnsatisfiableRangeError(size=size)
    return start, stop
