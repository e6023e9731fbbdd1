"""SECURITY.md, part C: access tokens, rotation of refresh tokens, their reuse."""

import asyncio
import base64
import json
from typing import Any

import pytest
from joserfc import jwt
from joserfc.jwk import ECKey, RSAKey

from tests import forged_tokens
from tests.attack.conftest import Keel
from tests.cookies import ACCESS_COOKIE, REFRESH_COOKIE, meant, sign_in_with_cookies
from tests.live import SECRET_KEY
from tests.load.generator import clients

pytestmark = pytest.mark.e2e

ISSUER = "http://keel.test"
PATHS = ["../../../../dev/null", "../../etc/passwd", "1' OR '1'='1", "x\x00y", "0"]
EVIL = "https://evil.example/keys.json"


def forge(keel: Keel, pair: dict[str, str], header: dict[str, Any] | None = None, **changes: Any) -> str:
    """As `keel` itself would have signed it for that session."""
    claims = jwt_payload(pair["access_token"])
    return forged_tokens.forge(
        header, secret=SECRET_KEY, issuer=ISSUER, **{"sub": claims["sub"], "sid": claims["sid"], **changes}
    )


def jwt_payload(token: str) -> dict[str, Any]:
    part = token.split(".")[1]
    payload: dict[str, Any] = json.loads(base64.urlsafe_b64decode(part + "=="))
    return payload


def refusals(keel: Keel, tokens: list[str]) -> set[tuple[int, str]]:
    """The different answers to them, less the id that each request has."""
    found = set()
    for server in (keel.here, keel.there):
        with keel.client(server) as client:
            for token in tokens:
                answer = client.get("/users/me", headers={"Authorization": f"Bearer {token}"})
                found.add((answer.status_code, json.dumps(answer.json() | {"request_id": ""})))
    return found


@pytest.fixture(scope="module")
def pair(keel: Keel) -> dict[str, str]:
    return keel.sign_in(keel.sign_up())


@pytest.mark.attack(17)
def test_what_the_header_of_a_token_asks_for_is_never_done_and_all_refusals_are_one(
    keel: Keel, pair: dict[str, str]
) -> None:
    rsa, curve = RSAKey.generate_key(2048), ECKey.generate_key("P-256")
    claims = jwt_payload(pair["access_token"])
    own_keys: list[dict[str, Any]] = [
        {"jwk": rsa.as_dict(private=False)},
        {"jku": EVIL},
        {"x5u": EVIL},
        {"x5c": ["AA"]},
    ]
    tokens = [
        *[forge(keel, pair, {"alg": name}) for name in ("none", "None", "NONE", "", "HS1", "RS256", "ES256")],
        *[forge(keel, pair, {"alg": name}) for name in (None, 256, ["HS256"], {"HS256": 1})],
        *[forge(keel, pair, header, key=b"the key of the attacker, 32 long") for header in own_keys],
        *[forge(keel, pair, header) for header in own_keys],
        *[forge(keel, pair, {"kid": kid}) for kid in PATHS],
        *[forge(keel, pair, {"kid": kid}, key=b"\0") for kid in PATHS],
        *[forge(keel, pair, {"crit": names, "exp": 1}) for names in (["exp"], ["b64"], ["x"], [], "exp")],
        forge(keel, pair, key=rsa.as_pem(private=False)),
        jwt.encode({"alg": "RS256", "typ": "at+jwt"}, claims, rsa, algorithms=["RS256"]),
        jwt.encode({"alg": "ES256", "typ": "at+jwt"}, claims, curve, algorithms=["ES256"]),
        pair["access_token"].rpartition(".")[0] + ".",
        pair["access_token"][:-4] + "AAAA",
        "x" * 5000,
    ]

    [(status, body)] = refusals(keel, tokens)

    assert (status, json.loads(body)["code"]) == (401, "not_authenticated")
    with keel.client(token=forge(keel, pair)) as client:
        assert client.get("/users/me").status_code == 200  # nothing else is wrong with them


@pytest.mark.attack(18)
@pytest.mark.parametrize("claim", ["exp", "sub", "iat", "jti", "iss", "aud", "typ", "sid", "auth_time"])
def test_a_token_that_lacks_a_claim_is_refused(claim: str, keel: Keel, pair: dict[str, str]) -> None:
    [(status, _)] = refusals(keel, [forge(keel, pair, without=claim)])

    assert status == 401


