from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from litestar import Controller, Request, Response
from litestar.openapi import ResponseSpec
from litestar.params import FromPath, FromQuery, JSONBody
from litestar.status_codes import HTTP_200_OK, HTTP_204_NO_CONTENT

from app.domain.sessions.errors import InvalidRefreshTokenError
from app.domain.sessions.models import UserSession
from app.domain.sessions.schemas import (
    AccessTokenRead,
    LoginCreate,
    ReauthenticationCreate,
    RefreshCreate,
    SessionRead,
    SessionSort,
    TokenPairRead,
)
from app.domain.sessions.services import Device, Grant, SessionService, is_live, principal_of
from app.domain.totp.errors import TotpRequiredError
from app.domain.totp.services import TotpService
from app.domain.users.models import User
from app.domain.users.services import UserService
from app.lib.access import CurrentUser, Principal, authenticated, public
from app.lib.csrf import CSRF_HEADER, from_our_pages
from app.lib.dependencies import AppSettings, CookieIssuing, Keys, PasswordHashing, TokenIssuing
from app.lib.errors import InvalidInputError, NotAuthenticatedError
from app.lib.pagination import Page, PageQuery, contains
from app.lib.passwords import Passwords
from app.lib.routing import delete, get, post
from app.lib.secret_keys import SecretKeys
from app.lib.session_cookies import SessionCookies
from app.lib.settings import Settings
from app.lib.tokens import AccessTokens

AnyRequest = Request[Any, Any, Any]


class AuthController(Controller):
    path = "/auth"
    tags = ["auth"]

    @post("/login", status_code=HTTP_200_OK, guards=[public], gate="passwords", rate_limit="sign_in")
    def login(
        self,
        data: JSONBody[LoginCreate],
        request: AnyRequest,
        users: UserService,
        sessions: SessionService,
        passwords: PasswordHashing,
        tokens: TokenIssuing,
        keys: Keys,
        settings: AppSettings,
    ) -> TokenPairRead:
        """Sign in with e-mail address and password.

        An account with two-factor authentication is asked for a code as well (`totp_required`): come again with all.
        """
        return _token_pair(_sign_in(data, request, users, sessions, passwords, keys, settings), tokens)

    @post("/refresh", status_code=HTTP_200_OK, guards=[public], rate_limit="refresh")
    def refresh(
        self, data: JSONBody[RefreshCreate], sessions: SessionService, tokens: TokenIssuing, settings: AppSettings
    ) -> TokenPairRead:
        """Exchange a refresh token for a new pair. It works once; a second use ends the session."""
        return _token_pair(sessions.refresh(data.refresh_token, max_idle=_max_idle(settings)), tokens)

    @post("/logout", status_code=HTTP_204_NO_CONTENT, guards=[authenticated])
    def logout(self, sessions: SessionService, me: CurrentUser) -> None:
        """End this session: its access and refresh tokens stop working everywhere."""
        sessions.revoke(UserSession.id == me.session_id, reason="logout")

    @post(
        "/reauthentication",
        status_code=HTTP_200_OK,
        guards=[authenticated],
        gate="passwords",
        rate_limit="sign_in",
        responses={204: ResponseSpec(None, description="The cookie has been replaced.", generate_examples=False)},
    )
    def reauthenticate(
        self,
        data: JSONBody[ReauthenticationCreate],
        request: AnyRequest,
        users: UserService,
        totp: TotpService,
        sessions: SessionService,
        passwords: PasswordHashing,
        tokens: TokenIssuing,
        session_cookies: CookieIssuing,
        keys: Keys,
        me: CurrentUser,
    ) -> Response[AccessTokenRead]:
        """Prove again who I am, before what needs a recent sign-in: with the password, or a code of the app.

        Where signing in takes a code, the password alone is not enough: it could switch the code off. The answer is
        an access token that says so, or replaces the cookie of a browser.
        """
        if data.password is None and data.totp is None:
            raise InvalidInputError("Send the password, or a code of the authenticator app.", field="password")
        if data.totp is None and totp.is_enabled(me.id):
            raise InvalidInputError(TotpRequiredError.detail, field="totp")
        if data.totp is not None:
            totp.verify(me.id, data.totp, address=_device(request).address, keys=keys)
        if data.password is not None:
            users.verify_password(me.id, data.password, passwords=passwords)
        user = users.get_one(User.id == me.id)
        row = sessions.reauthenticate(user, me.session_id)
        if _has_authorization(request):
            return Response(_access_token(principal_of(row, user), tokens, until=row.expires_at))
        cookie = session_cookies.access(principal_of(row, user), until=row.expires_at)
        return Response[Any](None, status_code=HTTP_204_NO_CONTENT, cookies=[cookie])


