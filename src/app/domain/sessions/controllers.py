from typing import Any
from uuid import UUID

from litestar import Controller, Response
from litestar.openapi import ResponseSpec
from litestar.params import FromPath, FromQuery, JSONBody
from litestar.status_codes import HTTP_200_OK, HTTP_204_NO_CONTENT

from app.domain.identities.services import SignInCodeService
from app.domain.sessions.errors import InvalidRefreshTokenError
from app.domain.sessions.models import UserSession
from app.domain.sessions.schemas import (
    LoginCreate,
    ReauthenticationCreate,
    RefreshCreate,
    SessionRead,
    SessionSort,
    SignInCodeCreate,
)
from app.domain.sessions.services import SessionService, is_live, principal_of
from app.domain.users.services import UserService
from app.lib.access.guards import CurrentUser, authenticated, public
from app.lib.csrf import from_our_pages
from app.lib.dependencies import AppSettings, CookieIssuing, Keys, PasswordHashing, TokenIssuing
from app.lib.errors import NotAuthenticatedError
from app.lib.pagination import Page, PageQuery, contains
from app.lib.passwords import Passwords
from app.lib.routing import delete, get, post
from app.lib.secret_keys import SecretKeys
from app.lib.session_cookies import SessionCookies
from app.lib.settings import Settings
from app.lib.sign_ins import (
    AccessTokenRead,
    AnyRequest,
    Grant,
    TokenPairRead,
    access_token_of,
    device_of,
    token_pair_of,
    with_cookies,
)
from app.lib.social.browser import browser_of


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
        return token_pair_of(_sign_in(data, request, users, sessions, passwords, keys, settings), tokens)

    @post("/refresh", status_code=HTTP_200_OK, guards=[public], rate_limit="refresh")
    def refresh(
        self, data: JSONBody[RefreshCreate], sessions: SessionService, tokens: TokenIssuing, settings: AppSettings
    ) -> TokenPairRead:
        """Exchange a refresh token for a new pair. It works once; a second use ends the session."""
        return token_pair_of(sessions.refresh(data.refresh_token, max_idle=settings.session_idle_lifetime), tokens)

    @post("/logout", status_code=HTTP_204_NO_CONTENT, guards=[authenticated])
    def logout(self, sessions: SessionService, me: CurrentUser) -> None:
        """End this session: its access and refresh tokens stop working everywhere."""
        sessions.revoke(UserSession.id == me.session_id, reason="logout")

    @post("/providers/exchange", status_code=HTTP_200_OK, guards=[public], rate_limit="sign_in")
    def exchange_sign_in_code(
        self,
        data: JSONBody[SignInCodeCreate],
        request: AnyRequest,
        codes: SignInCodeService,
        users: UserService,
        sessions: SessionService,
        tokens: TokenIssuing,
        keys: Keys,
        settings: AppSettings,
    ) -> TokenPairRead:
        """Exchange the code of a sign-in with a provider for tokens.

        It works once, within a minute. An account with two-factor authentication is asked for a code of its app as
        well (`totp_required`): come again with both.
        """
        return token_pair_of(_exchange(data, request, codes, users, sessions, keys, settings), tokens)

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
        address = device_of(request).address
        user = users.prove(me.id, data.password, data.totp, address=address, passwords=passwords, keys=keys)
        row = sessions.reauthenticate(user, me.session_id)
        if _has_authorization(request):
            return Response(access_token_of(principal_of(row, user), tokens, until=row.expires_at))
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
        return _replace_cookies(grant, request, sessions, session_cookies)

    @post("/exchange", status_code=HTTP_204_NO_CONTENT, rate_limit="sign_in")
    def exchange_sign_in_code_for_cookies(
        self,
        data: JSONBody[SignInCodeCreate],
        request: AnyRequest,
        codes: SignInCodeService,
        users: UserService,
        sessions: SessionService,
        session_cookies: CookieIssuing,
        keys: Keys,
        settings: AppSettings,
    ) -> Response[None]:
        """Sign a browser in with the code of a sign-in with a provider.

        The session whose cookies it has brought ends. `X-CSRF-Token` of the answer is for the requests that follow.
        """
        grant = _exchange(data, request, codes, users, sessions, keys, settings)
        return _replace_cookies(grant, request, sessions, session_cookies)

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
        return with_cookies(sessions.refresh(refresh_token, max_idle=settings.session_idle_lifetime), session_cookies)

    @post("/logout", status_code=HTTP_204_NO_CONTENT, rate_limit="refresh")
    def logout_with_cookies(
        self, request: AnyRequest, sessions: SessionService, session_cookies: CookieIssuing
    ) -> Response[None]:
        """End the session of a browser, which then forgets its cookies. Needs `X-CSRF-Token`."""
        held = sessions.held_by(session_cookies, request.scope["headers"])
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
        mine = (UserSession.user_id == me.id, *is_live(settings.session_idle_lifetime))
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
    device = device_of(request)
    user = users.authenticate(
        email=data.email,
        password=data.password,
        totp=data.totp,
        address=device.address,
        passwords=passwords,
        keys=keys,
        must_be_verified=settings.require_verified_email,
    )
    return sessions.sign_in(user, device=device, lifetime=settings.session_lifetime)


def _exchange(
    data: SignInCodeCreate,
    request: AnyRequest,
    codes: SignInCodeService,
    users: UserService,
    sessions: SessionService,
    keys: SecretKeys,
    settings: Settings,
) -> Grant:
    """Raises InvalidSignInCodeError, TotpRequiredError, WrongCodeError and TooManyRequestsError."""
    device = device_of(request)
    code, user = codes.open(
        data.code,
        browser=browser_of(request.cookies, settings),
        is_same_site=request.headers.get("sec-fetch-site") in {"same-origin", "same-site"},
        must_be_verified=settings.require_verified_email,
    )
    users.ask_second_factor(user, data.totp, address=device.address, keys=keys)
    codes.use(code)
    return sessions.sign_in(user, device=device, lifetime=settings.session_lifetime, identity_id=code.identity_id)


def _replace_cookies(
    grant: Grant, request: AnyRequest, sessions: SessionService, cookies: SessionCookies
) -> Response[None]:
    held = sessions.held_by(cookies, request.scope["headers"])
    sessions.revoke(UserSession.id.in_(held), reason="replaced")
    return with_cookies(grant, cookies)


def _has_authorization(request: AnyRequest) -> bool:
    """Then it alone says who asks, and the cookies beside it are nobody's."""
    return "authorization" in request.headers
