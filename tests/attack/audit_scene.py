"""Somebody does something through HTTP, and its events are found by the request's id."""

from collections.abc import Callable
from functools import cached_property
from typing import Any, NamedTuple
from uuid import UUID, uuid4

import httpx

from app.domain.audit.models import Action
from tests.attack.conftest import Keel
from tests.attack.test_j_users import Person
from tests.attack.test_totp import Ada
from tests.fake_provider import FakeProvider


class Scene:
    """Ada, an administrator, and a request whose id finds its events."""

    def __init__(self, keel: Keel, fakes: dict[str, FakeProvider]) -> None:
        self.keel, self.fake, self.request_id = keel, fakes["fake"], uuid4().hex

    @cached_property
    def ada(self) -> Person:
        return Person(self.keel)

    @cached_property
    def admin(self) -> Person:
        return Person(self.keel, is_superuser=True)

    def client(self, who: Person | Ada | None = None) -> httpx.Client:
        """At the other process than the one at which everything was made ready."""
        token = who.token if who else None
        return self.keel.client(self.keel.there, token=token, headers={"X-Request-ID": self.request_id})

    def ask(self, method: str, path: str, who: Person | Ada | None = None, **body: Any) -> Any:
        with self.client(who) as client:
            return client.request(method, path, json=body or None)

    def events(self, action: Action) -> list[Any]:
        query = "SELECT * FROM audit_events WHERE request_id = :id AND action = :action"
        return self.keel.rows(query, id=self.request_id, action=action)

    def id_of(self, email: str) -> UUID:
        [row] = self.keel.rows("SELECT id FROM users WHERE email = :email", email=email)
        found: UUID = row.id
        return found


class Said(NamedTuple):
    """Who did it, to which account, and how it ended."""

    actor: UUID | None
    subject: UUID | str | None
    outcome: str = "success"


Act = Callable[[Scene], Said]


def by_ada(method: str, path: str, **body: Any) -> Act:
    """On her own account."""

    def act(scene: Scene) -> Said:
        assert scene.ask(method, path, scene.ada, **body).is_success
        return Said(scene.ada.id, scene.ada.id)

    return act


def by_admin(method: str, path: str, **body: Any) -> Act:
    """On Ada's account."""

    def act(scene: Scene) -> Said:
        assert scene.ask(method, path.format(id=scene.ada.id), scene.admin, **body).is_success
        return Said(scene.admin.id, scene.ada.id)

    return act


def by_nobody(path: str) -> Act:
    """With Ada's address."""

    def act(scene: Scene) -> Said:
        assert scene.ask("POST", path, email=scene.ada.email).is_success
        return Said(None, scene.ada.id)

    return act
