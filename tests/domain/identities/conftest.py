from collections.abc import Callable, Iterator

import pytest
from litestar import Litestar
from litestar.testing import TestClient

from app.lib.outgoing import Outgoing
from app.lib.social.github import GitHubProvider
from app.lib.social.openid import OpenIDProvider
from app.lib.social.providers import Providers
from tests.conftest import API
from tests.fake_provider import CLIENT_ID, CLIENT_SECRET, FakeProvider
from tests.visitor import Visitor

LOCAL = Outgoing(allow_private_addresses=True, allow_http=True, seconds=0.6)


@pytest.fixture(scope="module")
def running_fakes() -> Iterator[tuple[FakeProvider, FakeProvider]]:
    with FakeProvider() as fake, FakeProvider("other") as other:
        yield fake, other


@pytest.fixture
def visitor(
    app: Litestar, client: TestClient[Litestar], running_fakes: tuple[FakeProvider, FakeProvider]
) -> Iterator[Visitor]:
    """Of an application that knows `fake`, `other` and `github`, all of them ours."""
    real, (fake, other) = app.state.providers, running_fakes
    for each in running_fakes:
        each.reset()
    app.state.providers = Providers([provider_of(fake), provider_of(other), github_of(fake)])
    client.cookies.clear()
    yield Visitor(client, fake, prefix=API)
    client.cookies.clear()
    app.state.providers = real


@pytest.fixture
def other(running_fakes: tuple[FakeProvider, FakeProvider]) -> FakeProvider:
    return running_fakes[1]


@pytest.fixture
def verified(visitor: Visitor) -> Callable[..., FakeProvider]:
    """Let the provider say who comes next."""

    def say(email: str, **claims: object) -> FakeProvider:
        visitor.fake.person |= {"email": email, "email_verified": True, **claims}
        return visitor.fake

    return say


def provider_of(fake: FakeProvider) -> OpenIDProvider:
    return OpenIDProvider(
        name=fake.name,
        label=fake.name.title(),
        issuer=fake.issuer,
        client_id=CLIENT_ID,
        client_secret=CLIENT_SECRET,
        outgoing=LOCAL,
    )


def github_of(fake: FakeProvider) -> GitHubProvider:
    return GitHubProvider(client_id=CLIENT_ID, client_secret=CLIENT_SECRET, outgoing=LOCAL, site=fake.url, api=fake.url)
