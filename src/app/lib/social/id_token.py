"""An id_token is believed by these rules and no others. Authlib's own let three forged ones through."""

import base64
import hashlib
import json
import math
import time
from collections.abc import Sequence
from typing import Any

from joserfc import jwt
from joserfc.jwk import ECKey, Key, OKPKey, RSAKey, import_key
from msgspec import Struct, ValidationError, convert

from app.lib.social.person import MAX_SUBJECT

ALGORITHMS = {"RS256": "RSA", "PS256": "RSA", "ES256": "P-256", "EdDSA": "Ed25519"}
"""Each with the kind of its keys. Asymmetric only, whatever a discovery document says (ASVS 6.8.2)."""
HASHES = {"EdDSA": hashlib.sha512}
SKEW = 60
MAX_AGE = 10 * 60
"""Seconds."""
MIN_RSA_BITS = 2048
MAX_LENGTH = 16 * 1024
MAX_KEYS = 50


class UnbelievableTokenError(Exception):
    """Which rule an id_token breaks, for the log. `might_be_new_key`: no key that we know could have signed it."""

    def __init__(self, reason: str, *, might_be_new_key: bool = False) -> None:
        super().__init__(reason)
        self.might_be_new_key = might_be_new_key


class _Claims(Struct):
    """No defaults for what OpenID Connect Core section 2 requires; a `nonce` we have always sent."""

    iss: str
    sub: str
    aud: str | list[str]
    exp: int | float
    iat: int | float
    nonce: str
    azp: str | None = None
    at_hash: str | None = None


class Expected(Struct, frozen=True):
    issuer: str
    client_id: str
    nonce: str
    access_token: str


def import_keys(document: Any) -> list[Key]:
    """Of a JWK Set (RFC 7517 section 5), what can verify a signature. What we do not understand is left out."""
    entries = document.get("keys") if isinstance(document, dict) else None
    if not isinstance(entries, list):
        return []
    return [key for entry in entries[:MAX_KEYS] if (key := _usable(entry))]


def verify_id_token(token: str, *, keys: Sequence[Key], expected: Expected) -> dict[str, Any]:
    """Its claims. Raises UnbelievableTokenError."""
    claims, algorithm = _verify_signature(token, keys)
    try:
        found = convert(claims, _Claims)
    except ValidationError as error:
        raise UnbelievableTokenError(f"its claims: {error}") from error
    for rule, is_kept in _rules(found, algorithm, expected):
        if not is_kept:
            raise UnbelievableTokenError(f"its claim {rule}")
    return claims


def _verify_signature(token: str, keys: Sequence[Key]) -> tuple[dict[str, Any], str]:
    if len(token) > MAX_LENGTH:
        raise UnbelievableTokenError("its length")
    header = _header(token)
    algorithm, kid = header.get("alg"), header.get("kid")
    if not isinstance(algorithm, str) or algorithm not in ALGORITHMS:
        raise UnbelievableTokenError("its algorithm")
    if str(header.get("typ", "JWT")).lower() != "jwt":
        raise UnbelievableTokenError("its type: it is a token, but no id_token")
    candidates = [key for key in keys if _kind(key) == ALGORITHMS[algorithm] and kid in (None, key.kid)]
    for key in candidates:
        try:
            return jwt.decode(token, key, algorithms=[algorithm]).claims, algorithm
        except Exception:  # noqa: S112, BLE001  # joserfc raises TypeError and others for unexpected shapes
            continue
    raise UnbelievableTokenError("its signature", might_be_new_key=kid is None or not candidates)


def _header(token: str) -> dict[str, Any]:
    first, *_ = token.split(".")
    try:
        found = convert(json.loads(base64.urlsafe_b64decode(first + "=" * (-len(first) % 4))), dict[str, Any])
    except (ValueError, RecursionError) as error:
        raise UnbelievableTokenError("its header") from error
    return found


def _rules(claims: _Claims, algorithm: str, expected: Expected) -> list[tuple[str, bool]]:
    """OpenID Connect Core section 3.1.3.7."""
    now = time.time()
    audience = claims.aud if isinstance(claims.aud, list) else [claims.aud]
    return [
        ("iss", claims.iss == expected.issuer),
        ("sub", 0 < len(claims.sub) <= MAX_SUBJECT and claims.sub.isprintable()),
        ("aud", expected.client_id in audience),
        ("azp", claims.azp == expected.client_id or (claims.azp is None and len(audience) == 1)),
        ("exp", math.isfinite(claims.exp) and now < claims.exp + SKEW),
        ("iat", now - MAX_AGE - SKEW < claims.iat < now + SKEW),
        ("nonce", claims.nonce == expected.nonce),
        ("at_hash", claims.at_hash in (None, _half_hash(expected.access_token, algorithm))),
    ]


def _half_hash(access_token: str, algorithm: str) -> str:
    digest = HASHES.get(algorithm, hashlib.sha256)(access_token.encode()).digest()
    return base64.urlsafe_b64encode(digest[: len(digest) // 2]).decode().rstrip("=")


def _usable(entry: Any) -> Key | None:
    if not isinstance(entry, dict) or entry.get("kty") not in {"RSA", "EC", "OKP"} or entry.get("use", "sig") != "sig":
        return None
    try:
        key = import_key(entry)
        is_weak = isinstance(key, RSAKey) and key.public_key.key_size < MIN_RSA_BITS
    except Exception:  # noqa: BLE001  # joserfc raises TypeError and others for unexpected shapes
        return None
    return None if is_weak else key


def _kind(key: Key) -> str:
    return str(key.curve_name) if isinstance(key, ECKey | OKPKey) else key.key_type
