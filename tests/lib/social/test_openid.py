import time
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from joserfc.jwk import ECKey

from app.lib.outgoing import Outgoing, ProviderUnavailableError
from app.lib.social.challenge import challenge_of
from app.lib.social.openid import OpenIDProvider
from app.lib.social.person import Callback, Person, SignInRefusedError
from tests import fake_provider
from tests.fake_provider import CLIENT_ID, CLIENT_SECRET, Answer, FakeProvider
from tests.lib.social.conftest import LOCAL

pytestmark = pytest.mark.unit

CHALLENGE = challenge_of("a state", secret="a secret", redirect_uri="http://keel.test/callback")


def provider_of(fake: FakeProvider, **changes: Any) -> OpenIDProvider:
    values = {"name": "fake", "label": "Fake", "issuer": fake.issuer, "client_id": CLIENT_ID, "outgoing": LOCAL}
    return OpenIDProvider(**{**values, "client_secret": CLIENT_SECRET, **changes})


def sign_in(fake: FakeProvider, provider: OpenIDProvider | None = None, **changes: str | None) -> Person:
    provider = provider or provider_of(fake)
    back = fake.return_from(provider.authorization_url(CHALLENGE), **changes)
    return provider.identify(Callback(code=back["code"], issuer=back.get("iss")), CHALLENGE)


def test_the_browser_is_sent_with_state_nonce_and_a_hashed_verifier(fake: FakeProvider) -> None:
    url = provider_of(fake).authorization_url(CHALLENGE)

    asked = {name: values[0] for name, values in parse_qs(urlsplit(url).query).items()}
    assert url.startswith(f"{fake.url}/authorize?")
    assert asked["scope"] == "openid email profile"
    assert (asked["state"], asked["nonce"], asked["response_type"]) == ("a state", CHALLENGE.nonce, "code")
    assert asked["code_challenge_method"] == "S256"
    assert CHALLENGE.verifier not in url


def test_claims_of_the_id_token_become_a_person(fake: FakeProvider) -> None:
    fake.person = {
        "sub": "1",
        "email": "Ada@Example.com",
        "email_verified": True,
        "given_name": "Ada",
        "family_name": "L",
    }

    person = sign_in(fake)

    expected = Person(fake.issuer, "1", "ada@example.com", is_email_verified=True, first_name="Ada", last_name="L")
    assert person == expected
    assert "/userinfo" not in fake.requests


def test_an_address_that_only_userinfo_has_is_taken_from_there_with_its_flag(fake: FakeProvider) -> None:
    fake.person = {"sub": "1", "email_verified": True}
    fake.userinfo = {"sub": "1", "email": "ada@example.com", "email_verified": False, "name": "Ada Lovelace"}

    person = sign_in(fake)

    assert (person.email, person.is_email_verified, person.first_name) == ("ada@example.com", False, "Ada Lovelace")


@pytest.mark.parametrize("verified", ["true", "false", 1, None, "yes", [True]])
def test_only_true_is_verified(fake: FakeProvider, verified: object) -> None:
    fake.person = {"sub": "1", "email": "ada@example.com", "email_verified": verified}

    assert not sign_in(fake).is_email_verified


@pytest.mark.parametrize("email", ["", "no address", 7, ["ada@example.com"], "ada@example.com\r\nBcc: x@example.com"])
def test_an_address_that_is_none_is_not_verified_either(fake: FakeProvider, email: object) -> None:
    fake.person = {"sub": "1", "email": email, "email_verified": True}

    person = sign_in(fake)

    assert (person.email, person.is_email_verified) == (None, False)


def test_userinfo_about_somebody_else_is_refused(fake: FakeProvider) -> None:
    fake.userinfo = {"sub": "another", "email": "victim@example.com", "email_verified": True}

    with pytest.raises(SignInRefusedError):
        sign_in(fake)


@pytest.mark.parametrize(
    "issuer", [None, "https://accounts.google.com", ""], ids=["missing", "of another provider", "empty"]
)
def test_a_callback_without_the_right_issuer_is_refused_where_it_is_advertised(
    fake: FakeProvider, issuer: str | None
) -> None:
    with pytest.raises(SignInRefusedError):
        sign_in(fake, iss=issuer)


