import pytest

from app.lib.secret_keys import SecretKeys, derive_key

pytestmark = pytest.mark.unit


def test_each_purpose_has_a_key_of_its_own() -> None:
    keys = SecretKeys("secret")

    assert keys.key_for("letters") == derive_key("secret", purpose="letters") != keys.key_for("parcels")


def test_a_digest_depends_on_text_purpose_and_secret() -> None:
    digests = [
        SecretKeys(secret).digest(text, purpose=purpose)
        for secret in ("secret", "other")
        for text in ("ada", "eve", "no text \ud800")
        for purpose in ("letters", "parcels")
    ]

    assert len(set(digests)) == 12
    assert SecretKeys("secret").digest("ada", purpose="letters") == digests[0]