class CookieController(Controller):
    """For browsers: the tokens travel in cookies only, and what they send must come from one of our pages."""

    path = "/auth/cookie"
    tags = ["auth"]
    guards = [public, from_our_pages]

    @post("/login", status_code=HTTP_204_NO_CONTENT, gate="passwords", rate_limit="sign_in")
    def login_with_cookies(
        self,
        data: JSONBody[LoginCreate],
        request: AnyRequest,
        users: UserService,
        sessions: SessionService,
        passwords: PasswordHashing,
        session_cookies: CookieIssuing,
        keys: Keys,
        settings: AppSettings,
    ) -> Response[None]:
        """Sign a browser in.

        The session whose cookies it has brought ends. `X-CSRF-Token` of the answer is for the requests that follow.
        """
        grant = _sign_in(data, request, users, sessions, passwords, keys, settings)
        held = _held_sessions(request, sessions, session_cookies)
        sessions.revoke(UserSession.id.in_(held), reason="replaced")
        return _with_cookies(grant, session_cookies)

    @post("/refresh", status_code=HTTP_204_NO_CONTENT, rate_limit="refresh")
    def refresh_cookies(
        self, request: AnyRequest, sessions: SessionService, session_cookies: CookieIssuing, settings: AppSettings
    ) -> Response[None]:
        """Exchange the cookies for new ones. Needs `X-CSRF-Token`, without which the refresh token is not used up."""
        refresh_token = session_cookies.refresh_token(request.scope["headers"]) or ""
        session_id = sessions.find_session(refresh_token)
        if session_id is None or _has_authorization(request):
            raise InvalidRefreshTokenError
        session_cookies.csrf.check(request.scope["headers"], session_id)
        return _with_cookies(sessions.refresh(refresh_token, max_idle=_max_idle(settings)), session_cookies)

    @post("/logout", status_code=HTTP_204_NO_CONTENT, rate_limit="refresh")
    def logout_with_cookies(
        self, request: AnyRequest, sessions: SessionService, session_cookies: CookieIssuing
    ) -> Response[None]:
        """End the session of a browser, which then forgets its cookies. Needs `X-CSRF-Token`."""
        held = _held_sessions(request, sessions, session_cookies)
        if not held or _has_authorization(request):
            raise NotAuthenticatedError
        for session_id in held:
            session_cookies.csrf.check(request.scope["headers"], session_id)
        sessions.revoke(UserSession.id.in_(held), reason="logout")
        return Response(None, status_code=HTTP_204_NO_CONTENT, cookies=session_cookies.removal())


class MySessionController(Controller):
    path = "/users/me/sessions"
    tags = ["users"]
    guards = [authenticated]

    @get()
    def list_my_sessions(
        self,
        sessions: SessionService,
        me: CurrentUser,
        page: PageQuery,
        settings: AppSettings,
        sort: FromQuery[SessionSort] = "-last_seen_at",
    ) -> Page[SessionRead]:
        """List where I am signed in."""
        mine = (UserSession.user_id == me.id, *is_live(_max_idle(settings)))
        text = contains(page.q, UserSession.user_agent, UserSession.address)
        found = sessions.page(*mine, text, page=page, sort=sort, into=SessionRead)
        for each in found.items:
            each.is_current = each.id == me.session_id
        return found

    @delete()
    def end_my_other_sessions(self, sessions: SessionService, me: CurrentUser) -> None:
        """Sign out everywhere else."""
        sessions.end_all(me.id, but=me.session_id, reason="ended_by_user")

    @delete("/{session_id:uuid}")
    def end_my_session(self, session_id: FromPath[UUID], sessions: SessionService, me: CurrentUser) -> None:
        """Sign out somewhere."""
        sessions.end(session_id, user_id=me.id)


def _sign_in(
    data: LoginCreate,
    request: AnyRequest,
    users: UserService,
    sessions: SessionService,
    passwords: Passwords,
    keys: SecretKeys,
    settings: Settings,
) -> Grant:
    """Raises InvalidCredentialsError, TotpRequiredError and TooManyRequestsError."""
    device = _device(request)
    user = users.authenticate(
        email=data.email,
        password=data.password,
        totp=data.totp,
        address=device.address,
        passwords=passwords,
        keys=keys,
        must_be_verified=settings.require_verified_email,
    )
    lifetime = timedelta(days=settings.refresh_token_expire_days)
    return sessions.sign_in(user, device=device, lifetime=lifetime)


def _device(request: AnyRequest) -> Device:
    return Device(
        address=request.client.host if request.client else "",
        user_agent=request.headers.get("user-agent", ""),
    )


def _max_idle(settings: Settings) -> timedelta:
    return timedelta(hours=settings.session_idle_expire_hours)


def _access_token(principal: Principal, tokens: AccessTokens, *, until: datetime) -> AccessTokenRead:
    return AccessTokenRead(access_token=tokens.issue(principal, until=until), expires_in=tokens.seconds(until))


def _token_pair(grant: Grant, tokens: AccessTokens) -> TokenPairRead:
    access = _access_token(grant.principal, tokens, until=grant.expires_at)
    return TokenPairRead(
        access_token=access.access_token, expires_in=access.expires_in, refresh_token=grant.refresh_token
    )


def _with_cookies(grant: Grant, cookies: SessionCookies) -> Response[None]:
    return Response(
        None,
        status_code=HTTP_204_NO_CONTENT,
        cookies=cookies.of(grant.principal, refresh_token=grant.refresh_token, until=grant.expires_at),
        headers={CSRF_HEADER: cookies.csrf.token_of(grant.principal.session_id)},
    )


def _held_sessions(request: AnyRequest, sessions: SessionService, cookies: SessionCookies) -> set[UUID]:
    """What the cookies name: that of the refresh token is there when that of the access token has gone."""
    headers = request.scope["headers"]
    refresh_token = cookies.refresh_token(headers)
    named = (cookies.session_of(headers), refresh_token and sessions.find_session(refresh_token))
    return {session_id for session_id in named if isinstance(session_id, UUID)}


def _has_authorization(request: AnyRequest) -> bool:
    """Then it alone says who asks, and the cookies beside it are nobody's."""
    return "authorization" in request.headers