def test_a_callback_without_an_issuer_is_usual_elsewhere_but_a_wrong_one_is_not(fake: FakeProvider) -> None:
    fake.metadata = {"authorization_response_iss_parameter_supported": False}

    assert sign_in(fake, iss=None).subject == fake.person["sub"]
    with pytest.raises(SignInRefusedError):
        sign_in(fake, iss="https://accounts.google.com")


@pytest.mark.parametrize("method", ["client_secret_basic", "client_secret_post"])
def test_the_secret_goes_where_the_provider_wants_it(fake: FakeProvider, method: str) -> None:
    fake.metadata = {"token_endpoint_auth_methods_supported": [method]}

    assert sign_in(fake).issuer == fake.issuer


def test_a_code_that_was_used_is_refused(fake: FakeProvider) -> None:
    provider = provider_of(fake)
    back = fake.return_from(provider.authorization_url(CHALLENGE))
    callback = Callback(code=back["code"], issuer=back["iss"])
    provider.identify(callback, CHALLENGE)

    with pytest.raises(SignInRefusedError):
        provider.identify(callback, CHALLENGE)


@pytest.mark.parametrize(
    "token",
    [{"id_token": None}, {"id_token": 7}, {"access_token": None}, {"access_token": ""}, {"token_type": "mac"}],
    ids=str,
)
def test_a_token_answer_that_lacks_something_is_refused(fake: FakeProvider, token: dict[str, Any]) -> None:
    fake.token = token

    with pytest.raises(SignInRefusedError):
        sign_in(fake)


@pytest.mark.parametrize(
    "metadata",
    [
        {"issuer": "https://accounts.google.com"},
        {"issuer": None},
        {"token_endpoint": None},
        {"token_endpoint": "file:///etc/passwd"},
        {"jwks_uri": "gopher://127.0.0.1/"},
        {"userinfo_endpoint": "http:///"},
        {"authorization_endpoint": "javascript:alert(1)"},
    ],
    ids=str,
)
def test_a_discovery_document_that_is_not_the_issuers_or_names_no_endpoints_is_refused(
    fake: FakeProvider, metadata: dict[str, Any]
) -> None:
    fake.metadata = metadata

    with pytest.raises(ProviderUnavailableError):
        provider_of(fake).authorization_url(CHALLENGE)


@pytest.mark.parametrize("path", ["/.well-known/openid-configuration", "/jwks", "/token", "/userinfo"])
@pytest.mark.parametrize(
    "answer",
    [
        *(fake_provider.answer_html, fake_provider.answer_error, fake_provider.answer_too_much, fake_provider.drip),
        *(fake_provider.redirect_to("http://169.254.169.254/"), fake_provider.answer_deep),
    ],
)
def test_every_one_of_the_four_calls_may_fail_in_every_way(fake: FakeProvider, path: str, answer: Answer) -> None:
    fake.answers[path] = answer
    began = time.monotonic()

    with pytest.raises((ProviderUnavailableError, SignInRefusedError)):
        sign_in(fake)

    assert time.monotonic() - began < 2


def test_a_document_and_keys_are_asked_for_once(fake: FakeProvider) -> None:
    provider = provider_of(fake)

    for _ in range(3):
        sign_in(fake, provider)

    assert [fake.requests.count(path) for path in ("/.well-known/openid-configuration", "/jwks")] == [1, 1]


def test_a_new_key_is_found_but_looked_for_once_a_minute_only(
    fake: FakeProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    provider, now = provider_of(fake), time.monotonic()
    sign_in(fake, provider)
    fake.key = ECKey.generate_key("P-256", {"kid": "key-2"})
    fake.forge = lambda claims: fake.sign(claims, kid="key-2")

    with pytest.raises(SignInRefusedError):
        sign_in(fake, provider)
    monkeypatch.setattr(time, "monotonic", lambda: now + 70)

    assert sign_in(fake, provider).subject == fake.person["sub"]
    assert fake.requests.count("/jwks") == 2


def test_a_private_address_in_a_discovery_document_is_not_called(fake: FakeProvider) -> None:
    """The issuer is allowed to be anywhere; where a public one may lead to is checked at each call."""
    strict = Outgoing(allow_http=True)

    with pytest.raises(ProviderUnavailableError):
        provider_of(fake, outgoing=strict).authorization_url(CHALLENGE)

    assert fake.requests == []
