import socket
import threading
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from litestar import Litestar
from litestar.testing import TestClient
from sqlalchemy import URL, func, update
from sqlalchemy.orm import Session

from app.domain.sessions.models import UserSession
from app.lib.access.guards import Principal
from app.lib.events import EventFeed
from app.lib.settings import Settings
from app.server import authentication
from app.server.asgi import build_app
from app.server.authentication import RevokedSessions
from app.server.resources import access_tokens
from tests.conftest import API, SignedIn
from tests.live import PASSWORD, wait_until

pytestmark = pytest.mark.integration
AsUser = Callable[..., SignedIn]


@pytest.fixture
def revoked() -> RevokedSessions:
    return RevokedSessions(token_lifetime=timedelta(minutes=15))


def revoke(session: Session, session_id: UUID, *, ago: timedelta) -> None:
    session.execute(update(UserSession).where(UserSession.id == session_id).values(revoked_at=func.now() - ago))


def test_a_token_that_was_verified_once_still_ends_on_time(as_user: AsUser, settings: Settings) -> None:
    ada = as_user()
    short = access_tokens(settings)
    short.lifetime = timedelta(seconds=2)
    ada.token = short.issue(
        Principal(id=ada.user.id, session_id=ada.session.id, is_superuser=False, authenticated_at=1_764_000_000)
    )
    assert ada.get("/users/me").status_code == 200

    wait_until(lambda: ada.get("/users/me").status_code == 401, seconds=4)


def test_more_tokens_than_fit_the_cache_are_all_good(monkeypatch: pytest.MonkeyPatch, as_user: AsUser) -> None:
    monkeypatch.setattr(authentication, "CACHED_TOKENS", 2)
    people = [as_user() for _ in range(4)]

    for _ in range(2):
        assert [who.get("/users/me").json()["id"] for who in people] == [str(who.user.id) for who in people]


def test_no_token_is_believed_while_revocations_are_unknown(as_user: AsUser, monkeypatch: pytest.MonkeyPatch) -> None:
    ada = as_user()
    monkeypatch.setattr(authentication, "MAX_LAG", float("-inf"))

    answer = ada.get("/users/me")

    assert answer.status_code == 503
    assert answer.headers["retry-after"] == "2"
    headers = {"Authorization": f"Bearer {ada.token}"}
    assert ada.client.get("/health/live", headers=headers).status_code == 200
    assert ada.client.get(f"{API}/users/me").status_code == 401


def test_catching_up_reads_all_that_an_unexpired_token_could_have(
    revoked: RevokedSessions, as_user: AsUser, session: Session
) -> None:
    recent, older, ancient = (as_user().session.id for _ in range(3))
    revoke(session, recent, ago=timedelta(seconds=10))
    revoke(session, older, ago=timedelta(minutes=14))
    revoke(session, ancient, ago=timedelta(hours=1))

    revoked.catch_up(session, everything=False)
    assert (recent in revoked, older in revoked) == (True, False)

    revoked.catch_up(session, everything=True)
    assert (older in revoked, ancient in revoked) == (True, False)


def test_what_no_token_can_refer_to_any_more_is_forgotten(
    revoked: RevokedSessions, session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended = uuid4()
    revoked.receive(str(ended))
    revoked.catch_up(session, everything=False)
    assert ended in revoked
    later = time.monotonic() + 15 * 60 + 91

    monkeypatch.setattr(time, "monotonic", lambda: later)
    revoked.catch_up(session, everything=False)

    assert ended not in revoked


def test_a_token_of_a_session_nobody_knows_is_good_until_it_ends(
    client: TestClient[Litestar], settings: Settings
) -> None:
    """No query tells who asks: what the token says is believed, and rows of nobody are found by nobody."""
    stranger = Principal(id=uuid4(), session_id=uuid4(), is_superuser=False, authenticated_at=1_764_000_000)
    headers = {"Authorization": f"Bearer {access_tokens(settings).issue(stranger)}"}

    assert client.get(f"{API}/items", headers=headers).json()["total"] == 0
    assert client.get(f"{API}/users/me", headers=headers).status_code == 404
    assert client.post(f"{API}/items", headers=headers, json={"title": "x"}).status_code == 409


def test_an_event_that_is_no_session_is_passed_over(app: Litestar, revoked: RevokedSessions) -> None:
    feed = EventFeed(app.state.database.engine.url, revoked)
    ended = uuid4()

    for event in ("session_revoked:not-a-uuid", "session_revoked:", "session_revoked", f"session_revoked:{ended}"):
        feed.deliver(event)

    assert ended in revoked


Client = TestClient[Litestar]


@pytest.fixture
def processes(
    live_database: URL, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[Client, Client]]:
    """Two, whose Redis has a name that is looked up until the test is over: no time-out of a socket bounds that."""
    is_over, look_up = threading.Event(), socket.getaddrinfo

    def hang(host: Any, *arguments: Any, **options: Any) -> Any:
        if host == "redis.test":
            assert is_over.wait(60)
            raise socket.gaierror
        return look_up(host, *arguments, **options)

    monkeypatch.setattr(socket, "getaddrinfo", hang)
    monkeypatch.setattr("app.server.lifespan.START_PATIENCE", 0.5)
    own = settings.model_copy(update={"redis_url": "redis://redis.test"})
    with TestClient(build_app(own, live_database)) as here, TestClient(build_app(own, live_database)) as there:
        yield here, there
        is_over.set()


def test_a_redis_that_hangs_delays_no_revocation(processes: tuple[Client, Client]) -> None:
    here, there = processes
    wait_until(lambda: all(events(client) == "ok" for client in processes), seconds=5)
    account = {"email": "ada@example.com", "password": PASSWORD}
    here.post(f"{API}/auth/register", json={**account, "first_name": "Ada", "last_name": "L"})
    headers = {"Authorization": f"Bearer {here.post(f'{API}/auth/login', json=account).json()['access_token']}"}
    assert there.get(f"{API}/users/me", headers=headers).status_code == 200

    assert here.post(f"{API}/auth/logout", headers=headers).status_code == 204

    assert here.get(f"{API}/users/me", headers=headers).status_code == 401
    wait_until(lambda: there.get(f"{API}/users/me", headers=headers).status_code == 401, seconds=5)


def events(client: Client) -> str:
    return str(client.get("/health/ready").json()["checks"]["events"])
