"""SECURITY.md, part E: the list of sessions, their ends, and recent sign-ins."""

import base64
import json
import time
from typing import Any

import pytest

from tests.attack.conftest import Keel
from tests.live import PASSWORD

pytestmark = pytest.mark.e2e


def claims_of(pair: dict[str, str]) -> dict[str, Any]:
    claims: dict[str, Any] = json.loads(base64.urlsafe_b64decode(pair["access_token"].split(".")[1] + "=="))
    return claims


@pytest.mark.attack(31)
def test_people_see_their_sessions_and_nobody_elses(keel: Keel) -> None:
    ada, eve = keel.sign_up(), keel.sign_up()
    first, theirs = keel.sign_in(ada), keel.sign_in(eve)
    keel.sign_in(ada)
    with keel.client(keel.there, token=first["access_token"], headers={"User-Agent": "curl/8"}) as client:
        found = client.get("/users/me/sessions").json()

        assert found["total"] == 2
        assert [row["id"] for row in found["items"] if row["is_current"]] == [claims_of(first)["sid"]]
        assert {row["device"] for row in found["items"]} == {"Python"}
        assert all(row["address"].startswith("198.18.") for row in found["items"])
        foreign = claims_of(theirs)["sid"]
        ids = (foreign, "0192f0c1-0000-7000-8000-000000000001", "x", "-1", str(2**70))
        assert [client.delete(f"/users/me/sessions/{each}").status_code for each in ids] == [404] * len(ids)
    with keel.client(token=theirs["access_token"]) as client:
        assert client.get("/users/me").status_code == 200


@pytest.mark.attack(31)
def test_a_session_that_its_owner_ends_is_dead_in_both_processes(keel: Keel) -> None:
    email = keel.sign_up()
    here, lost, third = (keel.sign_in(email) for _ in range(3))

    with keel.client(token=here["access_token"]) as client:
        assert client.delete(f"/users/me/sessions/{claims_of(lost)['sid']}").status_code == 204
        assert alive(keel, lost) == {401}
        assert alive(keel, third) == alive(keel, here) == {200}
        assert client.delete("/users/me/sessions").status_code == 204

    assert alive(keel, third) == {401}
    assert alive(keel, here) == {200}
    with keel.client() as client:
        for pair in (lost, third):
            body = {"refresh_token": pair["refresh_token"]}
            assert client.post("/auth/refresh", json=body).status_code == 401


@pytest.mark.attack(31)
def test_the_owner_of_an_account_hears_of_a_new_device(keel: Keel) -> None:
    email = keel.sign_up()
    for user_agent in ("Mozilla/5.0 (X11; Linux x86_64) Firefox/131.0", "curl/8 https://evil.example"):
        with keel.client(headers={"User-Agent": user_agent}) as client:
            client.post("/auth/login", json={"email": email, "password": PASSWORD}).raise_for_status()

    mail = keel.mail_to(email, subject="New sign-in to your account").as_string()

    assert "Device:   curl" in mail
    assert "evil" not in mail


def alive(keel: Keel, pair: dict[str, str]) -> set[int]:
    with keel.client(token=pair["access_token"]) as here, keel.client(keel.there, token=pair["access_token"]) as there:
        return {client.get("/users/me").status_code for client in (here, there)}


@pytest.mark.attack(32)
@pytest.mark.parametrize(
    ("column", "age", "status"),
    [
        ("last_seen_at", "71 hours", 200),
        ("last_seen_at", "73 hours", 401),
        ("expires_at", "-1 hours", 200),
        ("expires_at", "1 second", 401),
    ],
)
def test_a_session_ends_when_it_is_idle_or_old_whatever_the_client_thinks(
    column: str, age: str, status: int, keel: Keel
) -> None:
    """Moving the row back is moving the clock on."""
    pair = keel.sign_in(keel.sign_up())

    keel.write(
        f"UPDATE sessions SET {column} = now() - CAST(:age AS interval) WHERE id = :id",
        age=age,
        id=claims_of(pair)["sid"],
    )

    with keel.client() as client:
        body = {"refresh_token": pair["refresh_token"]}
        assert client.post("/auth/refresh", json=body).status_code == status


@pytest.mark.attack(32)
def test_secrets_are_long_and_never_alike(keel: Keel) -> None:
    email = keel.sign_up()
    tokens = {keel.sign_in(email)["refresh_token"] for _ in range(5)}

    assert len(tokens) == 5
    assert {len(base64.urlsafe_b64decode(token + "=")) for token in tokens} == {32}


@pytest.mark.attack(33)
def test_an_old_sign_in_stays_old_until_the_password_is_given_again(keel: Keel) -> None:
    pair = keel.sign_in(keel.sign_up())
    keel.write(
        "UPDATE sessions SET authenticated_at = now() - interval '1 hour' WHERE id = :id", id=claims_of(pair)["sid"]
    )
    with keel.client() as client:
        pair = client.post("/auth/refresh", json={"refresh_token": pair["refresh_token"]}).json()
    assert claims_of(pair)["auth_time"] == pytest.approx(time.time() - 3600, abs=10)

    with keel.client(token=pair["access_token"]) as client:
        refused = client.post("/auth/reauthentication", json={"password": "wrong"})
        proved = client.post("/auth/reauthentication", json={"password": PASSWORD}).json()

    assert (refused.status_code, refused.json()["code"]) == (400, "wrong_password")
    assert claims_of(proved)["auth_time"] == pytest.approx(time.time(), abs=10)
    assert (claims_of(proved)["sid"], claims_of(proved)["jti"]) != (claims_of(pair)["sid"], claims_of(pair)["jti"])
    assert claims_of(proved)["sid"] == claims_of(pair)["sid"]
    [row] = keel.rows("SELECT now() - authenticated_at AS age FROM sessions WHERE id = :id", id=claims_of(pair)["sid"])
    assert row.age.total_seconds() < 10


@pytest.mark.attack(33)
def test_nobody_proves_a_session_that_has_ended(keel: Keel) -> None:
    pair = keel.sign_in(keel.sign_up())
    keel.write("UPDATE sessions SET expires_at = now() WHERE id = :id", id=claims_of(pair)["sid"])

    with keel.client(token=pair["access_token"]) as client:
        assert client.post("/auth/reauthentication", json={"password": PASSWORD}).status_code == 401
