"""Passwords: argon2id at the OWASP floor (m=19 MiB, t=2, p=1), and only a few at a time."""

import unicodedata
from concurrent.futures import ThreadPoolExecutor

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

MEMORY_KIB = 19 * 1024


class Passwords:
    """Hashes and verifies. At most `concurrency` at once per process, which bounds memory at 19 MiB each.

    Hashing has threads of its own: malloc keeps 19 MiB for every thread that has ever hashed.
    Text is normalised to NFC first, so that one password typed on two keyboards is one password (ASVS 6.2).
    """

    def __init__(self, *, concurrency: int) -> None:
        self._hasher = PasswordHasher(time_cost=2, memory_cost=MEMORY_KIB, parallelism=1)
        self._threads = ThreadPoolExecutor(concurrency, thread_name_prefix="keel-passwords")
        self._nobodys_hash = self._hasher.hash("nobody has this password")

    def hash(self, password: str) -> str:
        return self._threads.submit(self._hasher.hash, _encoded(password)).result()

    def verify(self, password: str, stored: str | None) -> bool:
        """Takes as long for an account that does not exist (`stored` is None) as for one that does."""
        try:
            self._threads.submit(self._hasher.verify, stored or self._nobodys_hash, _encoded(password)).result()
        except (VerificationError, InvalidHashError):
            return False
        return stored is not None

    def needs_rehash(self, stored: str) -> bool:
        """The hash was made with other parameters than today's."""
        return self._hasher.check_needs_rehash(stored)


def _encoded(password: str) -> bytes:
    return unicodedata.normalize("NFC", password).encode()
