"""SECURITY.md, part G: the way to a provider and back."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from tests.attack.conftest import Keel
from tests.fake_provider import FakeProvider
from tests.visitor import Visitor, fragment

pytestmark = pytest.mark.e2e

COOKIE = "keel-flow"


@pytest.fixture
def visitor(keel: Keel, fakes: dict[str, FakeProvider]) -> Iterator[Visitor]:
    """Somebody new, whose address the provider vouches for."""
    fake = fakes["fake"]
    fake.person |= {"email": f"{fake.person['sub']}@example.com", "email_verified": True}
    with keel.client() as client:
        yield Visitor(client, fake)


def identities(keel: Keel, visitor: Visitor) -> list[Any]:
    return keel.rows("SELECT id FROM identities WHERE subject = :subject", subject=visitor.fake.person["sub"])


def assert_nothing_happened(keel: Keel, visitor: Visitor) -> None:
    assert identities(keel, visitor) == []
    assert keel.rows("SELECT id FROM users WHERE email = :email", email=visitor.fake.person.get("email")) == []


@pytest.mark.attack(42)
@pytest.mark.parametrize(
    "change", [{"state": None}, {"state": ""}, {"state": "x" * 43}, {"state": "x" * 5000}, {"state": "\x00é\ufffd"}]
)
def test_a_callback_without_a_state_of_ours_is_refused(
    keel: Keel, visitor: Visitor, change: dict[str, str | None]
) -> None:
    answer = visitor.come_back(visitor.authorize_url(), **change)

    assert answer.status_code == 400
    assert_nothing_happened(keel, visitor)


@pytest.mark.attack(42)
def test_a_state_of_another_browser_is_refused_and_not_used_up(keel: Keel, visitor: Visitor) -> None:
    back = visitor.fake.return_from(visitor.authorize_url())
    with keel.client() as other:
        victim = Visitor(other, visitor.fake)
        victim.authorize()  # has a cookie of its own

        foreign = victim.callback(back)
        without = victim.callback(back, headers={"Cookie": ""})

    assert [foreign.json()["code"], without.json()["code"]] == ["invalid_state"] * 2
    assert identities(keel, visitor) == []
    assert "code" in fragment(visitor.callback(back))


@pytest.mark.attack(42)
def test_an_expired_state_is_refused(keel: Keel, visitor: Visitor) -> None:
    url = visitor.authorize_url()
    keel.write("UPDATE authorization_requests SET expires_at = now() - interval '1 second' WHERE used_at IS NULL")

    assert visitor.come_back(url).status_code == 400
    assert_nothing_happened(keel, visitor)


@pytest.mark.attack(42)
def test_of_twenty_callbacks_at_two_processes_one_signs_in(keel: Keel, visitor: Visitor) -> None:
    back = visitor.fake.return_from(visitor.authorize_url())
    cookie = {"Cookie": f"{COOKIE}={visitor.client.cookies[COOKIE]}"}

    def call(number: int) -> int:
        with keel.client(keel.here if number % 2 else keel.there) as client:
            return Visitor(client, visitor.fake).callback(back, headers=cookie).status_code

    with ThreadPoolExecutor(8) as threads:
        answers = sorted(threads.map(call, range(20)))

    assert answers == [302] + [400] * 19
    assert (
        len(
            keel.rows(
                "SELECT c.id FROM sign_in_codes c JOIN identities i ON i.id = identity_id WHERE subject = :s",
                s=visitor.fake.person["sub"],
            )
        )
        == 1
    )


@pytest.mark.attack(42)
def test_of_twenty_exchanges_of_one_code_at_two_processes_one_gets_tokens(keel: Keel, visitor: Visitor) -> None:
    code = visitor.arrive()["code"]
    cookie = {"Cookie": f"{COOKIE}={visitor.client.cookies[COOKIE]}"}

    def call(number: int) -> int:
        with keel.client(keel.here if number % 2 else keel.there) as client:
            return Visitor(client, visitor.fake).exchange(code, headers=cookie).status_code

    with ThreadPoolExecutor(8) as threads:
        answers = sorted(threads.map(call, range(20)))

    assert answers == [200] + [401] * 19
    [row] = keel.rows(
        "SELECT count(*) AS sessions FROM sessions JOIN identities i ON i.id = identity_id WHERE subject = :s",
        s=visitor.fake.person["sub"],
    )
    assert row.sessions == 1


@pytest.mark.attack(42)
def test_a_state_that_was_made_for_one_provider_is_none_for_another(
    keel: Keel, visitor: Visitor, fakes: dict[str, FakeProvider]
) -> None:
    back = visitor.fake.return_from(visitor.authorize_url())

    answer = Visitor(visitor.client, fakes["other"]).callback(back)

    assert answer.json()["code"] == "invalid_state"
    assert fakes["other"].requests == []


@pytest.mark.attack(43)
@pytest.mark.parametrize("nonce", [None, "", "another"])
def test_a_nonce_that_is_missing_or_wrong_is_refused(keel: Keel, visitor: Visitor, nonce: str | None) -> None:
    visitor.fake.claims = {"nonce": nonce}

    assert visitor.arrive() == {"error": "sign_in_refused"}
    assert_nothing_happened(keel, visitor)


@pytest.mark.attack(43)
def test_every_request_has_its_own_challenge_and_a_code_of_another_is_refused(keel: Keel, visitor: Visitor) -> None:
    """An attacker puts their own code, or one they stole, into somebody's callback: PKCE and nonce do not fit."""
    first, second = visitor.authorize_url(), visitor.authorize_url()
    asked = [parse_qs(urlsplit(url).query) for url in (first, second)]
    stolen = visitor.fake.return_from(first)["code"]

    answer = visitor.come_back(second, code=stolen)

    assert [each["code_challenge_method"] for each in asked] == [["S256"], ["S256"]]
    assert len({each[name][0] for each in asked for name in ("state", "nonce", "code_challenge")}) == 6
    assert fragment(answer) == {"error": "sign_in_refused"}
    assert_nothing_happened(keel, visitor)


