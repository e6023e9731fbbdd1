"""Access tokens: JWTs as in RFC 9068, signed with a key derived from SECRET_KEY."""

from datetime import UTC, datetime, timedelta
from uuid import UUID

from joserfc import jwt
from joserfc.jwk import OctKey
from msgspec import Struct, convert
from uuid_utils.compat import uuid7

from app.lib.access.guards import Principal
from app.lib.errors import NotAuthenticatedError
from app.lib.secret_keys import derive_key

TOKEN_TYPE = "at+jwt"
MAX_TOKEN_LENGTH = 4096


class _Claims(Struct):
    sub: UUID
    sid: UUID
    jti: UUID
    iss: str
    aud: str
    iat: int
    exp: int
    auth_time: int
    su: bool = False


class AccessToken(Struct, frozen=True):
    """A token that was verified."""

    principal: Principal
    expires_at: float
    """Seconds since the epoch."""


class AccessTokens:
    """Issues and verifies. Every claim is required: a token that lacks one is refused (RFC 9068 section 4)."""

    def __init__(self, *, secret: str, algorithm: str, issuer: str, audience: str, lifetime: timedelta) -> None:
        self._key = OctKey.import_key(derive_key(secret, purpose="access-token"))
        self._algorithm = algorithm
        self._header = {"alg": algorithm, "typ": TOKEN_TYPE}
        self._issuer = issuer
        self._audience = audience
        self.lifetime = lifetime

    def seconds(self, until: datetime) -> int:
        """The life of a token that is issued now, which ends with its session."""
        return int(min(self.lifetime, until - datetime.now(UTC)).total_seconds())

    def issue(self, principal: Principal, *, until: datetime | None = None) -> str:
        """`until`: when its session ends."""
        now = int(datetime.now(UTC).timestamp())
        claims = {
            "iss": self._issuer,
            "aud": self._audience,
            "sub": str(principal.id),
            "sid": str(principal.session_id),
            "jti": str(uuid7()),
            "iat": now,
            "exp": now + (self.seconds(until) if until else int(self.lifetime.total_seconds())),
            "auth_time": principal.authenticated_at,
            "su": principal.is_superuser,
        }
        return jwt.encode(self._header, claims, self._key, algorithms=[self._algorithm])

    def verify(self, token: str) -> AccessToken:
        """Raises NotAuthenticatedError for anything but an unexpired access token of ours.

        Its header says what ours say and nothing else: no `kid`, `jwk`, `jku`, `x5u` or `crit` is ever looked at.
        """
        if len(token) > MAX_TOKEN_LENGTH:
            raise NotAuthenticatedError
        try:
            decoded = jwt.decode(token, self._key, algorithms=[self._algorithm])
            claims = convert(decoded.claims, _Claims)
        except Exception as error:  # joserfc raises TypeError and others for headers of unexpected shapes
            raise NotAuthenticatedError from error
        now = datetime.now(UTC).timestamp()
        ours = (claims.iss, claims.aud, decoded.header) == (self._issuer, self._audience, self._header)
        if not ours or not claims.iat <= now + 1 or not now < claims.exp:
            raise NotAuthenticatedError
        principal = Principal(
            id=claims.sub, session_id=claims.sid, is_superuser=claims.su, authenticated_at=claims.auth_time
        )
        return AccessToken(principal=principal, expires_at=claims.exp)
