from datetime import timedelta
from typing import Any

from litestar import Controller, Request
from litestar.params import JSONBody
from litestar.status_codes import HTTP_200_OK, HTTP_204_NO_CONTENT

from app.domain.sessions.models import UserSession
from app.domain.sessions.schemas import LoginCreate, RefreshCreate, TokenPairRead
from app.domain.sessions.services import Device, Grant, SessionService
from app.domain.users.services import UserService
from app.lib.access import CurrentUser, authenticated, public
from app.lib.dependencies import AppSettings, PasswordHashing, TokenIssuing
from app.lib.routing import post
from app.lib.tokens import AccessTokens


class AuthController(Controller):
    path = "/auth"
    tags = ["auth"]

    @post("/login", status_code=HTTP_200_OK, guards=[public], gate="passwords", rate_limit="sign_in")
    def login(
        self,
        data: JSONBody[LoginCreate],
        request: Request[Any, Any, Any],
        users: UserService,
        sessions: SessionService,
        passwords: PasswordHashing,
        tokens: TokenIssuing,
        settings: AppSettings,
    ) -> TokenPairRead:
        """Sign in with e-mail address and password."""
        user = users.authenticate(
            email=data.email,
            password=data.password,
            passwords=passwords,
            must_be_verified=settings.require_verified_email,
        )
        lifetime = timedelta(days=settings.refresh_token_expire_days)
        return _token_pair(sessions.sign_in(user, device=_device(request), lifetime=lifetime), tokens)

    @post("/refresh", status_code=HTTP_200_OK, guards=[public], rate_limit="refresh")
    def refresh(self, data: JSONBody[RefreshCreate], sessions: SessionService, tokens: TokenIssuing) -> TokenPairRead:
        """Exchange a refresh token for a new pair. It works once; a second use ends the session."""
        return _token_pair(sessions.refresh(data.refresh_token), tokens)

    @post("/logout", status_code=HTTP_204_NO_CONTENT, guards=[authenticated])
    def logout(self, sessions: SessionService, me: CurrentUser) -> None:
        """End this session: its access and refresh tokens stop working everywhere."""
        sessions.revoke(UserSession.id == me.session_id, reason="logout")


def _token_pair(grant: Grant, tokens: AccessTokens) -> TokenPairRead:
    return TokenPairRead(
        access_token=tokens.issue(grant.principal),
        refresh_token=grant.refresh_token,
        expires_in=int(tokens.lifetime.total_seconds()),
    )


def _device(request: Request[Any, Any, Any]) -> Device:
    return Device(
        address=request.client.host if request.client else "",
        user_agent=request.headers.get("user-agent", ""),
    )
