"""Who asks: a token, verified once and cached, against the sessions known to have ended."""

import time
from collections.abc import Sequence
from datetime import timedelta
from typing import Any
from uuid import UUID

from litestar.enums import ScopeType
from litestar.middleware import ASGIMiddleware
from litestar.types import ASGIApp, Receive, Scope, Send
from sqlalchemy.orm import Session

from app.domain.sessions.services import SESSION_REVOKED, SessionService
from app.lib.access.guards import Principal
from app.lib.api_keys import PREFIX
from app.lib.csrf import SAFE_METHODS
from app.lib.errors import ApplicationError, NotAuthenticatedError, OverloadedError
from app.lib.events import EventFeed
from app.lib.origin import Origin, originating
from app.lib.session_cookies import SessionCookies
from app.lib.tokens import AccessToken, AccessTokens
from app.server.api_keys import ApiKeyring

CACHED_TOKENS = 10_000
RECENT = timedelta(seconds=90)
"""Much longer than a transaction should last: a revocation is dated by its start, but shows at its COMMIT."""
MAX_LAG = 10.0
"""Seconds without certainty about revocations and the policy after which no token is believed."""


class RevokedSessions:
    """The sessions whose access tokens could still be unexpired. Fed by the event feed, asked on every request."""

    topic = SESSION_REVOKED

    def __init__(self, *, token_lifetime: timedelta) -> None:
        self._keep = token_lifetime + RECENT
        self._revoked: dict[UUID, float] = {}

    def __contains__(self, session_id: UUID) -> bool:
        return session_id in self._revoked

    def receive(self, payload: str) -> None:
        self._revoked[UUID(payload)] = time.monotonic()

    def catch_up(self, session: Session, *, everything: bool) -> None:
        now = time.monotonic()
        for session_id in SessionService(session).revoked_within(self._keep if everything else RECENT):
            self._revoked.setdefault(session_id, now)
        too_old = now - self._keep.total_seconds()
        for session_id in [key for key, since in list(self._revoked.items()) if since < too_old]:
            self._revoked.pop(session_id, None)


class Authentication(ASGIMiddleware):
    """Puts a Principal into `scope["user"]`, or None and the reason into `scope["auth"]`.

    An Authorization header decides alone, good or bad. Without one the cookie does, and then what changes something
    must come from a page of ours: otherwise nobody is signed in, and the reason is a CsrfFailedError.

    It refuses nobody: that is for the guards. While the event feeds do not know who has signed out and who may do
    what, a good token is nobody's, and the reason is an OverloadedError.
    """

    scopes = (ScopeType.HTTP,)

    def __init__(
        self,
        tokens: AccessTokens,
        revoked: RevokedSessions,
        feeds: Sequence[EventFeed],
        cookies: SessionCookies,
        api_keys: ApiKeyring,
    ) -> None:
        self._tokens = tokens
        self._revoked = revoked
        self._feeds = feeds
        self._cookies = cookies
        self._api_keys = api_keys
        self._verified: dict[str, AccessToken] = {}

    async def handle(self, scope: Scope, receive: Receive, send: Send, next_app: ASGIApp) -> None:
        scope["user"], scope["auth"] = None, None
        try:
            scope["user"] = await self._principal(scope)
        except ApplicationError as reason:
            scope["auth"] = reason
        with originating(_origin_of(scope)):
            await next_app(scope, receive, send)

    async def _principal(self, scope: Any) -> Principal | None:
        if not _has_authorization(scope):
            return self._holder_of_cookie(scope)
        token = _bearer_token(scope)
        if token and token.startswith(PREFIX):
            self._refuse_while_uncertain()
            return await self._api_keys.holder_of(token, scope)
        return self._holder_of(token)

    def _holder_of_cookie(self, scope: Any) -> Principal | None:
        principal = self._holder_of(self._cookies.access_token(scope["headers"]))
        if principal and scope["method"] not in SAFE_METHODS:
            self._cookies.csrf.check(scope["headers"], principal.session_id)
        return principal

    def _holder_of(self, token: str | None) -> Principal | None:
        access = self._verify(token) if token else None
        if access is None or access.principal.session_id in self._revoked:
            return None
        self._refuse_while_uncertain()
        return access.principal

    def _refuse_while_uncertain(self) -> None:
        if max(feed.lag for feed in self._feeds) > MAX_LAG:
            raise OverloadedError("The database does not answer. Try again shortly.", retry_after=2)

    def _verify(self, token: str) -> AccessToken | None:
        known = self._verified.get(token)
        if known is not None and time.time() < known.expires_at:
            return known
        self._verified.pop(token, None)
        try:
            access = self._tokens.verify(token)
        except NotAuthenticatedError:
            return None
        if len(self._verified) >= CACHED_TOKENS:
            del self._verified[next(iter(self._verified))]
        self._verified[token] = access
        return access


def _origin_of(scope: Any) -> Origin:
    principal: Principal | None = scope["user"]
    return Origin(
        source=f"{scope['method']} {scope['path_template']}",
        actor_id=principal.id if principal else None,
        session_id=principal.session_id if principal else None,
        address=scope["client"][0] if scope["client"] else None,
        request_id=scope.get("request_id"),
    )


def _has_authorization(scope: Scope) -> bool:
    return any(name == b"authorization" for name, _ in scope["headers"])


def _bearer_token(scope: Scope) -> str | None:
    """None also when two Authorization headers disagree about who asks."""
    values = [value for name, value in scope["headers"] if name == b"authorization"]
    if len(values) != 1:
        return None
    kind, _, token = values[0].decode("latin-1").partition(" ")
    return token.strip() if kind.lower() == "bearer" else None
