"""API keys as programs present them, and what they cost."""

import re
import time
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from litestar import Litestar
from sqlalchemy import Connection, event
from sqlalchemy.orm import Session

from app.domain.api_keys.models import ApiKey
from app.domain.users.models import User
from app.lib.access.guards import api_scopes, guarded_routes, scope_of
from app.lib.api_keys import new_api_key
from app.lib.db.models import utc_now
from app.lib.random_secrets import hash_of
from app.lib.settings import Settings
from app.server import api_keys, authentication
from app.server.asgi import build_app
from tests.callers import Callers
from tests.conftest import API, SignedIn
from tests.factories.api_keys import ApiKeyFactory
from tests.live import wait_until

pytestmark = pytest.mark.integration
AsUser = Callable[..., SignedIn]


class Program(SignedIn):
    """Somebody at a client, by an API key."""

    def __init__(self, owner: SignedIn, row: ApiKey, key: str) -> None:
        super().__init__(owner.client, owner.user, owner.session, key)
        self.row = row


MakeKey = Callable[..., Program]


@pytest.fixture
def with_key(as_user: AsUser, session: Session) -> MakeKey:
    def make(owner: SignedIn | None = None, **fields: Any) -> Program:
        owner, key = owner or as_user(), new_api_key()
        row = ApiKeyFactory.build(user_id=owner.user.id, key_hash=hash_of(key), **fields)
        session.add(row)
        session.commit()
        return Program(owner, row, key)

    return make


@pytest.fixture
def look_ups(connection: Connection) -> Iterator[list[str]]:
    """Fills with the statements that look for a key."""
    found: list[str] = []

    def note(_: object, __: object, statement: str, *___: object) -> None:
        if statement.startswith("SELECT") and "api_keys.key_hash = " in statement:
            found.append(statement)

    event.listen(connection, "before_cursor_execute", note)
    yield found
    event.remove(connection, "before_cursor_execute", note)


def test_a_key_acts_for_its_owner_within_its_scopes(with_key: MakeKey) -> None:
    program = with_key(scopes=["items:read", "profile:read"])

    assert program.get("/users/me").json()["id"] == str(program.user.id)
    assert program.get("/items").json()["total"] == 0
    refused = program.post("/items", json={"title": "x"})

    assert (refused.status_code, refused.json()["code"]) == (403, "scope_required")
    assert refused.json()["detail"] == "This API key lacks the scope items:create."
    assert refused.headers["www-authenticate"] == 'Bearer error="insufficient_scope"'


def test_an_administrators_key_has_no_rights_but_those_of_its_scopes(with_key: MakeKey, as_user: AsUser) -> None:
    program = with_key(as_user(is_superuser=True), scopes=["items:read"])

    assert program.get("/items").status_code == 200
    assert program.get("/jobs").json()["detail"] == "This API key lacks the scope jobs:read."


def test_a_scope_is_no_right(with_key: MakeKey) -> None:
    assert with_key(scopes=["jobs:read"]).get("/jobs").json()["code"] == "permission_denied"


def test_what_is_about_the_owners_own_account_is_closed_to_keys(app: Litestar) -> None:
    """What could lock them out, or outlive the key: passwords, sessions, second factors, keys."""
    private = re.compile(r"/(auth|users/me|users/{user_id}/\w+)(/|$)")
    open_routes = {
        f"{route.method} {route.path.removeprefix(API)}"
        for route in guarded_routes(app)
        if scope_of(route.handler, route.method) and private.match(route.path.removeprefix(API))
    }

    assert open_routes == {
        "GET /users/me",
        "GET /users/me/permissions",
        "GET /users/{user_id}/permissions",
        "GET /users/{user_id}/roles",
    }
    assert "users:delete" not in api_scopes(app)


def test_every_route_that_names_no_scope_is_closed_and_asks_nothing(
    app: Litestar, with_key: MakeKey, look_ups: list[str]
) -> None:
    program = with_key(scopes=api_scopes(app))
    closed = [
        route
        for route in guarded_routes(app)
        if not route.is_public and scope_of(route.handler, route.method) is None and route.path.startswith(API)
    ]
    assert {"/api/v1/users/me/api-keys", "/api/v1/auth/logout"} <= {route.path for route in closed}

    for route in closed:
        path = re.sub(r"\{\w+\}", str(program.row.id), route.path.removeprefix(API))
        answer = program.request(route.method, path)
        assert (answer.status_code, answer.json()["code"]) == (403, "scope_required"), route

    assert look_ups == []


@pytest.mark.parametrize(
    "state",
    [
        {"revoked_at": utc_now()},
        {"expires_at": utc_now() - timedelta(seconds=1)},
    ],
)
def test_a_key_that_has_ended_is_nobodys(state: dict[str, Any], with_key: MakeKey) -> None:
    assert with_key(**state).get("/items").status_code == 401


def test_a_key_ends_with_its_owners_activity(with_key: MakeKey, as_user: AsUser) -> None:
    assert with_key(as_user(is_active=False)).get("/items").status_code == 401


def test_a_malformed_key_asks_nothing_and_an_unknown_one_once(with_key: MakeKey, look_ups: list[str]) -> None:
    program = with_key()

    for token in (program.token[:-1], program.token + "x", "keel_", "keel_" + "x" * 39):
        program.token = token
        assert program.get("/items").status_code == 401
    assert look_ups == []

    program.token = new_api_key()
    assert {program.get("/items").status_code for _ in range(3)} == {401}
    assert len(look_ups) == 1


