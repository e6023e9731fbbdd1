"""What must be read again but not by whoever has a copy of the database: AES-256-GCM (NIST SP 800-38D)."""

import secrets

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

NONCE_BYTES = 12


class DecryptionError(Exception):
    """Encrypted with another key (SECRET_KEY was changed), for another owner, or damaged."""


def encrypt(plain: bytes, *, key: bytes, bound_to: bytes) -> bytes:
    """`bound_to` says whose it is: moved to somebody else's row, it cannot be decrypted."""
    nonce = secrets.token_bytes(NONCE_BYTES)
    return nonce + AESGCM(key).encrypt(nonce, plain, bound_to)


def decrypt(stored: bytes, *, key: bytes, bound_to: bytes) -> bytes:
    """Raises DecryptionError."""
    nonce, sealed = stored[:NONCE_BYTES], stored[NONCE_BYTES:]
    try:
        return AESGCM(key).decrypt(nonce, sealed, bound_to)
    except (InvalidTag, ValueError) as error:
        raise DecryptionError from error
