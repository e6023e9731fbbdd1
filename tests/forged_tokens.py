"""Access tokens that are signed with the right key and good, but for what a test changes."""

import base64
import hmac
import json
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

from app.lib.secret_keys import derive_key

GOOD_HEADER = {"alg": "HS256", "typ": "at+jwt"}


def forge(
    header: dict[str, Any] | None = None,
    *,
    secret: str,
    issuer: str,
    without: str | None = None,
    key: bytes | None = None,
    **claims: Any,
) -> str:
    """`without`: a claim, or a field of the header, to leave out. `key`: what signs instead of the right one."""
    now = int(datetime.now(UTC).timestamp())
    good = {
        "iss": issuer,
        "aud": f"{issuer}/api/v1",
        "iat": now,
        "exp": now + 900,
        "su": False,
        "auth_time": now,
        "sub": str(uuid4()),
        "sid": str(uuid4()),
        "jti": str(uuid4()),
    }
    parts = (GOOD_HEADER | (header or {}), good | claims)
    kept = [{name: value for name, value in part.items() if name != without} for part in parts]
    signed = b".".join(base64url(json.dumps(part).encode()) for part in kept)
    signature = sign(signed, kept[0].get("alg"), key or derive_key(secret, purpose="access-token"))
    return (signed + b"." + base64url(signature)).decode()


def sign(signed: bytes, algorithm: Any, key: bytes) -> bytes:
    """By HMAC, whatever the algorithm says, so that only its name differs; `none` has no signature."""
    if str(algorithm).lower() == "none":
        return b""
    digest = {"HS384": "sha384", "HS512": "sha512"}.get(str(algorithm), "sha256")
    return hmac.digest(key, signed, digest)


def base64url(data: bytes) -> bytes:
    return base64.urlsafe_b64encode(data).rstrip(b"=")
