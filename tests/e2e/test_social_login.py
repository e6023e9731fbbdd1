"""Signing in with a real OpenID provider, which is another process; the API is a third."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit
from uuid import uuid4

import httpx
import pytest
from sqlalchemy import URL, NullPool, Row, create_engine, text

from tests.live import LiveServer
from tests.npm_provider import CLIENT_SECRET, NpmProvider

pytestmark = pytest.mark.e2e

ALGORITHMS = ("rs256", "ps256", "es256")
OWNER = "verified@example.com"


class Social:
    """A server that knows one provider by three names, one for each algorithm of its id_tokens."""

    def __init__(self, server: LiveServer, provider: NpmProvider, url: URL) -> None:
        self.server, self.provider, self._url = server, provider, url
        self._browsers: list[httpx.Client] = []

    def arrive(self, person: str, *, name: str = "rs256") -> tuple[httpx.Client, dict[str, str]]:
        """A browser that has been there and back, and the fragment it came back with."""
        browser = self.server.client()
        self._browsers.append(browser)
        sent = browser.get(f"/auth/providers/{name}/authorize", params={"next": "/done", "mode": "code"})
        back = self.provider.sign_in(sent.headers["Location"], person)
        landed = browser.get(f"/auth/providers/{name}/callback", params=back)
        assert landed.status_code == 302, landed.text
        return browser, {
            key: values[0] for key, values in parse_qs(urlsplit(landed.headers["Location"]).fragment).items()
        }

    def me(self, browser: httpx.Client, code: str) -> dict[str, Any]:
        tokens = browser.post("/auth/providers/exchange", json={"code": code}).raise_for_status().json()
        answer = browser.get("/users/me", headers={"Authorization": f"Bearer {tokens['access_token']}"})
        me: dict[str, Any] = answer.raise_for_status().json()
        return me

    def rows(self, query: str, **values: object) -> list[Row[Any]]:
        with create_engine(self._url, poolclass=NullPool).begin() as fresh:
            return list(fresh.execute(text(query), values))

    def forget_everybody(self) -> None:
        for browser in self._browsers:
            browser.close()
        with create_engine(self._url, poolclass=NullPool).begin() as fresh:
            fresh.execute(text("DELETE FROM users"))

    def have_account(self, email: str, *, is_verified: bool) -> None:
        self.rows(
            "INSERT INTO users (id, email, first_name, last_name, is_active, is_verified, is_superuser, created_at, "
            "updated_at, password_hash) "
            "VALUES (:id, :email, 'Ada', '', true, :is_verified, false, now(), now(), 'kept') RETURNING id",
            id=uuid4(),
            email=email,
            is_verified=is_verified,
        )


@pytest.fixture(scope="module")
def running(new_database: Callable[[], URL], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Social]:
    callbacks = [f"http://keel.test/api/v1/auth/providers/{name}/callback" for name in ALGORITHMS]
    provider, url = NpmProvider(*callbacks), new_database()
    clients = [
        {"name": name, "issuer": provider.issuer, "client_id": f"keel-{name}", "client_secret": CLIENT_SECRET}
        for name in ALGORITHMS
    ]
    log: Path = tmp_path_factory.mktemp("social") / "server.log"
    server = LiveServer(url, log=log, oidc_providers=json.dumps(clients), oidc_allow_private_addresses=True)
    try:
        provider.start()
        server.start()
        yield Social(server, provider, url)
    finally:
        server.stop()
        provider.stop()


@pytest.fixture
def social(running: Social) -> Iterator[Social]:
    yield running
    running.forget_everybody()


@pytest.mark.parametrize("name", ALGORITHMS)
def test_somebody_whose_address_is_verified_signs_in(social: Social, name: str) -> None:
    browser, result = social.arrive("verified", name=name)

    me = social.me(browser, result["code"])

    assert (me["email"], me["first_name"], me["last_name"], me["is_verified"]) == (OWNER, "Ada", "Lovelace", True)
    [identity] = social.rows("SELECT issuer, subject FROM identities")
    assert tuple(identity) == (social.provider.issuer, "verified")


def test_an_upper_case_address_is_the_account_that_has_it(social: Social) -> None:
    social.have_account(OWNER, is_verified=True)

    browser, result = social.arrive("loud")

    assert social.me(browser, result["code"])["email"] == OWNER
    [row] = social.rows("SELECT count(*) AS users, min(password_hash) AS password_hash FROM users")
    assert tuple(row) == (1, "kept")


def test_an_account_that_nobody_has_proved_is_reclaimed(social: Social) -> None:
    social.have_account(OWNER, is_verified=False)

    browser, result = social.arrive("verified")

    assert social.me(browser, result["code"])["is_verified"]
    assert [row.password_hash for row in social.rows("SELECT password_hash FROM users")] == [None]


@pytest.mark.attack(46)
@pytest.mark.parametrize("person", ["unverified", "nameless", "stringly"])
@pytest.mark.parametrize("has_account", [True, False])
def test_whoever_is_not_vouched_for_touches_no_account(social: Social, person: str, *, has_account: bool) -> None:
    if has_account:
        social.have_account(OWNER, is_verified=True)

    _, result = social.arrive(person)

    assert result == {"error": "email_not_verified"}
    assert social.rows("SELECT id FROM identities") == []
    assert len(social.rows("SELECT id FROM users WHERE password_hash = 'kept'")) == int(has_account)
    assert len(social.rows("SELECT id FROM users")) == int(has_account)
