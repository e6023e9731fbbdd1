"""SECURITY.md, line 9: what is left of a deleted account."""

import pytest

from tests.attack.conftest import Keel
from tests.live import PASSWORD
from tests.sample_files import picture

pytestmark = pytest.mark.e2e

LEFT = "SELECT users.* FROM users JOIN closures ON user_id = users.id WHERE closures.email = :email"
LONG_AGO = """
    UPDATE sessions SET authenticated_at = now() - interval '11 minutes'
    FROM users WHERE users.id = user_id AND email = :email
"""


@pytest.mark.attack(9)
def test_a_deleted_account_is_out_of_both_processes_at_once_and_its_address_is_free(keel: Keel) -> None:
    email = keel.sign_up()
    first, second = keel.sign_in(email), keel.sign_in(email)
    with keel.client(token=first["access_token"]) as client:
        client.post("/items", json={"title": "Buy milk"}).raise_for_status()

        assert client.delete("/users/me").status_code == 204

    for tokens in (first, second):
        keel.assert_ended({"Authorization": f"Bearer {tokens['access_token']}"})
        for server in (keel.here, keel.there):
            with keel.client(server, token=tokens["access_token"]) as client:
                refreshed = client.post("/auth/refresh", json={"refresh_token": tokens["refresh_token"]})
                assert refreshed.status_code == 401
    with keel.client() as client:
        assert client.post("/auth/login", json={"email": email, "password": PASSWORD}).status_code == 401
    keel.mail_to(email, subject="Your account at Keel was deleted")
    keel.sign_up(email)
    assert keel.sign_in(email)


@pytest.mark.attack(9)
def test_nothing_of_the_person_is_left_but_that_the_sessions_have_ended(keel: Keel) -> None:
    email = keel.sign_up()
    access_token = keel.sign_in(email)["access_token"]
    with keel.client(token=access_token) as client:
        answer = client.put("/users/me/avatar", files={"file": ("me.png", picture())}).raise_for_status()
        avatar = answer.json()["avatar_url"].removeprefix("http://keel.test/api/v1")
        assert client.get(avatar).status_code == 200
        client.delete("/users/me").raise_for_status()

    [row] = keel.rows(LEFT, email=email)
    assert email not in str(row)
    assert (row.first_name, row.phone, row.password_hash, row.avatar_url, row.is_active) == (
        "",
        None,
        None,
        None,
        False,
    )
    ended = keel.rows("SELECT revocation_reason FROM sessions WHERE user_id = :id", id=row.id)
    assert {session.revocation_reason for session in ended} == {"account_deleted"}
    for server in (keel.here, keel.there):
        with keel.client(server) as anybody:
            assert anybody.get(avatar).status_code == 404
    jobs = "SELECT scheduled - extract(epoch FROM now()) AS wait FROM saq_jobs WHERE convert_from(job, 'UTF8') LIKE :it"
    [job] = keel.rows(jobs, it=f"%remove_closed_account%{row.id}%")
    assert job.wait > 15 * 60  # the life of an access token


@pytest.mark.attack(9)
def test_nobody_deletes_an_account_with_a_session_of_long_ago(keel: Keel) -> None:
    email = keel.sign_up()
    first = keel.sign_in(email)
    keel.write(LONG_AGO, email=email)
    with keel.client() as client:
        old = client.post("/auth/refresh", json={"refresh_token": first["refresh_token"]}).json()

    with keel.client(token=old["access_token"]) as client:
        refused = client.delete("/users/me")

    assert (refused.status_code, refused.json()["code"]) == (403, "reauthentication_required")
