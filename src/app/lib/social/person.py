"""Who a provider says somebody is, and what every provider can do."""

from typing import Protocol

from msgspec import Struct

from app.lib.email_address import canonical_email
from app.lib.errors import ApplicationError, InvalidInputError

MAX_SUBJECT = 255
"""OpenID Connect Core section 2."""


class SignInRefusedError(ApplicationError):
    """The provider said no, or something that is not to be believed. The reason is in the log and nowhere else."""

    detail = "Signing in with this provider did not succeed."


class Person(Struct, frozen=True):
    """`issuer` and `subject` are the identity; the address is only what the provider knows today (ASVS 6.8.1).

    `email` is canonical, or None. `is_email_verified` was said by the same document as the address.
    """

    issuer: str
    subject: str
    email: str | None = None
    is_email_verified: bool = False
    first_name: str = ""
    last_name: str = ""


class Challenge(Struct, frozen=True):
    """What ties the answer of a provider to one request: a nonce, and the verifier of PKCE (RFC 7636)."""

    state: str
    nonce: str
    verifier: str
    redirect_uri: str


class Callback(Struct, frozen=True):
    """What came back with the browser. `issuer` is the parameter `iss` of RFC 9207."""

    code: str
    issuer: str | None = None


class Provider(Protocol):
    """`identify` and `authorization_url` may call the provider: never while the thread holds a connection."""

    name: str
    label: str
    issuer: str

    def authorization_url(self, challenge: Challenge) -> str:
        """Where the browser is sent. Raises ProviderUnavailableError."""

    def identify(self, callback: Callback, challenge: Challenge) -> Person:
        """Exchange the code. Raises SignInRefusedError and ProviderUnavailableError."""


def known_email(value: object) -> str | None:
    try:
        return canonical_email(value) if isinstance(value, str) else None
    except InvalidInputError:
        return None
