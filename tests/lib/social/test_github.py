from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from app.lib.outgoing import ProviderUnavailableError
from app.lib.social.challenge import challenge_of
from app.lib.social.github import API, SITE, GitHubProvider
from app.lib.social.person import Callback, Person, SignInRefusedError
from tests.fake_provider import CLIENT_ID, CLIENT_SECRET, FakeProvider, answer_json
from tests.lib.social.conftest import LOCAL

pytestmark = pytest.mark.unit

CHALLENGE = challenge_of("a state", secret="a secret", redirect_uri="http://keel.test/callback")
ADDRESSES = [
    {"email": "shown@example.com", "primary": False, "verified": False, "visibility": "public"},
    {"email": "Ada@Example.com", "primary": True, "verified": True, "visibility": None},
]
USER = {"id": 583231, "login": "ada", "name": "Ada Lovelace", "email": "shown@example.com"}


def sign_in(fake: FakeProvider, user: Any = USER, addresses: Any = ADDRESSES) -> Person:
    fake.answers |= {"/user": answer_json(user), "/user/emails": answer_json(addresses)}
    github = GitHubProvider(
        client_id=CLIENT_ID, client_secret=CLIENT_SECRET, outgoing=LOCAL, site=fake.url, api=fake.url
    )
    back = fake.return_from(github.authorization_url(CHALLENGE))
    return github.identify(Callback(code=back["code"]), CHALLENGE)


def test_it_is_asked_at_its_documented_urls_with_pkce() -> None:
    github = GitHubProvider(client_id=CLIENT_ID, client_secret=CLIENT_SECRET, outgoing=LOCAL)

    url = github.authorization_url(CHALLENGE)

    asked = parse_qs(urlsplit(url).query)
    assert url.startswith("https://github.com/login/oauth/authorize?")
    assert (SITE, API) == ("https://github.com", "https://api.github.com")
    assert asked["code_challenge_method"] == ["S256"]
    assert asked["scope"] == ["read:user user:email"]


@pytest.mark.attack(48)
def test_the_identity_is_the_number_and_the_address_the_primary_one(fake: FakeProvider) -> None:
    person = sign_in(fake)

    expected = Person("https://github.com", "583231", "ada@example.com", is_email_verified=True)
    assert (person.issuer, person.subject, person.email, person.is_email_verified) == (
        expected.issuer,
        expected.subject,
        expected.email,
        expected.is_email_verified,
    )
    assert person.first_name == "Ada Lovelace"
    assert fake.requests == ["/login/oauth/access_token", "/user", "/user/emails"]


@pytest.mark.attack(48)
@pytest.mark.parametrize(
    "addresses",
    [
        [],
        [{"email": "ada@example.com", "primary": False, "verified": True}],
        [{"email": "ada@example.com", "primary": True, "verified": False}],
    ],
)
def test_the_shown_address_of_the_profile_never_counts(fake: FakeProvider, addresses: Any) -> None:
    assert not sign_in(fake, addresses=addresses).is_email_verified


@pytest.mark.parametrize(
    ("user", "addresses"),
    [
        ({"login": "ada"}, ADDRESSES),
        ({"id": "583231", "login": "ada"}, ADDRESSES),
        ({"id": True, "login": "ada"}, ADDRESSES),
        ([], ADDRESSES),
        (USER, {"message": "Requires authentication"}),
        (USER, [{"email": "ada@example.com", "primary": True, "verified": "true"}]),
    ],
)
def test_an_answer_of_another_shape_is_no_sign_in(fake: FakeProvider, user: Any, addresses: Any) -> None:
    with pytest.raises(ProviderUnavailableError):
        sign_in(fake, user, addresses)


def test_an_error_with_status_200_as_github_sends_it_is_a_refusal(fake: FakeProvider) -> None:
    fake.answers["/login/oauth/access_token"] = answer_json({"error": "bad_verification_code"})

    with pytest.raises(SignInRefusedError):
        sign_in(fake)
