import re

import pytest

from app.lib.random_secrets import hash_of, new_secret

pytestmark = pytest.mark.unit


def test_no_secret_comes_twice_and_each_may_stand_in_a_url() -> None:
    secrets = {new_secret() for _ in range(100)}

    assert len(secrets) == 100
    assert all(re.fullmatch(r"[A-Za-z0-9_-]{43}", secret) for secret in secrets)


@pytest.mark.parametrize("secret", ["", "x", "\ud800", "a secret", "A secret"])
def test_whatever_somebody_sends_has_a_hash_of_its_own(secret: str) -> None:
    assert len(hash_of(secret)) == 32
    assert hash_of(secret) != hash_of(new_secret())
