"""Backup, change, restore; backup, drop, restore: with the API running, which recovers by itself."""

import re
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy import URL, text

from app.lib.settings import Settings
from tests.backup_runs import Operator, content, fresh
from tests.live import LiveServer, running_processes, wait_until

pytestmark = pytest.mark.e2e

GIVE_VIEWER = text("""
    INSERT INTO role_assignments (id, user_id, role_id, created_at, updated_at)
    SELECT gen_random_uuid(), users.id, roles.id, now(), now() FROM users, roles
    WHERE email = :email AND roles.name = 'viewer'
""")
NOT_THE_SAME = {"sessions", "refresh_tokens", "audit_events", "policy_versions", "api_keys"}
"""Tables to which a restoration adds what has happened since."""


@contextmanager
def asking(server: LiveServer, token: str) -> Iterator[Counter[int]]:
    """Somebody who never stops to ask. Counts the answers by their status."""
    answers: Counter[int] = Counter()
    stop = threading.Event()

    def ask() -> None:
        with server.client(headers={"Authorization": f"Bearer {token}"}) as client:
            while not stop.wait(0.01):
                answers[client.get("/items").status_code] += 1

    thread = threading.Thread(target=ask)
    thread.start()
    try:
        yield answers
    finally:
        stop.set()
        thread.join()


class Person:
    def __init__(self, server: LiveServer) -> None:
        self.server, self.email = server, server.sign_up()
        self.tokens = server.sign_in(self.email)

    def ask(self, method: str, path: str, token: str | None = None, **options: Any) -> httpx.Response:
        headers = {"Authorization": f"Bearer {token or self.tokens['access_token']}"}
        with self.server.client(headers=headers) as client:
            return client.request(method, path, **options)

    def refresh(self) -> httpx.Response:
        return self.ask("POST", "/auth/refresh", json={"refresh_token": self.tokens["refresh_token"]})


@pytest.fixture(scope="module")
def database(new_database: Callable[[], URL]) -> URL:
    return new_database()


@pytest.fixture(scope="module")
def server(database: URL, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    """One for both: that it goes on is what they are about."""
    with running_processes(tmp_path_factory.mktemp("server")) as start:
        yield start(LiveServer, database)


@pytest.fixture
def operator(database: URL, settings: Settings) -> Operator:
    return Operator(database, settings)


def test_a_running_api_goes_on_with_what_is_restored(
    database: URL, server: LiveServer, operator: Operator, tmp_path: Path
) -> None:
    ada, bob, file = Person(server), Person(server), tmp_path / "backup"
    assert ada.ask("POST", "/items", json={"title": "Buy milk"}).is_success
    key = ada.ask("POST", "/users/me/api-keys", json={"name": "one", "scopes": ["items:read"]}).json()
    with fresh(database) as connection:
        connection.execute(GIVE_VIEWER, {"email": ada.email})
    wait_until(lambda: ada.ask("GET", "/posts").status_code == 200, seconds=5)
    before, sequences = content(database)
    assert operator.back_up(file).code == 0

    carol = Person(server)
    assert ada.ask("POST", "/items", json={"title": "Buy bread"}).is_success
    assert ada.ask("DELETE", f"/users/me/api-keys/{key['id']}").is_success
    assert bob.ask("POST", "/auth/logout").is_success
    ada.tokens = ada.refresh().json()
    other_device = server.sign_in(ada.email)["access_token"]
    with fresh(database) as connection:
        connection.execute(text("DELETE FROM role_assignments"))
    wait_until(lambda: ada.ask("GET", "/posts").status_code == 403, seconds=5)

    with asking(server, ada.tokens["access_token"]) as answers:
        ended = operator.restore(file, "--clean", "--yes", "--keep-sessions")
        assert ended.code == 0, ended.said
        wait_until(lambda: ada.ask("GET", "/posts").status_code == 200, seconds=5)

    assert set(answers) <= {200, 503}
    after, reached = content(database)
    assert {name for name in before if before[name] != after[name]} <= NOT_THE_SAME
    assert reached == sequences
    assert [item["title"] for item in ada.ask("GET", "/items").json()["items"]] == ["Buy milk"]
    assert ada.refresh().status_code == 200  # with the token that it got since
    assert ada.ask("GET", "/items", token=other_device).status_code == 200
    assert [person.ask("GET", "/items").status_code for person in (bob, carol)] == [401, 401]
    assert bob.refresh().status_code == 401
    assert ada.ask("GET", "/items", token=key["key"]).status_code == 401
    with fresh(database) as connection:
        kept = connection.scalars(text("SELECT action FROM audit_events WHERE created_at > now() - interval '1 hour'"))
        assert {"session.ended", "api_key.revoked", "database.restored"} <= set(kept)
    assert "Revoked 1 API keys" in ended.said
    assert "Ended 1 sessions, as they had been since." in ended.said


def test_a_dropped_database_is_made_again_and_the_api_recovers(
    database: URL, server: LiveServer, operator: Operator, tmp_path: Path
) -> None:
    ada, file = Person(server), tmp_path / "backup"
    assert ada.ask("POST", "/items", json={"title": "Buy milk"}).is_success
    with fresh(database) as connection:
        connection.execute(GIVE_VIEWER, {"email": ada.email})
    wait_until(lambda: ada.ask("GET", "/posts").status_code == 200, seconds=5)
    before, sequences = content(database)
    assert operator.back_up(file).code == 0

    with fresh(database.set(database="postgres")) as connection:
        connection.execute(text(f"DROP DATABASE {database.database} WITH (FORCE)"))
    assert ada.ask("GET", "/items").status_code == 503
    assert not server.is_ready()
    ended = operator.restore(file, "--keep-sessions")
    assert ended.code == 0, ended.said

    after, reached = content(database)
    assert {name for name in before if before[name] != after[name]} == {"policy_versions", "audit_events"}
    assert reached == sequences
    wait_until(server.is_ready, seconds=10)
    wait_until(lambda: ada.ask("GET", "/posts").status_code == 200, seconds=5)
    assert [item["title"] for item in ada.ask("GET", "/items").json()["items"]] == ["Buy milk"]
    assert re.search(r"[1-9]\d* sessions go on, also those that had been ended since\.", ended.said)

    ended = operator.restore(file, "--clean", "--yes")
    assert ada.ask("GET", "/items").status_code == 401
    assert ada.refresh().status_code == 401
    assert re.search(r"Ended [1-9]\d* sessions\.", ended.said)
