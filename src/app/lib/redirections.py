"""Where a browser may be sent because a request says so: to us, or to a frontend that is listed."""

import re
from collections.abc import Collection
from urllib.parse import unquote_to_bytes, urlsplit

from app.lib.errors import InvalidInputError

MAX_LENGTH = 500
PATH_AND_QUERY = re.compile(r"/[A-Za-z0-9._~!$&'()*+,;=:@%/-]*(\?[A-Za-z0-9._~!$&'()*+,;=:@%/?-]*)?")
"""RFC 3986, less the fragment. No backslash, which browsers take for a slash, and nothing that is not ASCII."""
PERCENT = re.compile(r"%(?![0-9A-Fa-f]{2})")


def safe_destination(text: str, *, origins: Collection[str], field: str) -> str:
    """A path of ours, or a URL of one of these origins; rebuilt from its parts, so that all readers agree on them.

    Raises InvalidInputError for everything else: `//evil`, `/\\evil`, `https:evil`, `http://ours@evil`, `/%0d%0a`.
    """
    refusal = InvalidInputError("This is neither a path nor a URL of a listed origin.", field=field)
    if len(text) > MAX_LENGTH or not text.isascii():
        raise refusal
    origin, rest = ("", text) if text.startswith("/") else _split(text)
    if origin and origin not in origins:
        raise refusal
    if (not origin and not text.startswith("/")) or not _is_plain(rest):
        raise refusal
    return origin + rest


def _split(text: str) -> tuple[str, str]:
    """The origin and what follows it; empty when there is none."""
    found = re.fullmatch(r"(https?://[A-Za-z0-9.\[\]:-]+)(/.*|\?.*)?", text)
    if not found:
        return "", ""
    try:
        urlsplit(text)
    except ValueError:
        return "", ""
    rest = found[2] or "/"
    return found[1].lower(), rest if rest.startswith("/") else f"/{rest}"


def _is_plain(rest: str) -> bool:
    if not PATH_AND_QUERY.fullmatch(rest) or PERCENT.search(rest):
        return False
    path, _, query = rest.partition("?")
    decoded = unquote_to_bytes(path)
    hidden = b"//" in decoded or {b".", b".."} & set(decoded.split(b"/"))
    return not hidden and not any(byte < 32 or byte in b"\\\x7f" for byte in decoded + unquote_to_bytes(query))
