"""Nonce and PKCE verifier of a request, made from its state: nothing secret has to be stored until it comes back."""

import base64
import hashlib
import hmac

from app.lib.secret_keys import derive_key
from app.lib.social.person import Challenge


def challenge_of(state: str, *, secret: str, redirect_uri: str) -> Challenge:
    """`secret` is SECRET_KEY: who knows a state, as the browser does, knows neither of the two."""
    key = derive_key(secret, purpose="social sign-in")
    return Challenge(
        state=state,
        nonce=_derived(key, "nonce", state),
        verifier=_derived(key, "verifier", state),
        redirect_uri=redirect_uri,
    )


def _derived(key: bytes, purpose: str, state: str) -> str:
    """43 characters, as RFC 7636 section 4.1 wants for a verifier."""
    digest = hmac.digest(key, f"{purpose} {state}".encode(errors="surrogatepass"), hashlib.sha256)
    return base64.urlsafe_b64encode(digest).decode().rstrip("=")
