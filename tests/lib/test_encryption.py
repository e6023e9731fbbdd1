import pytest

from app.lib.encryption import DecryptionError, decrypt, encrypt

pytestmark = pytest.mark.unit
KEY, OTHER_KEY = b"k" * 32, b"o" * 32


def test_what_is_encrypted_is_read_again_and_never_looks_the_same() -> None:
    first, second = (encrypt(b"secret", key=KEY, bound_to=b"ada") for _ in range(2))

    assert first != second
    assert b"secret" not in first
    assert decrypt(first, key=KEY, bound_to=b"ada") == b"secret"


@pytest.mark.parametrize(
    ("key", "bound_to", "change"),
    [
        (OTHER_KEY, b"ada", lambda stored: stored),
        (KEY, b"eve", lambda stored: stored),
        (KEY, b"ada", lambda stored: stored[:-1] + bytes([stored[-1] ^ 1])),
        (KEY, b"ada", lambda stored: stored[:5]),
        (KEY, b"ada", lambda _: b""),
    ],
    ids=["another key", "another owner", "damaged", "cut short", "empty"],
)
def test_whatever_is_wrong_it_is_not_read(key: bytes, bound_to: bytes, change: object) -> None:
    stored = encrypt(b"secret", key=KEY, bound_to=b"ada")
    assert callable(change)

    with pytest.raises(DecryptionError):
        decrypt(change(stored), key=key, bound_to=bound_to)
