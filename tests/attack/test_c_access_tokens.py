"""SECURITY.md, part C: access tokens, rotation of refresh tokens, their reuse."""

import pytest

from tests.attack.conftest import Keel

pytestmark = pytest.mark.e2e


@pytest.mark.attack(21)
def test_a_refresh_token_that_comes_again_ends_its_family_at_the_other_process_too(keel: Keel) -> None:
    first = keel.sign_in(keel.sign_up())
    with keel.client() as here, keel.client(keel.there) as there:
        newest = here.post("/auth/refresh", json={"refresh_token": first["refresh_token"]}).json()

        replayed = there.post("/auth/refresh", json={"refresh_token": first["refresh_token"]})
        after = here.post("/auth/refresh", json={"refresh_token": newest["refresh_token"]})

    assert [replayed.status_code, after.status_code] == [401, 401]
    [row] = keel.rows(
        "SELECT revocation_reason FROM sessions JOIN refresh_tokens ON sessions.id = session_id "
        "GROUP BY sessions.id, revocation_reason ORDER BY max(refresh_tokens.created_at) DESC LIMIT 1"
    )
    assert row.revocation_reason == "refresh_token_reused"
