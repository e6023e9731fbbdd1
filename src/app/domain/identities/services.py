import hmac
import re
from collections.abc import Collection
from datetime import timedelta
from typing import NoReturn
from uuid import UUID

from sqlalchemy import ColumnElement, func, select, update
from sqlalchemy.dialects.postgresql import insert
from uuid_utils.compat import uuid7

from app.domain.audit.models import Action, Outcome
from app.domain.audit.services import AuditService
from app.domain.identities.errors import (
    EmailNotVerifiedError,
    IdentityTakenError,
    InvalidSignInCodeError,
    InvalidStateError,
    LastSignInMethodError,
)
from app.domain.identities.jobs import send_identity_notice
from app.domain.identities.models import AuthorizationRequest, Identity, SignInCode
from app.domain.registrations.services import RegistrationService
from app.domain.sessions.models import UserSession
from app.domain.sessions.services import SessionService
from app.domain.users.models import User
from app.domain.users.services import UserService
from app.lib.db.models import utc_now
from app.lib.db.service import Repository, Service
from app.lib.errors import NotAuthenticatedError
from app.lib.jobs.broker import enqueue
from app.lib.random_secrets import hash_of, new_secret
from app.lib.social.person import Person, SignInRefusedError

REQUEST_LIFETIME = timedelta(minutes=10)
CODE_LIFETIME = timedelta(seconds=60)
MAX_TRIES = 5
"""Of one sign-in code: enough for a second factor that was mistyped."""
NOT_IN_A_NAME = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]|=\?")


class IdentityService(Service[Identity]):
    class Repo(Repository[Identity]):
        model_type = Identity

    repository_type = Repo

    def sign_in(self, person: Person, *, provider: str) -> Identity:
        """The identity of somebody who comes from a provider, of a new account if need be.

        A verified address leads to the account that has it. If nobody had proved that address here, whoever made
        the account has lost it: password and sessions end. Raises EmailNotVerifiedError, AddressReservedError, and
        SignInRefusedError when the account is deactivated.
        """
        known = self.get_one_or_none(*_is(person))
        if known:
            self._active_user(User.id == known.user_id)
            return self._used(known, person)
        if person.email is None or not person.is_email_verified:
            raise EmailNotVerifiedError
        registrations = RegistrationService(self.session)
        is_new = registrations.register_verified(email=person.email, **_names(person))
        user = self._active_user(User.email == person.email)
        if was_unverified := not user.is_verified:
            registrations.reclaim(user, **_names(person))
        identity = self._add(user, person, provider)
        if not is_new and identity.last_used_at is None:
            self._notify(identity, was_reclaimed=was_unverified)
        return self._used(identity, person)

    def link(self, person: Person, *, provider: str, session_id: UUID) -> Identity:
        """Give the user of a session another way to sign in.

        Raises IdentityTakenError when it is somebody else's, and NotAuthenticatedError when the session has ended.
        """
        user_id = select(UserSession.user_id).where(UserSession.id == session_id)
        user = UserService(self.session).lock(User.id.in_(user_id), User.is_active.is_(True))
        if user is None:
            raise NotAuthenticatedError
        SessionService(self.session).refuse_ended(session_id)
        known = self.get_one_or_none(*_is(person))
        identity = known or self._add(user, person, provider)
        if identity.user_id != user.id:
            raise IdentityTakenError
        if person.is_email_verified and person.email == user.email:
            user.is_verified = True
        if known is None:
            self._notify(identity, was_reclaimed=False, key=user.notice_key("identity-notice"))
        return identity

    def unlink(self, identity_id: UUID, *, user_id: UUID, issuers: Collection[str]) -> None:
        """End what was signed in with it, and forget it. `issuers` are those with which one can sign in today.

        Raises NotFoundError, and LastSignInMethodError. The user's row is locked: two at once must not take each the
        other's last way in. So is the identity's, before sessions are looked for: one that is just beginning with it
        is waited for, or fails.
        """
        user = UserService(self.session).lock(User.id == user_id)
        identity = self.get_one(Identity.id == identity_id, Identity.user_id == user_id, with_for_update=True)
        others = (Identity.user_id == user_id, Identity.id != identity_id, Identity.issuer.in_(issuers))
        if (user is None or user.password_hash is None) and not self.exists(*others):
            raise LastSignInMethodError
        self._record(Action.IDENTITY_UNLINKED, identity)
        SessionService(self.session).revoke(UserSession.identity_id == identity_id, reason="identity_unlinked")
        self.remove(identity)

    def _active_user(self, which: ColumnElement[bool]) -> User:
        """Locked, so that what is decided from it stays true."""
        user = UserService(self.session).lock(which, User.is_active.is_(True))
        if user is None:
            raise SignInRefusedError
        return user

    def _add(self, user: User, person: Person, provider: str) -> Identity:
        """Its row, or that of somebody who was faster. Raises IdentityTakenError when that is of another user."""
        values = {"user_id": user.id, "provider": provider, "issuer": person.issuer, "subject": person.subject}
        row = insert(Identity).values(id=uuid7(), email=person.email, **values)
        made = row.on_conflict_do_nothing(index_elements=[Identity.issuer, Identity.subject]).returning(Identity.id)
        is_new = self.session.scalar(made) is not None
        identity = self.get_one(*_is(person))
        if identity.user_id != user.id:
            raise IdentityTakenError
        if is_new:
            self._record(Action.IDENTITY_LINKED, identity)
        return identity

    def _record(self, action: Action, identity: Identity) -> None:
        AuditService(self.session).record(
            action,
            subject=("user", identity.user_id),
            actor_id=identity.user_id,
            details={"identity_id": identity.id, "provider": identity.provider},
        )

    def _notify(self, identity: Identity, *, was_reclaimed: bool, key: str | None = None) -> None:
        enqueue(
            self.session,
            send_identity_notice,
            key=key,
            once=True,
            user_id=identity.user_id,
            identity_id=identity.id,
            was_reclaimed=was_reclaimed,
        )

    def _used(self, identity: Identity, person: Person) -> Identity:
        identity.last_used_at, identity.email = utc_now(), person.email
        return identity


