from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest

from app.lib.access.guards import Principal
from app.lib.errors import NotAuthenticatedError
from app.lib.secret_keys import derive_key
from app.lib.tokens import AccessTokens
from tests import forged_tokens

pytestmark = pytest.mark.unit

SECRET = "a test key, which is long enough to be one"
ISSUER, AUDIENCE = "https://api.example.com", "https://api.example.com/api/v1"


@pytest.fixture
def tokens() -> AccessTokens:
    return make()


def make(**changes: Any) -> AccessTokens:
    options = {"secret": SECRET, "algorithm": "HS256", "issuer": ISSUER, "audience": AUDIENCE}
    return AccessTokens(**options | {"lifetime": timedelta(minutes=15)} | changes)


def forge(header: dict[str, Any] | None = None, **changes: Any) -> str:
    return forged_tokens.forge(header, secret=SECRET, issuer=ISSUER, **changes)


@pytest.mark.parametrize("algorithm", ["HS256", "HS384", "HS512"])
def test_a_token_says_who_asks(algorithm: str) -> None:
    tokens = make(algorithm=algorithm)
    principal = Principal(id=uuid4(), session_id=uuid4(), is_superuser=True, authenticated_at=1_764_000_000)

    assert tokens.verify(tokens.issue(principal)).principal == principal


def test_two_tokens_for_the_same_session_differ(tokens: AccessTokens) -> None:
    principal = Principal(id=uuid4(), session_id=uuid4(), is_superuser=False, authenticated_at=1_764_000_000)

    assert tokens.issue(principal) != tokens.issue(principal)


def test_a_forged_token_without_changes_is_good(tokens: AccessTokens) -> None:
    """So that the refusals below are for the reason they name."""
    assert tokens.verify(forge()).expires_at > datetime.now(UTC).timestamp()


@pytest.mark.parametrize("claim", ["iss", "aud", "sub", "sid", "jti", "iat", "exp", "auth_time"])
def test_a_token_that_lacks_a_claim_is_refused(claim: str, tokens: AccessTokens) -> None:
    with pytest.raises(NotAuthenticatedError):
        tokens.verify(forge(without=claim))


@pytest.mark.parametrize(
    "claims",
    [
        {"exp": 1},
        {"exp": "tomorrow"},
        {"iat": 2**40},
        {"iss": "https://evil.example"},
        {"aud": "https://evil.example"},
        {"aud": [AUDIENCE, "https://evil.example"]},
        {"sub": "admin"},
        {"sub": None},
        {"sid": 1},
        {"su": "yes"},
    ],
)
def test_a_token_with_a_wrong_claim_is_refused(claims: dict[str, Any], tokens: AccessTokens) -> None:
    with pytest.raises(NotAuthenticatedError):
        tokens.verify(forge(**claims))


@pytest.mark.parametrize(
    "header",
    [
        {"typ": "JWT"},
        {"typ": "refresh"},
        {"typ": "AT+JWT"},
        {"alg": "HS512"},
        {"alg": "none"},
        {"crit": ["x"], "x": 1},
        {"kid": "1"},
        {"jwk": {"kty": "oct", "k": "AA"}},
        {"b64": False},
        {"zip": "DEF"},
    ],
)
def test_a_token_with_a_wrong_header_is_refused(header: dict[str, Any], tokens: AccessTokens) -> None:
    with pytest.raises(NotAuthenticatedError):
        tokens.verify(forge(header))


@pytest.mark.parametrize(
    "token",
    [
        "",
        "x",
        "a.b.c",
        "..",
        "eyJhbGciOiJub25lIn0.e30.",
        "eyJ0eXAiOiJhdCtqd3QiLCJhbGciOiJub25lIn0.e30.",
        "é.è.ê",
        "x" * 5000,
        "W10.W10.W10",
        "bnVsbA.bnVsbA.bnVsbA",
    ],
)
def test_what_is_no_token_is_refused(token: str, tokens: AccessTokens) -> None:
    with pytest.raises(NotAuthenticatedError):
        tokens.verify(token)


@pytest.mark.parametrize("change", [lambda token: token[:-2], lambda token: token + "A", lambda token: token.upper()])
def test_a_changed_token_is_refused(change: Callable[[str], str], tokens: AccessTokens) -> None:
    with pytest.raises(NotAuthenticatedError):
        tokens.verify(change(forge()))


def test_a_token_ends_with_its_session(tokens: AccessTokens) -> None:
    principal = Principal(id=uuid4(), session_id=uuid4(), is_superuser=False, authenticated_at=1_764_000_000)
    until = datetime.now(UTC) + timedelta(seconds=60)

    assert tokens.verify(tokens.issue(principal, until=until)).expires_at == pytest.approx(until.timestamp(), abs=2)
    assert tokens.seconds(until) == pytest.approx(60, abs=2)
    assert tokens.seconds(until + timedelta(days=1)) == 900


def test_a_token_of_another_installation_is_refused(tokens: AccessTokens) -> None:
    principal = Principal(id=uuid4(), session_id=uuid4(), is_superuser=True, authenticated_at=1_764_000_000)

    with pytest.raises(NotAuthenticatedError):
        tokens.verify(make(secret="another key, which is long enough, too").issue(principal))


def test_keys_for_different_purposes_differ() -> None:
    assert derive_key(SECRET, purpose="a") != derive_key(SECRET, purpose="b")
