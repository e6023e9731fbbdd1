"""SECURITY.md, part G: providers that lie, and providers that do not answer."""

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests import fake_provider
from tests.attack.conftest import Keel
from tests.fake_provider import Answer, FakeProvider
from tests.visitor import Visitor, fragment

pytestmark = pytest.mark.e2e

ANSWERS = {
    "html": fake_provider.answer_html,
    "500": fake_provider.answer_error,
    "10 MB": fake_provider.answer_too_much,
    "deep": fake_provider.answer_deep,
    "redirect": fake_provider.redirect_to("http://169.254.169.254/latest/meta-data/"),
}


class Victim:
    """Somebody with a verified account, whose address the provider claims to know."""

    def __init__(self, keel: Keel, fake: FakeProvider) -> None:
        self._keel = keel
        self.email = keel.sign_up()
        keel.write("UPDATE users SET is_verified = true WHERE email = :email", email=self.email)
        fake.person |= {"email": self.email, "email_verified": True}
        self._before = self._rows()

    def is_untouched(self) -> bool:
        return self._rows() == self._before

    def _rows(self) -> list[Any]:
        return self._keel.rows(
            "SELECT users.*, identities.id, sessions.id FROM users LEFT JOIN identities ON identities.user_id "
            "= users.id LEFT JOIN sessions ON sessions.user_id = users.id WHERE users.email = :email",
            email=self.email,
        )


@pytest.fixture
def visitor(keel: Keel, fakes: dict[str, FakeProvider]) -> Iterator[Visitor]:
    with keel.client() as client:
        yield Visitor(client, fakes["fake"])


@pytest.fixture
def victim(keel: Keel, visitor: Visitor) -> Victim:
    return Victim(keel, visitor.fake)


@pytest.mark.attack(44)
@pytest.mark.parametrize(
    "forge",
    [
        *("leave_unsigned", "sign_with_foreign_key", "sign_with_own_key_inside"),
        *("sign_with_public_key_as_secret", "sign_with_client_secret"),
    ],
)
def test_an_id_token_that_the_issuer_has_not_signed_is_refused(visitor: Visitor, victim: Victim, forge: str) -> None:
    visitor.fake.forge = getattr(visitor.fake, forge)

    assert visitor.arrive() == {"error": "sign_in_refused"}
    assert victim.is_untouched()


@pytest.mark.attack(44)
@pytest.mark.parametrize(
    "claims",
    [
        *({"iss": value} for value in ("https://evil.example", None)),
        *({"aud": value} for value in ("evil", ["evil"], [], None)),
        {"aud": "evil", "azp": "keel"},
        {"aud": ["evil", "another"], "azp": "keel"},
        {"aud": ["keel", "evil"]},
        {"aud": ["keel", "evil"], "azp": "evil"},
        *({"exp": value} for value in (1, None, "9999999999")),
        *({"iat": value} for value in (4_102_444_800, 1, None)),
        *({"sub": value} for value in ("", None, "x" * 256)),
        {"at_hash": "another token's"},
    ],
    ids=str,
)
def test_an_id_token_with_a_claim_that_is_not_for_us_is_refused(
    visitor: Visitor, victim: Victim, claims: dict[str, Any]
) -> None:
    visitor.fake.claims = claims

    assert visitor.arrive() == {"error": "sign_in_refused"}
    assert victim.is_untouched()


@pytest.mark.attack(44)
def test_an_answer_without_an_id_token_is_refused(visitor: Visitor, victim: Victim) -> None:
    visitor.fake.token = {"id_token": None}

    assert visitor.arrive() == {"error": "sign_in_refused"}
    assert victim.is_untouched()


@pytest.mark.attack(45)
@pytest.mark.parametrize("issuer", [None, "https://accounts.google.com"])
def test_a_callback_of_another_issuer_is_refused_and_the_code_not_sent(
    visitor: Visitor, victim: Victim, issuer: str | None
) -> None:
    answer = visitor.come_back(visitor.authorize_url(), iss=issuer)

    assert fragment(answer) == {"error": "sign_in_refused"}
    assert "/token" not in visitor.fake.requests
    assert victim.is_untouched()


@pytest.mark.attack(45)
@pytest.mark.parametrize("issuer", ["https://accounts.google.com", "", None])
def test_a_discovery_document_of_another_issuer_is_refused(
    visitor: Visitor, fakes: dict[str, FakeProvider], issuer: str | None
) -> None:
    fakes["broken"].metadata = {"issuer": issuer}

    answer = Visitor(visitor.client, fakes["broken"]).authorize()

    assert (answer.status_code, answer.json()["code"]) == (502, "provider_unavailable")
    assert "Location" not in answer.headers


@pytest.mark.attack(51)
@pytest.mark.parametrize("answer", ANSWERS)
def test_a_discovery_that_fails_is_a_plain_problem(
    visitor: Visitor, fakes: dict[str, FakeProvider], answer: str
) -> None:
    broken = fakes["broken"]
    broken.answers["/.well-known/openid-configuration"] = ANSWERS[answer]

    refused = Visitor(visitor.client, broken).authorize()

    assert (refused.status_code, refused.json()["code"]) == (502, "provider_unavailable")
    assert broken.issuer not in refused.text
    assert "169.254" not in refused.text


@pytest.mark.attack(51)
@pytest.mark.parametrize("path", ["/token", "/userinfo"])
@pytest.mark.parametrize("answer", ANSWERS)
def test_a_call_that_fails_is_a_plain_error(visitor: Visitor, victim: Victim, path: str, answer: str) -> None:
    said: dict[str, Answer] = {path: ANSWERS[answer]}
    visitor.fake.answers = said
    if path == "/userinfo":
        del visitor.fake.person["email"]

    assert visitor.arrive() == {"error": "provider_unavailable"}
    assert victim.is_untouched()


@pytest.mark.attack(51)
def test_keys_that_cannot_be_fetched_are_a_plain_error(
    keel: Keel, visitor: Visitor, fakes: dict[str, FakeProvider]
) -> None:
    visitor = Visitor(visitor.client, fakes["other"])
    victim = Victim(keel, visitor.fake)
    visitor.fake.answers["/jwks"] = fake_provider.redirect_to("http://169.254.169.254/")
    visitor.fake.forge = lambda claims: visitor.fake.sign(claims, kid="a new one")

    assert visitor.arrive()["error"] in {"provider_unavailable", "sign_in_refused"}
    assert victim.is_untouched()


@pytest.mark.attack(51)
def test_a_provider_that_drips_ends_in_time_and_starves_nobody(
    keel: Keel, visitor: Visitor, fakes: dict[str, FakeProvider]
) -> None:
    broken = fakes["broken"]
    broken.answers["/.well-known/openid-configuration"] = fake_provider.drip

    def stall(_: int) -> tuple[int, float]:
        with keel.client() as client:
            began = time.monotonic()
            return Visitor(client, broken).authorize().status_code, time.monotonic() - began

    with ThreadPoolExecutor(4) as threads:
        stalled = threads.map(stall, range(4))
        began = time.monotonic()
        email = keel.sign_up()
        took = time.monotonic() - began
        answers = list(stalled)

    assert email
    assert took < 3
    assert {status for status, _ in answers} <= {502, 503}
    assert max(seconds for _, seconds in answers) < 12
