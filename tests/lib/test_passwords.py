from concurrent.futures import ThreadPoolExecutor
from threading import Lock

import pytest
from argon2 import PasswordHasher

from app.lib.passwords import Passwords

pytestmark = pytest.mark.unit


@pytest.fixture(scope="module")
def passwords() -> Passwords:
    return Passwords(concurrency=2)


def test_the_hash_has_the_parameters_that_owasp_asks_for_at_least(passwords: Passwords) -> None:
    assert passwords.hash("correct horse").startswith("$argon2id$v=19$m=19456,t=2,p=1$")


def test_a_password_verifies_against_its_own_hash_only(passwords: Passwords) -> None:
    stored = passwords.hash("correct horse")

    assert passwords.verify("correct horse", stored)
    assert not passwords.verify("Correct horse", stored)
    assert not passwords.verify("correct horse ", stored)


def test_nothing_is_cut_off(passwords: Passwords) -> None:
    stored = passwords.hash("x" * 72 + "a")

    assert not passwords.verify("x" * 72 + "b", stored)


def test_nobody_has_no_password(passwords: Passwords) -> None:
    assert not passwords.verify("nobody has this password", None)


def test_what_is_no_hash_verifies_nothing(passwords: Passwords) -> None:
    assert not passwords.verify("x", "x")


def test_nfc_and_nfd_are_one_password(passwords: Passwords) -> None:
    assert passwords.verify("caf\u00e9", passwords.hash("cafe\u0301"))


def test_many_threads_hash_a_few_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """What bounds the memory: each thread that hashes holds 19 MiB."""
    passwords, counter = Passwords(concurrency=2), CountingHasher()
    monkeypatch.setattr(passwords, "_hasher", counter)

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda _: passwords.hash("x"), range(16)))

    assert counter.most == 2


class CountingHasher(PasswordHasher):
    """Argon2 as ever, and it knows how many threads were in it at most."""

    def __init__(self) -> None:
        super().__init__(time_cost=1, memory_cost=8192)
        self.inside = self.most = 0
        self.lock = Lock()

    def hash(self, password: str | bytes, *, salt: bytes | None = None) -> str:
        with self.lock:
            self.inside += 1
            self.most = max(self.most, self.inside)
        try:
            return super().hash(password, salt=salt)
        finally:
            with self.lock:
                self.inside -= 1
