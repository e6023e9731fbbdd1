"""Whether a request that a browser sends with our cookies was meant by a page of ours (OWASP ASVS 3.5.1)."""

import hashlib
import hmac
from collections.abc import Iterable
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

from litestar.connection import ASGIConnection

from app.lib.access.guards import Rule
from app.lib.errors import CsrfFailedError
from app.lib.secret_keys import derive_key

CSRF_HEADER = "X-CSRF-Token"
SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
DEFAULT_PORTS = {"http": 80, "https": 443}

RawHeaders = Iterable[tuple[bytes, bytes]]
"""As ASGI has them: names in lower case."""


class CsrfProtection:
    """A token that belongs to one session, and a look at the headers with which browsers say where a request began.

    `own`: where the API is reached. `listed`: the origins whose pages may use it. `*` lists none: it is for requests
    without cookies.
    """

    def __init__(self, *, secret: str, own: str, listed: Iterable[str]) -> None:
        self._key = derive_key(secret, purpose="csrf-token")
        self._listed = frozenset(map(_origin_of, listed))
        self._origins = self._listed | {_origin_of(own)}

    def token_of(self, session_id: UUID) -> str:
        """The same for the whole session, and worthless for every other."""
        return hmac.new(self._key, session_id.bytes, hashlib.sha256).hexdigest()

    def check(self, headers: RawHeaders, session_id: UUID) -> None:
        """Raises CsrfFailedError unless a page of ours sent this, with the token of this session."""
        self.check_origin(headers)
        sent = _only(headers, CSRF_HEADER) or b""
        if not hmac.compare_digest(sent, self.token_of(session_id).encode()):
            raise CsrfFailedError(f"Send the token of this session in the header {CSRF_HEADER}.")

    def check_origin(self, headers: RawHeaders) -> None:
        """Raises CsrfFailedError when a browser says that this began at a page which is neither ours nor listed.

        What says nothing is no browser of today, and nobody can make it send another person's cookies.
        """
        origin, site = _only(headers, "Origin"), _only(headers, "Sec-Fetch-Site")
        if origin is not None and origin not in self._origins:
            raise CsrfFailedError
        if site == b"cross-site" and origin not in self._listed:
            raise CsrfFailedError


def _check_origin(connection: ASGIConnection[Any, Any, Any, Any]) -> None:
    protection: CsrfProtection = connection.app.state.csrf
    protection.check_origin(connection.scope["headers"])


from_our_pages = Rule("from_our_pages", _check_origin, is_public=True)
"""For public routes that set or need cookies: no foreign page may sign its visitors in, or out."""


def _only(headers: RawHeaders, name: str) -> bytes | None:
    """Raises CsrfFailedError when it comes twice: who knows which of them others look at."""
    wanted = name.lower().encode()
    found = [value for key, value in headers if key == wanted]
    if len(found) > 1:
        raise CsrfFailedError
    return found[0] if found else None


def _origin_of(url: str) -> bytes:
    """As browsers write it (RFC 6454 section 6.2): lower case, and no port that goes without saying."""
    parts = urlsplit(url.lower())
    origin = f"{parts.scheme}://{parts.netloc}"
    return origin.removesuffix(f":{DEFAULT_PORTS.get(parts.scheme)}").encode()
