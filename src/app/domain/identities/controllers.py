import functools
from typing import Annotated
from uuid import UUID

from litestar import Controller, Response
from litestar.params import FromPath, FromQuery, JSONBody, QueryParameter
from litestar.status_codes import HTTP_200_OK, HTTP_302_FOUND
from sqlalchemy.orm import Session

from app.domain.audit.models import Action, Outcome
from app.domain.audit.services import AuditService
from app.domain.identities.errors import EmailNotVerifiedError, IdentityTakenError, InvalidStateError
from app.domain.identities.models import AuthorizationRequest, Identity
from app.domain.identities.schemas import (
    AuthorizationRead,
    Destination,
    IdentityCreate,
    IdentityRead,
    IdentitySort,
    Mode,
    ProviderRead,
)
from app.domain.identities.services import (
    REQUEST_LIFETIME,
    AuthorizationRequestService,
    IdentityService,
    SignInCodeService,
)
from app.domain.registrations.errors import AddressReservedError
from app.domain.sessions.models import UserSession
from app.domain.sessions.services import SessionService
from app.domain.totp.services import TotpService
from app.domain.users.models import User
from app.lib.access.guards import CurrentUser, authenticated, public, recently_authenticated
from app.lib.db.database import Database
from app.lib.dependencies import AppSettings, CookieIssuing, SocialProviders, UnitsOfWork
from app.lib.errors import ApplicationError, NotAuthenticatedError
from app.lib.outgoing import ProviderUnavailableError
from app.lib.pagination import Page, PageQuery, contains
from app.lib.random_secrets import new_secret
from app.lib.redirections import safe_destination
from app.lib.routing import delete, get, post
from app.lib.session_cookies import SessionCookies
from app.lib.settings import Settings
from app.lib.sign_ins import AnyRequest, device_of, with_cookies
from app.lib.social.browser import browser_cookie, browser_of
from app.lib.social.challenge import challenge_of
from app.lib.social.person import Callback, Challenge, Person, SignInRefusedError

Parameter = Annotated[str | None, QueryParameter(max_length=4096)]
REASONS: dict[type[ApplicationError], str] = {
    ProviderUnavailableError: "provider_unavailable",
    SignInRefusedError: "sign_in_refused",
    EmailNotVerifiedError: "email_not_verified",
    AddressReservedError: "address_reserved",
    IdentityTakenError: "identity_taken",
    NotAuthenticatedError: "not_authenticated",
}
"""What the frontend finds behind `#error=` at `next`."""
CANCELLED = "access_denied"
"""What providers say when somebody would rather not (RFC 6749 section 4.1.2.1)."""


class ProviderController(Controller):
    """`authorize` and `callback` are GETs that write, because browsers are sent there. They call providers, so their
    units of work are their own, and none is open meanwhile."""

    path = "/auth/providers"
    tags = ["auth"]
    guards = [public]

    @get()
    def list_providers(self, providers: SocialProviders, settings: AppSettings) -> list[ProviderRead]:
        """List with whom one can sign in."""
        return [
            ProviderRead(name=each.name, label=each.label, authorize_url=f"{_url(each.name, settings)}/authorize")
            for each in providers
        ]

    @get("/{name:str}/authorize", status_code=HTTP_302_FOUND, gate="providers", rate_limit="write")
    def authorize_with_provider(
        self,
        name: FromPath[str],
        request: AnyRequest,
        providers: SocialProviders,
        units: UnitsOfWork,
        settings: AppSettings,
        destination: Annotated[Destination, QueryParameter(name="next")] = "/",
        mode: FromQuery[Mode] = "cookies",
    ) -> Response[None]:
        """Send the browser to a provider, to sign in.

        It comes back to `next`. To a path it comes with cookies, signed in; with `mode=code`, to a URL of a listed
        origin, or where a second factor is asked for, with `#code=` for `auth/providers/exchange`; or with `#error=`.
        """
        provider, destination = providers.get(name), _destination(destination, settings)
        challenge, browser = _new_challenge(name, settings), _browser(request, settings)
        url = provider.authorization_url(challenge)
        units.write(
            lambda session: AuthorizationRequestService(session).start(
                state=challenge.state,
                provider=name,
                browser=browser,
                destination=destination,
                wants_code=mode == "code" or not destination.startswith("/"),
            )
        )
        cookie = browser_cookie(browser, settings, lifetime=REQUEST_LIFETIME)
        return Response(None, status_code=HTTP_302_FOUND, headers={"Location": url}, cookies=[cookie])

    @get("/{name:str}/callback", status_code=HTTP_302_FOUND, gate="providers", rate_limit="write")
    def return_from_provider(
        self,
        name: FromPath[str],
        request: AnyRequest,
        providers: SocialProviders,
        units: UnitsOfWork,
        session_cookies: CookieIssuing,
        settings: AppSettings,
        sent_state: Annotated[str | None, QueryParameter(name="state", max_length=4096)] = None,
        code: Parameter = None,
        iss: Parameter = None,
        error: Parameter = None,
    ) -> Response[None]:
        """Come back from a provider.

        Only browsers are sent here. A `state` works once, in the browser to which it was given.
        """
        provider, browser = providers.get(name), browser_of(request.cookies, settings)
        if not sent_state or browser is None:
            raise InvalidStateError
        begun = units.write(
            lambda session: AuthorizationRequestService(session).claim(state=sent_state, provider=name, browser=browser)
        )
        if error or not code:
            return _refuse(begun, CANCELLED if error == CANCELLED else REASONS[SignInRefusedError], units)
        try:
            person = provider.identify(Callback(code=code, issuer=iss), _challenge(name, sent_state, settings))
            arrival = functools.partial(_arrive, person, begun, request, session_cookies, settings)
            return units.write(arrival)
        except tuple(REASONS) as refusal:
            return _refuse(begun, next(REASONS[kind] for kind in type(refusal).__mro__ if kind in REASONS), units)


