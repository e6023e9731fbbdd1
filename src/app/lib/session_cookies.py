"""The cookies of a signed-in browser: what they are called, where they are sent, and how long they live."""

from datetime import UTC, datetime
from urllib.parse import urlsplit
from uuid import UUID

from litestar.datastructures import Cookie

from app.lib.access.guards import Principal
from app.lib.csrf import CsrfProtection, RawHeaders
from app.lib.errors import NotAuthenticatedError
from app.lib.tokens import AccessTokens


class SessionCookies:
    """The access token; the refresh token, on a path of its own; the CSRF token, the only one that scripts can read.

    Over https their names begin with `__Host-` and `__Secure-`: browsers then accept no cookie of that name from
    http, and with `__Host-` none from another host, such as a subdomain (RFC 6265bis section 4.1.3).
    """

    def __init__(self, tokens: AccessTokens, csrf: CsrfProtection, *, public_url: str, api_prefix: str) -> None:
        self.csrf = csrf
        self._tokens = tokens
        self._is_secure = public_url.startswith("https://")
        host, secure = ("__Host-", "__Secure-") if self._is_secure else ("", "")
        self.access_name = f"{host}keel-access"
        self.refresh_name = f"{secure}keel-refresh"
        self.csrf_name = f"{host}keel-csrf"
        self._refresh_path = f"{urlsplit(public_url).path}{api_prefix}/auth/cookie"

    def of(self, principal: Principal, *, refresh_token: str, until: datetime) -> list[Cookie]:
        """`until`: when the session ends."""
        left = int((until - datetime.now(UTC)).total_seconds())
        return [
            self.access(principal, until=until),
            self._cookie(self.refresh_name, refresh_token, left, path=self._refresh_path),
            self._cookie(self.csrf_name, self.csrf.token_of(principal.session_id), left, is_readable=True),
        ]

    def access(self, principal: Principal, *, until: datetime) -> Cookie:
        token = self._tokens.issue(principal, until=until)
        return self._cookie(self.access_name, token, self._tokens.seconds(until))

    def removal(self) -> list[Cookie]:
        """What makes a browser forget all three."""
        return [
            self._cookie(self.access_name, "", 0),
            self._cookie(self.refresh_name, "", 0, path=self._refresh_path),
            self._cookie(self.csrf_name, "", 0, is_readable=True),
        ]

    def session_of(self, headers: RawHeaders) -> UUID | None:
        """Which the access cookie names, if it is good; the session may have ended."""
        try:
            return self._tokens.verify(self.access_token(headers) or "").principal.session_id
        except NotAuthenticatedError:
            return None

    def access_token(self, headers: RawHeaders) -> str | None:
        return cookie_of(headers, self.access_name)

    def refresh_token(self, headers: RawHeaders) -> str | None:
        return cookie_of(headers, self.refresh_name)

    def _cookie(self, name: str, value: str, seconds: int, *, path: str = "/", is_readable: bool = False) -> Cookie:
        return Cookie(
            name,
            path=path,
            value=value,
            max_age=seconds,
            secure=self._is_secure,
            httponly=not is_readable,
            samesite="lax",
        )


def cookie_of(headers: RawHeaders, name: str) -> str | None:
    """None also when it comes twice: one of the two may be from another application of this host."""
    sent = [value.decode("latin-1") for key, value in headers if key == b"cookie"]
    pairs = [pair.strip().partition("=") for value in sent for pair in value.split(";")]
    found = [value for key, _, value in pairs if key == name]
    return found[0] if len(found) == 1 else None
