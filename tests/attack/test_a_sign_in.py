"""SECURITY.md, part A: what the answer to a sign-in tells. How long it takes is in tests/load/test_sign_in_times.py."""

from collections.abc import Callable
from uuid import uuid4

import pytest

from tests.attack.conftest import Keel, new_address
from tests.live import PASSWORD, LiveServer

pytestmark = pytest.mark.e2e


@pytest.mark.attack(6)
def test_whatever_is_wrong_the_answer_is_the_same(keel: Keel, start_server: Callable[..., LiveServer]) -> None:
    strict = start_server(keel.url, require_verified_email=True, trusted_proxies="127.0.0.1/32")
    known, inactive, unverified = (keel.sign_up() for _ in range(3))
    keel.write("UPDATE users SET is_verified = true WHERE email IN (:known, :inactive)", known=known, inactive=inactive)
    keel.write("UPDATE users SET is_active = false WHERE email = :email", email=inactive)
    tries = [
        (known, "a wrong password, but long enough"),
        (f"{uuid4().hex}@example.com", PASSWORD),
        (inactive, PASSWORD),
        (unverified, PASSWORD),
        ("no address at all", PASSWORD),
    ]

    with strict.client() as client:
        right, *answers = [
            client.post(
                "/auth/login",
                json={"email": email, "password": password},
                headers={"X-Forwarded-For": new_address(), "X-Request-ID": "the-same-for-all"},
            )
            for email, password in [(known, PASSWORD), *tries]
        ]

    assert right.status_code == 200
    assert {answer.status_code for answer in answers} == {401}
    assert len({answer.content for answer in answers}) == 1
    assert len({tuple(sorted(set(answer.headers) - {"date"})) for answer in answers}) == 1