class MyIdentityController(Controller):
    path = "/users/me/identities"
    tags = ["users"]

    @get(guards=[authenticated])
    def list_my_identities(
        self,
        identities: IdentityService,
        me: CurrentUser,
        page: PageQuery,
        sort: FromQuery[IdentitySort] = "created_at",
    ) -> Page[IdentityRead]:
        """List the providers with whom I can sign in."""
        text = contains(page.q, Identity.provider, Identity.email)
        return identities.page(Identity.user_id == me.id, text, page=page, sort=sort, into=IdentityRead)

    @post(status_code=HTTP_200_OK, guards=[recently_authenticated], gate="providers")
    def create_my_identity(
        self,
        data: JSONBody[IdentityCreate],
        request: AnyRequest,
        requests: AuthorizationRequestService,
        providers: SocialProviders,
        settings: AppSettings,
        me: CurrentUser,
    ) -> Response[AuthorizationRead]:
        """Begin to link another provider to my account.

        The answer sets a cookie: send the browser that has it to `authorize_url`, within ten minutes. It comes back
        to `next` with `#linked=` and the provider's name, or with `#error=`.
        """
        provider, destination = providers.get(data.provider), _destination(data.next, settings)
        challenge, browser = _new_challenge(provider.name, settings), _browser(request, settings)
        url = provider.authorization_url(challenge)  # before any statement: no connection waits for it
        requests.start(
            state=challenge.state,
            provider=provider.name,
            browser=browser,
            destination=destination,
            session_id=me.session_id,
        )
        cookie = browser_cookie(browser, settings, lifetime=REQUEST_LIFETIME)
        return Response(AuthorizationRead(authorize_url=url), cookies=[cookie])

    @delete("/{identity_id:uuid}", guards=[recently_authenticated])
    def delete_my_identity(
        self, identity_id: FromPath[UUID], identities: IdentityService, providers: SocialProviders, me: CurrentUser
    ) -> None:
        """Unlink a provider from my account.

        Sessions that were begun with it end, perhaps this one. The last way to sign in cannot be unlinked.
        """
        identities.unlink(identity_id, user_id=me.id, issuers=providers.issuers())


def _arrive(
    person: Person,
    begun: AuthorizationRequest,
    request: AnyRequest,
    cookies: SessionCookies,
    settings: Settings,
    session: Session,
) -> Response[None]:
    identities = IdentityService(session)
    if begun.session_id:
        identities.link(person, provider=begun.provider, session_id=begun.session_id)
        return _back_to(begun, linked=begun.provider)
    identity = identities.sign_in(person, provider=begun.provider)
    if begun.wants_code or TotpService(session).is_enabled(identity.user_id):
        return _back_to(begun, code=SignInCodeService(session).issue(identity, begun))
    user = session.get_one(User, identity.user_id)
    if settings.require_verified_email and not user.is_verified:
        raise EmailNotVerifiedError
    sessions = SessionService(session)
    sessions.revoke(UserSession.id.in_(sessions.held_by(cookies, request.scope["headers"])), reason="replaced")
    device, lifetime = device_of(request), settings.session_lifetime
    grant = sessions.sign_in(user, device=device, lifetime=lifetime, identity_id=identity.id)
    return with_cookies(grant, cookies, location=begun.destination)


def _refuse(begun: AuthorizationRequest, reason: str, units: Database) -> Response[None]:
    action = Action.IDENTITY_LINKED if begun.session_id else Action.SESSION_CREATED
    details = {"reason": reason, "provider": begun.provider, "session_id": begun.session_id}
    units.write(lambda session: AuditService(session).record(action, outcome=Outcome.FAILURE, details=details))
    return _back_to(begun, error=reason)


def _back_to(begun: AuthorizationRequest, **result: str) -> Response[None]:
    """In the fragment: browsers keep it from servers, from logs and from the Referer of the next page."""
    [(name, value)] = result.items()
    return Response(None, status_code=HTTP_302_FOUND, headers={"Location": f"{begun.destination}#{name}={value}"})


def _destination(text: str, settings: Settings) -> str:
    return safe_destination(text, origins=settings.frontend_origins, field="next")


def _browser(request: AnyRequest, settings: Settings) -> str:
    """The same for two sign-ins that were begun in two tabs."""
    return browser_of(request.cookies, settings) or new_secret()


def _new_challenge(name: str, settings: Settings) -> Challenge:
    return _challenge(name, new_secret(), settings)


def _challenge(name: str, state: str, settings: Settings) -> Challenge:
    return challenge_of(state, secret=settings.secret_key, redirect_uri=f"{_url(name, settings)}/callback")


def _url(name: str, settings: Settings) -> str:
    return f"{settings.public_url}{settings.api_v1_prefix}{ProviderController.path}/{name}"
