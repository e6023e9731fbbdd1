"""Any issuer of OpenID Connect, found by its discovery document; Google is one. Authlib speaks, our rules believe."""

import logging
import threading
import time
from collections.abc import Mapping, Sequence
from typing import Any

from joserfc.jwk import Key
from msgspec import Struct, ValidationError, convert

from app.lib.outgoing import Outgoing, refuse
from app.lib.social.exchange import authorization_url, fetch_token, oauth_client
from app.lib.social.id_token import Expected, UnbelievableTokenError, import_keys, verify_id_token
from app.lib.social.person import Callback, Challenge, Person, SignInRefusedError, known_email

GOOGLE = "https://accounts.google.com"
SCOPES = ("openid", "email", "profile")
FRESH = 3600.0
"""Seconds for which a discovery document and keys are kept."""
REFETCH_PAUSE = 60.0
"""Seconds between two looks for new keys, whatever tokens name."""

logger = logging.getLogger(__name__)


class _Metadata(Struct, frozen=True):
    """Of OpenID Connect Discovery section 3, what we use. Its list of algorithms is not: ours is fixed."""

    issuer: str
    authorization_endpoint: str
    token_endpoint: str
    jwks_uri: str
    userinfo_endpoint: str | None = None
    token_endpoint_auth_methods_supported: tuple[str, ...] = ("client_secret_basic",)
    authorization_response_iss_parameter_supported: bool = False


class OpenIDProvider:
    """Shared by all threads. What it fetched is replaced, never changed."""

    def __init__(
        self,
        *,
        name: str,
        label: str,
        issuer: str,
        client_id: str,
        client_secret: str,
        scopes: Sequence[str] = SCOPES,
        outgoing: Outgoing,
    ) -> None:
        self.name, self.label, self.issuer = name, label, issuer
        self._client_id, self._client_secret = client_id, client_secret
        self._scope = " ".join(dict.fromkeys(("openid", *scopes)))
        self._outgoing = outgoing
        self._lock = threading.Lock()
        self._discovered: tuple[float, _Metadata] | None = None
        self._keys: tuple[float, list[Key]] | None = None

    def authorization_url(self, challenge: Challenge) -> str:
        with self._client(metadata := self._metadata()) as client:
            return authorization_url(client, metadata.authorization_endpoint, challenge, nonce=challenge.nonce)

    def identify(self, callback: Callback, challenge: Challenge) -> Person:
        metadata = self._metadata()
        is_demanded = metadata.authorization_response_iss_parameter_supported
        if callback.issuer != self.issuer and (is_demanded or callback.issuer is not None):
            raise self._disbelieve("the callback is another issuer's (RFC 9207)")
        with self._client(metadata) as client:
            token = fetch_token(client, metadata.token_endpoint, code=callback.code, challenge=challenge)
        claims = self._believe(token, challenge)
        return self._person(claims, self._profile(claims, metadata, token["access_token"]))

    def _believe(self, token: Mapping[str, Any], challenge: Challenge) -> dict[str, Any]:
        """The claims of its id_token. A key that we do not know may be a new one."""
        id_token = token.get("id_token")
        if not isinstance(id_token, str):
            raise self._disbelieve("there is no id_token")
        expected = Expected(
            issuer=self.issuer,
            client_id=self._client_id,
            nonce=challenge.nonce,
            access_token=token["access_token"],
        )
        try:
            return verify_id_token(id_token, keys=self._known_keys(not_older_than=FRESH), expected=expected)
        except UnbelievableTokenError as error:
            if not error.might_be_new_key:
                raise self._disbelieve(str(error)) from error
        try:
            return verify_id_token(id_token, keys=self._known_keys(not_older_than=REFETCH_PAUSE), expected=expected)
        except UnbelievableTokenError as error:
            raise self._disbelieve(str(error)) from error

    def _profile(self, claims: dict[str, Any], metadata: _Metadata, access_token: str) -> dict[str, Any]:
        """The document that has the address: the id_token, or else userinfo, if it is about the same subject."""
        if "email" in claims or metadata.userinfo_endpoint is None:
            return claims
        found = self._outgoing.get_json(metadata.userinfo_endpoint, bearer=access_token)
        if not isinstance(found, dict) or found.get("sub") != claims["sub"]:
            raise self._disbelieve("userinfo is about somebody else")
        return found

    def _person(self, claims: dict[str, Any], profile: dict[str, Any]) -> Person:
        email = known_email(profile.get("email"))
        return Person(
            issuer=self.issuer,
            subject=claims["sub"],
            email=email,
            is_email_verified=email is not None and profile.get("email_verified") is True,  # not the text "true"
            first_name=_text(profile.get("given_name")) or _text(profile.get("name")),
            last_name=_text(profile.get("family_name")) if _text(profile.get("given_name")) else "",
        )

    def _metadata(self) -> _Metadata:
        """Raises ProviderUnavailableError, also when it is another issuer's or names what may not be called."""
        known = self._discovered
        if known and time.monotonic() - known[0] < FRESH:
            return known[1]
        url = f"{self.issuer.rstrip('/')}/.well-known/openid-configuration"
        try:
            metadata = convert(self._outgoing.get_json(url), _Metadata)
        except ValidationError as error:
            raise refuse(url, f"no discovery document: {error}") from error
        if metadata.issuer != self.issuer:
            raise refuse(url, f"its issuer is {metadata.issuer[:200]!a}")
        endpoints = (metadata.authorization_endpoint, metadata.token_endpoint, metadata.jwks_uri)
        optional = [metadata.userinfo_endpoint] if metadata.userinfo_endpoint else []
        if not all(map(self._outgoing.is_acceptable, [*endpoints, *optional])):
            raise refuse(url, "an endpoint is no https:// URL")
        self._discovered = time.monotonic(), metadata
        return metadata

    def _known_keys(self, *, not_older_than: float) -> list[Key]:
        """One thread at a time asks; the others wait for its answer, as long as a call may take."""
        with self._lock:
            if self._keys and time.monotonic() - self._keys[0] < not_older_than:
                return self._keys[1]
            keys = import_keys(self._outgoing.get_json(self._metadata().jwks_uri))
            self._keys = time.monotonic(), keys
            return keys

    def _client(self, metadata: _Metadata) -> Any:
        methods = metadata.token_endpoint_auth_methods_supported
        is_post = "client_secret_post" in methods  # no doubt about how the secret is encoded
        return oauth_client(
            self._client_id,
            self._client_secret,
            scope=self._scope,
            authentication="client_secret_post" if is_post else "client_secret_basic",
            outgoing=self._outgoing,
        )

    def _disbelieve(self, reason: str) -> SignInRefusedError:
        logger.warning("a sign-in with %s was refused: %s", self.name, reason)
        return SignInRefusedError()


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""
