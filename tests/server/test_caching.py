"""A handler that answers from the cache, through HTTP, in two processes. docs/cache.md shows this code."""

from collections.abc import Iterator
from uuid import UUID

import pytest
from litestar import Controller, Litestar
from litestar.params import JSONBody
from litestar.testing import TestClient
from sqlalchemy import URL

from app.domain.users.models import User
from app.domain.users.services import UserService
from app.lib.access.guards import CurrentUser, authenticated
from app.lib.cache.cache import Region, invalidate
from app.lib.dependencies import Caching
from app.lib.routing import get, put
from app.lib.schema import Line, Schema
from app.lib.settings import Settings
from app.server.asgi import build_app
from app.server.controllers import CONTROLLERS
from tests.live import PASSWORD, wait_until

pytestmark = pytest.mark.integration


class GreetingRead(Schema):
    text: str


class GreetingUpdate(Schema):
    first_name: Line


GREETINGS = Region("greetings", GreetingRead, seconds=300)


class GreetingService(UserService):
    def greet(self, user_id: UUID) -> GreetingRead:
        return GreetingRead(text=f"Good morning, {self.get_one(User.id == user_id).first_name}!")

    def rename(self, user_id: UUID, changes: GreetingUpdate) -> None:
        self.apply(self.get_one(User.id == user_id), changes)
        invalidate(self.session, GREETINGS, user_id)


class GreetingController(Controller):
    path = "/greeting"
    guards = [authenticated]

    @get()
    def get_greeting(self, greetings: GreetingService, me: CurrentUser, cache: Caching) -> GreetingRead:
        """Greet whoever asks: the answer depends on that, so `me.id` is the key."""
        return cache.get_or_create(GREETINGS, me.id, lambda: greetings.greet(me.id))

    @put()
    def update_greeting(self, data: JSONBody[GreetingUpdate], greetings: GreetingService, me: CurrentUser) -> None:
        """Be called otherwise."""
        greetings.rename(me.id, data)


class Clients:
    """Two processes on one database."""

    def __init__(self, here: TestClient[Litestar], there: TestClient[Litestar]) -> None:
        self.here, self.there = here, there

    def sign_in(self, first_name: str) -> None:
        """As somebody new, at both."""
        account = {"email": f"{first_name}@example.com", "password": PASSWORD}
        self.here.post("/api/v1/auth/register", json={**account, "first_name": first_name, "last_name": "L"})
        tokens = self.here.post("/api/v1/auth/login", json=account).json()
        for client in (self.here, self.there):
            client.headers["Authorization"] = f"Bearer {tokens['access_token']}"

    def rename(self, first_name: str) -> None:
        assert self.here.put("/api/v1/greeting", json={"first_name": first_name}).is_success


def greeting(client: TestClient[Litestar]) -> str:
    return str(client.get("/api/v1/greeting").json()["text"])


@pytest.fixture(params=["memory", "redis"])
def clients(
    request: pytest.FixtureRequest, live_database: URL, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Clients]:
    monkeypatch.setattr("app.server.asgi.CONTROLLERS", [*CONTROLLERS, GreetingController])
    redis_url = request.getfixturevalue("redis_server").url if request.param == "redis" else None
    own = settings.model_copy(update={"redis_url": redis_url})
    with TestClient(build_app(own, live_database)) as here, TestClient(build_app(own, live_database)) as there:
        yield Clients(here, there)


def test_a_cached_answer_is_the_same_in_both_and_new_in_both_after_a_change(clients: Clients) -> None:
    clients.sign_in("Ada")
    for client in (clients.here, clients.there, clients.here, clients.there):
        assert greeting(client) == "Good morning, Ada!"
    assert clients.here.get("/health/cache").json()["hits"] >= 1

    clients.rename("Grace")

    assert greeting(clients.here) == "Good morning, Grace!"
    wait_until(lambda: greeting(clients.there) == "Good morning, Grace!", seconds=2)


def test_nobody_is_given_what_was_kept_for_another(clients: Clients) -> None:
    for name in ("Ada", "Grace"):
        clients.sign_in(name)
        assert greeting(clients.here) == f"Good morning, {name}!"
