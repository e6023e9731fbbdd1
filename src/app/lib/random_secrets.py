"""Secrets that we hand out, and how they are stored: refresh tokens, codes, states, API keys."""

import hashlib
import secrets


def new_secret() -> str:
    """256 random bits, in 43 characters that are safe in URLs and cookies."""
    return secrets.token_urlsafe(32)


def hash_of(secret: str) -> bytes:
    """SHA-256 suffices: a secret of ours has 256 random bits (an API key 196), there is nothing to guess."""
    return hashlib.sha256(secret.encode(errors="surrogatepass")).digest()