class AuthorizationRequestService(Service[AuthorizationRequest]):
    class Repo(Repository[AuthorizationRequest]):
        model_type = AuthorizationRequest

    repository_type = Repo

    def start(
        self,
        *,
        state: str,
        provider: str,
        browser: str,
        destination: str,
        wants_code: bool = False,
        session_id: UUID | None = None,
    ) -> None:
        """Remember that this browser was sent to this provider; `browser` is the secret in its cookie."""
        self.create(
            AuthorizationRequest(
                state_hash=hash_of(state),
                browser_hash=hash_of(browser),
                provider=provider,
                destination=destination,
                wants_code=wants_code,
                session_id=session_id,
                expires_at=utc_now() + REQUEST_LIFETIME,
            )
        )

    def claim(self, *, state: str, provider: str, browser: str) -> AuthorizationRequest:
        """The request that this state belongs to, for the first who asks, in whichever process.

        Raises InvalidStateError. Another browser cannot use it up.
        """
        found = self.get_one_or_none(
            AuthorizationRequest.state_hash == hash_of(state),
            AuthorizationRequest.provider == provider,
            AuthorizationRequest.expires_at > utc_now(),
        )
        if found is None or not hmac.compare_digest(found.browser_hash, hash_of(browser)):
            raise InvalidStateError
        is_first = self.session.scalar(
            update(AuthorizationRequest)
            .where(AuthorizationRequest.id == found.id, AuthorizationRequest.used_at.is_(None))
            .values(used_at=func.now())
            .returning(AuthorizationRequest.id)
        )
        if is_first is None:
            raise InvalidStateError
        return found


class SignInCodeService(Service[SignInCode]):
    class Repo(Repository[SignInCode]):
        model_type = SignInCode

    repository_type = Repo

    def issue(self, identity: Identity, request: AuthorizationRequest) -> str:
        """A code for the frontend at the request's destination. On our own origin it must bring the cookie, too."""
        code = new_secret()
        self.create(
            SignInCode(
                code_hash=hash_of(code),
                identity_id=identity.id,
                browser_hash=request.browser_hash,
                needs_browser=request.destination.startswith("/"),
                expires_at=utc_now() + CODE_LIFETIME,
            )
        )
        return code

    def open(
        self, code: str, *, browser: str | None, is_same_site: bool, must_be_verified: bool
    ) -> tuple[SignInCode, User]:
        """The code and who it signs in, both locked. One that is refused after this may be tried again.

        The user comes first, as wherever an identity goes and its codes with it. `browser` is the secret in the
        cookie: whoever could have sent it must. Raises InvalidSignInCodeError.
        """
        now, code_hash = utc_now(), hash_of(code)
        of_code = select(Identity.user_id).join(SignInCode).where(SignInCode.code_hash == code_hash)
        user = UserService(self.session).lock(User.id.in_(of_code), User.is_active.is_(True))
        found = self.session.scalar(
            select(SignInCode)
            .where(SignInCode.code_hash == code_hash, SignInCode.used_at.is_(None), SignInCode.expires_at > now)
            .where(SignInCode.tries < MAX_TRIES)
            .with_for_update()
        )
        if found is None:
            self._refuse(user)
        found.tries += 1
        is_foreign = browser is not None and not hmac.compare_digest(found.browser_hash, hash_of(browser))
        if is_foreign or (browser is None and (is_same_site or found.needs_browser)):
            self._refuse(user)
        if user is None or (must_be_verified and not user.is_verified):
            self._refuse(user)
        return found, user

    def use(self, code: SignInCode) -> None:
        """It has become a session."""
        code.used_at = utc_now()
        self.session.flush()

    def _refuse(self, user: User | None) -> NoReturn:
        AuditService(self.session).record(
            Action.SESSION_CREATED, subject=user, outcome=Outcome.FAILURE, details={"reason": "invalid_code"}
        )
        raise InvalidSignInCodeError


def _is(person: Person) -> tuple[ColumnElement[bool], ColumnElement[bool]]:
    """Never by the address: that can be given to somebody else (ASVS 6.8.1)."""
    return Identity.issuer == person.issuer, Identity.subject == person.subject


def _names(person: Person) -> dict[str, str]:
    """As somebody registering could have typed them; without any, what stands before the @."""
    local_part = (person.email or "").partition("@")[0]
    first, last = (NOT_IN_A_NAME.sub("", name).strip()[:100] for name in (person.first_name, person.last_name))
    return {"first_name": first or local_part[:100], "last_name": last}