def test_public_routes_ask_nothing(with_key: MakeKey, look_ups: list[str]) -> None:
    headers = {"Authorization": f"Bearer {with_key().token}"}

    assert with_key().client.get("/health/live", headers=headers).status_code == 200
    assert look_ups == []


def test_a_busy_key_is_looked_up_once_in_5_seconds(app: Litestar, with_key: MakeKey, look_ups: list[str]) -> None:
    program = with_key()
    for _ in range(5):
        assert program.get("/items").status_code == 200
    assert len(look_ups) == 1
    [left] = [answer.until - time.monotonic() for answer in answers_of(app, program)]
    assert 4 < left <= 5

    let_answers_age(app)

    assert program.get("/items").status_code == 200
    assert len(look_ups) == 2


def answers_of(app: Litestar, program: Program) -> list[api_keys.Answer]:
    known: list[api_keys.Answer] = app.state.api_keyring._answers.values()
    return [answer for answer in known if answer.holder and answer.holder.session_id == program.row.id]


def let_answers_age(app: Litestar) -> None:
    known = app.state.api_keyring._answers
    known.update({digest: answer._replace(until=0) for digest, answer in known.items()})


def test_a_key_that_is_remembered_still_ends_on_time(with_key: MakeKey) -> None:
    program = with_key(expires_at=utc_now() + timedelta(seconds=1))
    assert program.get("/items").status_code == 200

    wait_until(lambda: program.get("/items").status_code == 401, seconds=3)


def test_more_keys_than_fit_the_memory_are_all_good(monkeypatch: pytest.MonkeyPatch, with_key: MakeKey) -> None:
    monkeypatch.setattr(api_keys, "REMEMBERED_KEYS", 2)
    programs = [with_key(scopes=["profile:read"]) for _ in range(4)]

    for _ in range(2):
        assert [who.get("/users/me").json()["id"] for who in programs] == [str(who.user.id) for who in programs]


def test_a_revoked_key_is_dead_at_once(with_key: MakeKey, as_user: AsUser) -> None:
    ada = as_user()
    program = with_key(ada)
    assert program.get("/items").status_code == 200

    assert ada.delete(f"/users/me/api-keys/{program.row.id}").status_code == 204

    assert program.get("/items").status_code == 401


def test_an_answer_that_left_before_a_revocation_and_came_after_it_is_not_believed(
    with_key: MakeKey, app: Litestar
) -> None:
    program = with_key()
    app.state.api_keyring.receive(str(program.row.id))

    assert program.get("/items").status_code == 401


def test_revocations_are_forgotten_when_no_answer_can_be_older(monkeypatch: pytest.MonkeyPatch) -> None:
    keyring = api_keys.ApiKeyring(is_limited=False)
    keyring.receive(str(UUID(int=1)))
    keyring.catch_up(Session(), everything=False)
    assert keyring._revoked

    monkeypatch.setattr(api_keys, "REVOKED", -1)
    keyring.catch_up(Session(), everything=False)

    assert not keyring._revoked


def test_no_key_is_believed_while_revocations_are_unknown(with_key: MakeKey, monkeypatch: pytest.MonkeyPatch) -> None:
    program = with_key()
    monkeypatch.setattr(authentication, "MAX_LAG", float("-inf"))

    assert program.get("/items").status_code == 503


def test_the_last_use_is_recorded_once_a_minute(app: Litestar, with_key: MakeKey, session: Session) -> None:
    program = with_key()
    row, changed_at = program.row, program.row.updated_at
    program.get("/items")
    session.refresh(row)
    assert row.last_used_at is not None
    assert row.updated_at == changed_at

    for ago, is_recorded in ((50, False), (70, True)):
        used_at = row.last_used_at = utc_now() - timedelta(seconds=ago)
        session.commit()
        let_answers_age(app)
        program.get("/items")
        session.refresh(row)
        assert (row.last_used_at != used_at) == is_recorded


@pytest.fixture
def limited(settings: Settings, database_url: Any) -> Iterator[Callers]:
    changes = {"rate_limit_enabled": True, "rate_limit_api_keys": "10/minute"}
    callers = Callers(build_app(settings.model_copy(update=changes), database_url))
    callers.start()
    yield callers
    callers.stop()


def present(callers: Callers, key: str, *, times: int = 1, peer: str = "203.0.113.1") -> Counter[int]:
    answers = callers.call("GET", f"{API}/items", times=times, peer=peer, headers={"Authorization": f"Bearer {key}"})
    return Counter(answer.status_code for answer in answers)


def test_invented_keys_are_counted_by_address(limited: Callers) -> None:
    assert sum((present(limited, new_api_key()) for _ in range(12)), Counter()) == {401: 10, 429: 2}
    assert present(limited, new_api_key(), peer="203.0.113.2") == {401: 1}


def test_a_good_key_is_counted_once_however_busy_it_is(limited: Callers, monkeypatch: pytest.MonkeyPatch) -> None:
    key, database = new_api_key(), limited._app.state.database

    def make(session: Session) -> UUID:
        user = User(email=f"{key[5:15].lower()}@example.com", first_name="Ada", last_name="L")
        session.add(user)
        session.flush()
        session.add(ApiKeyFactory.build(user_id=user.id, key_hash=hash_of(key)))
        return user.id

    database.write(make)
    monkeypatch.setattr(api_keys, "REMEMBERED", 0)

    assert present(limited, key, times=20) == {200: 20}
    assert sum((present(limited, key) for _ in range(20)), Counter()) == {200: 20}