@pytest.mark.attack(43)
def test_a_code_that_was_used_is_refused_in_another_request(visitor: Visitor) -> None:
    used = visitor.fake.return_from(visitor.authorize_url())
    visitor.callback(used)

    assert fragment(visitor.come_back(visitor.authorize_url(), code=used["code"])) == {"error": "sign_in_refused"}


@pytest.mark.attack(50)
@pytest.mark.parametrize(
    "destination",
    [
        *("//evil.example", "https:evil.example", "/\\evil.example", "http://localhost:80@evil.example", "/%0d%0aX:y"),
        *(
            "https://evil.example/",
            "http://keel.test@evil.example/",
            "http://keel.test.evil.example/",
            "/x#code=stolen",
        ),
        *("/%2f/evil.example", "javascript:alert(1)", "/\t/evil.example", "http://KEEL.test:80/", "evil", ""),
    ],
)
def test_nobody_is_sent_anywhere_else(keel: Keel, visitor: Visitor, destination: str) -> None:
    tokens = keel.sign_in(keel.sign_up())

    answer = visitor.authorize(destination)
    with keel.client(token=tokens["access_token"]) as client:
        link = client.post("/users/me/identities", json={"provider": "fake", "next": destination})

    assert [answer.status_code, link.status_code] == [400, 400]
    assert "Location" not in answer.headers
    assert "Set-Cookie" not in answer.headers


@pytest.mark.attack(26)
def test_no_token_is_in_a_url_and_nothing_secret_in_a_log(keel: Keel, visitor: Visitor) -> None:
    url = visitor.authorize_url("http://keel.test/done?x=1")
    back = visitor.fake.return_from(url)
    landed = visitor.callback(back)
    code = fragment(landed)["code"]
    tokens = visitor.exchange(code).json()

    assert landed.headers["Location"] == f"http://keel.test/done?x=1#code={code}"
    assert landed.headers["Referrer-Policy"] == "no-referrer"
    assert landed.headers["Cache-Control"] == "no-store"
    log = keel.here.log.read_text()
    assert not [
        secret
        for secret in (code, back["code"], back["state"], *tokens.values())
        if str(secret) in log and len(str(secret)) > 20
    ]