@pytest.mark.attack(19)
def test_no_token_is_good_for_what_another_kind_is_for(keel: Keel) -> None:
    email = keel.sign_up()
    pair = keel.sign_in(email)
    with keel.client() as browser, keel.client(keel.there) as stranger:
        csrf_token = sign_in_with_cookies(browser, email)
        access, refresh = browser.cookies[ACCESS_COOKIE], browser.cookies[REFRESH_COOKIE]
        as_bearer = [
            stranger.get("/users/me", headers={"Authorization": f"Bearer {token}"})
            for token in (pair["refresh_token"], refresh, csrf_token)
        ]
        as_refresh = [
            stranger.post("/auth/refresh", json={"refresh_token": token})
            for token in (pair["access_token"], access, csrf_token)
        ]
        as_access_cookie = [
            stranger.get("/users/me", headers={"Cookie": f"{ACCESS_COOKIE}={token}"})
            for token in (pair["refresh_token"], refresh, csrf_token)
        ]
        as_refresh_cookie = [
            stranger.post("/auth/cookie/refresh", headers=meant(csrf_token, Cookie=f"{REFRESH_COOKIE}={token}"))
            for token in (pair["access_token"], access, csrf_token)
        ]

        answers = [*as_bearer, *as_refresh, *as_access_cookie, *as_refresh_cookie]
        assert [answer.status_code for answer in answers] == [401] * 12
        assert browser.post("/auth/cookie/refresh", headers=meant(csrf_token)).status_code == 204


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


@pytest.mark.attack(22)
def test_of_fifty_refreshes_at_once_in_two_processes_at_most_one_chain_lives(keel: Keel) -> None:
    pair = keel.sign_in(keel.sign_up())
    body = {"refresh_token": pair["refresh_token"]}

    async def everywhere() -> list[int]:
        async with clients(keel.here.port, *[""] * 25) as here, clients(keel.there.port, *[""] * 25) as there:
            work = (client.request("POST", "/api/v1/auth/refresh", body) for client in [*here, *there])
            return sorted(answer.status for answer in await asyncio.gather(*work))

    assert asyncio.run(everywhere()) == [200, *[401] * 49]
    living = (
        "SELECT count(*) AS living FROM refresh_tokens JOIN sessions ON sessions.id = session_id "
        "WHERE session_id = :id AND used_at IS NULL AND revoked_at IS NULL"
    )
    [row] = keel.rows(living, id=jwt_payload(pair["access_token"])["sid"])
    assert row.living <= 1


@pytest.mark.attack(24)
def test_no_rotation_moves_the_end_of_a_session(keel: Keel) -> None:
    pair = keel.sign_in(keel.sign_up())
    session_id = jwt_payload(pair["access_token"])["sid"]
    [before] = keel.rows("SELECT expires_at FROM sessions WHERE id = :id", id=session_id)
    with keel.client() as client, keel.client(keel.there) as there:
        pair = client.post("/auth/refresh", json={"refresh_token": pair["refresh_token"]}).json()
        assert keel.rows("SELECT expires_at FROM sessions WHERE id = :id", id=session_id) == [before]

        keel.write("UPDATE sessions SET expires_at = now() + interval '60 s' WHERE id = :id", id=session_id)
        pair = client.post("/auth/refresh", json={"refresh_token": pair["refresh_token"]}).json()
        assert pair["expires_in"] <= 60
        keel.write("UPDATE sessions SET expires_at = now() WHERE id = :id", id=session_id)
        assert there.post("/auth/refresh", json={"refresh_token": pair["refresh_token"]}).status_code == 401


@pytest.mark.attack(24)
def test_a_dump_of_the_database_has_no_token_in_it(keel: Keel) -> None:
    email = keel.sign_up()
    pair = keel.sign_in(email)
    with keel.client() as browser:
        secrets = [pair["access_token"], pair["refresh_token"], sign_in_with_cookies(browser, email)]
        secrets += [browser.cookies[name] for name in (ACCESS_COOKIE, REFRESH_COOKIE)]

    tables = keel.rows("SELECT table_name AS name FROM information_schema.tables WHERE table_schema = 'public'")
    dump = "\n".join(
        row.content for table in tables for row in keel.rows(f'SELECT t::text AS content FROM "{table.name}" t')
    )

    assert len(tables) > 5
    assert email in dump
    for secret in secrets:
        assert secret not in dump
        assert secret.encode().hex() not in dump
