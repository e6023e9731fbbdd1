"""What a sign-in begins with, a device, and what it ends with: tokens in JSON, or in cookies."""

from datetime import datetime
from typing import Any, Literal

from litestar import Request, Response
from litestar.status_codes import HTTP_204_NO_CONTENT, HTTP_302_FOUND
from msgspec import Struct

from app.lib.access.guards import Principal
from app.lib.csrf import CSRF_HEADER
from app.lib.schema import Schema
from app.lib.session_cookies import SessionCookies
from app.lib.tokens import AccessTokens

AnyRequest = Request[Any, Any, Any]


class Device(Struct, frozen=True):
    """Where a sign-in came from, shown to its owner."""

    address: str
    user_agent: str


class Grant(Struct, frozen=True):
    """Who may act, and the secret with which they may go on. The secret exists only here and at the client."""

    principal: Principal
    refresh_token: str
    expires_at: datetime
    """When the session ends, however often it is refreshed."""


class AccessTokenRead(Schema):
    """`expires_in`: seconds until the access token ends (RFC 6749 section 5.1)."""

    access_token: str
    expires_in: int
    token_type: Literal["bearer"] = "bearer"


class TokenPairRead(Schema):
    """`expires_in`: seconds until the access token ends (RFC 6749 section 5.1)."""

    access_token: str
    refresh_token: str
    expires_in: int
    token_type: Literal["bearer"] = "bearer"


def device_of(request: AnyRequest) -> Device:
    return Device(
        address=request.client.host if request.client else "",
        user_agent=request.headers.get("user-agent", ""),
    )


def access_token_of(principal: Principal, tokens: AccessTokens, *, until: datetime) -> AccessTokenRead:
    return AccessTokenRead(access_token=tokens.issue(principal, until=until), expires_in=tokens.seconds(until))


def token_pair_of(grant: Grant, tokens: AccessTokens) -> TokenPairRead:
    access = access_token_of(grant.principal, tokens, until=grant.expires_at)
    return TokenPairRead(
        access_token=access.access_token, expires_in=access.expires_in, refresh_token=grant.refresh_token
    )


def with_cookies(grant: Grant, cookies: SessionCookies, *, location: str | None = None) -> Response[None]:
    """Nothing but cookies and the CSRF token; with a `location`, the browser goes on to there."""
    headers = {"Location": location} if location else {}
    return Response(
        None,
        status_code=HTTP_302_FOUND if location else HTTP_204_NO_CONTENT,
        cookies=cookies.of(grant.principal, refresh_token=grant.refresh_token, until=grant.expires_at),
        headers=headers | {CSRF_HEADER: cookies.csrf.token_of(grant.principal.session_id)},
    )
