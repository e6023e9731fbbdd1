"""SECRET_KEY: where it comes from in development, when it is too weak, and the keys that are made from it."""

import functools
import hmac
import os
import secrets
import string
from pathlib import Path

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

SECRET_KEY_BYTES = 32


def derive_key(secret: str, *, purpose: str) -> bytes:
    """32 bytes for one purpose (HKDF, RFC 5869): a token made for one is worthless for another."""
    return HKDF(algorithm=SHA256(), length=32, salt=None, info=f"keel {purpose}".encode()).derive(secret.encode())


class SecretKeys:
    """The keys that are made from SECRET_KEY, for those who are not given it."""

    def __init__(self, secret: str) -> None:
        self.key_for = functools.cache(functools.partial(self._derive, secret))

    def digest(self, text: str, *, purpose: str) -> bytes:
        """HMAC-SHA-256: the same for the same text, and without the key not to be compared with a list of guesses."""
        return hmac.digest(self.key_for(purpose), text.encode("utf-8", "surrogatepass"), "sha256")

    @staticmethod
    def _derive(secret: str, purpose: str) -> bytes:
        return derive_key(secret, purpose=purpose)


def is_weak(key: str) -> bool:
    """Too short, too uniform, with spaces (copied with a comment, perhaps), or a placeholder somebody published."""
    return (
        len(key.encode()) < SECRET_KEY_BYTES
        or len(set(key)) < 12
        or key.lower() in (string.ascii_lowercase + string.digits) * 2
        or any(char.isspace() for char in key)
        or any(word in key.lower() for word in ("change", "secret", "example"))
    )


def development_secret(path: Path) -> str:
    """Kept in a file, so that tokens outlive a restart and worker processes agree."""
    path.parent.mkdir(mode=0o711, parents=True, exist_ok=True)
    draft = path.with_suffix(f".{os.getpid()}")
    draft.touch(mode=0o600)
    draft.write_text(secrets.token_urlsafe(48))
    try:
        os.link(draft, path)  # atomic, and refuses to replace a key that another process made first
    except FileExistsError:
        pass
    finally:
        draft.unlink()
    key = path.read_text()
    if len(key) < SECRET_KEY_BYTES:
        raise ValueError(f"{path} is damaged: delete it, and a new key is made")
    return key
