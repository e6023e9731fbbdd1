"""Refusals are counted aside: through HTTP, from addresses of the test's choice, read back with a fresh connection."""

import asyncio
import logging
import time
from collections.abc import Callable, Iterator
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy import URL, NullPool, create_engine, text

from app.lib.access.guards import Principal
from app.lib.db.database import LOCK_TIMEOUT
from app.lib.settings import Settings
from app.server import denials
from app.server.asgi import build_app
from app.server.denials import KINDS
from app.server.resources import access_tokens
from tests.callers import Callers
from tests.conftest import API
from tests.live import wait_until

pytestmark = pytest.mark.integration

FOREIGN = {"Origin": "https://evil.example"}
"""What a page of somebody else sends; it is refused before the body is read."""


class Refused(Callers):
    """An application on a database of its own."""

    def __init__(self, url: URL, settings: Settings) -> None:
        super().__init__(build_app(settings, url))
        self.url = url
        self._tokens = access_tokens(settings)

    def as_account(self, account: UUID, **fields: Any) -> dict[str, str]:
        """Signed in just now."""
        known: dict[str, Any] = {"is_superuser": False, "authenticated_at": int(time.time())}
        principal = Principal(id=account, session_id=uuid4(), **known | fields)
        return {"Authorization": f"Bearer {self._tokens.issue(principal)}"}

    def refuse(self, account: UUID, path: str = "/users", **options: Any) -> None:
        """Ask for what only administrators may see."""
        answers = self.call("GET", API + path, headers=self.as_account(account), **options)
        assert {answer.status_code for answer in answers} == {403}

    def refuse_stranger(self, peer: str) -> None:
        assert self.call("POST", f"{API}/auth/cookie/login", headers=FOREIGN, peer=peer)[0].status_code == 403

    def flood(self, number: int, *, account: Callable[[int], UUID]) -> None:
        """As `refuse`, many times, without a client that takes longer than the server."""
        app: Any = self._app
        statuses: list[int] = []

        async def receive() -> Any:
            return {"type": "http.request", "body": b"", "more_body": False}

        async def send(message: Any) -> None:
            if message["type"] == "http.response.start":
                statuses.append(message["status"])

        async def run() -> None:
            for index in range(number):
                token = self.as_account(account(index))["Authorization"].encode()
                scope = {
                    "type": "http",
                    "method": "GET",
                    "path": f"{API}/users",
                    "raw_path": f"{API}/users".encode(),
                    "root_path": "",
                    "scheme": "http",
                    "query_string": b"",
                    "http_version": "1.1",
                    "headers": [(b"host", b"keel.test"), (b"authorization", token)],
                    "client": ("203.0.113.1", 1),
                    "server": ("keel.test", 80),
                }
                await app(scope, receive, send)
                await asyncio.sleep(0)

        self._runner.run(run())
        assert statuses == [403] * number

    def pause(self, seconds: float) -> None:
        """Let the application go on without a request."""
        self._runner.run(asyncio.sleep(seconds))

    def rows(self) -> list[Any]:
        with create_engine(self.url, poolclass=NullPool).connect() as fresh:
            return list(fresh.execute(text("SELECT * FROM audit_events WHERE action = 'access.denied' ORDER BY id")))

    def wait_for(self, number: int) -> list[Any]:
        self._wait(lambda: len(self.rows()) >= number, what=f"{number} rows")
        return self.rows()

    def wait_for_counts(self, total: int) -> list[int]:
        """Of all rows, as soon as they stand for so many refusals."""
        self._wait(lambda: sum(row.count for row in self.rows()) >= total, what=f"{total} refusals")
        return [row.count for row in self.rows()]

    def _wait(self, are_there: Callable[[], bool], *, what: str) -> None:
        def are_there_now() -> bool:
            self.pause(0.02)
            return are_there()

        wait_until(are_there_now, seconds=5, what=what)


@pytest.fixture
def refused(live_database: URL, settings: Settings) -> Iterator[Refused]:
    refused = Refused(live_database, settings)
    refused.start()
    yield refused
    refused.stop()


@pytest.fixture
def stopping(live_database: URL, settings: Settings) -> Refused:
    """For tests that stop it themselves."""
    refused = Refused(live_database, settings)
    refused.start()
    return refused


def test_the_first_refusal_is_written_at_once_with_all_that_is_known(refused: Refused) -> None:
    account = uuid4()

    refused.refuse(account, peer="203.0.113.9")

    [row] = refused.wait_for(1)
    assert (row.outcome, row.count, row.source) == ("denied", 1, f"GET {API}/users")
    assert (row.actor_id, row.address, row.details) == (account, "203.0.113.9", {"reason": "permission_denied"})
    assert row.session_id
    assert row.request_id


def test_two_thousand_refusals_are_two_rows_that_count_them(stopping: Refused) -> None:
    account = uuid4()

    stopping.flood(2_000, account=lambda _: account)
    stopping.stop()

    first, others = stopping.rows()
    assert first.count + others.count == 2_000
    assert first.count < 100


def test_five_hundred_accounts_are_no_more_rows_than_a_window_may_have(stopping: Refused) -> None:
    stopping.flood(500, account=lambda _: uuid4())
    stopping.stop()

    rows = stopping.rows()
    assert sum(row.count for row in rows) == 500
    assert len(rows) == KINDS + 1
    [rest] = [row for row in rows if row.source == "several routes"]
    assert (rest.count, rest.actor_id, rest.address) == (500 - KINDS, None, None)


def test_strangers_leave_half_of_the_room_to_those_who_are_known(stopping: Refused) -> None:
    for number in range(KINDS):
        stopping.refuse_stranger(f"198.51.100.{number}")
    stopping.refuse(account := uuid4())
    stopping.stop()

    rows = stopping.rows()
    assert len([row for row in rows if row.address and row.actor_id is None]) == KINDS // 2
    assert [row.count for row in rows if row.actor_id == account] == [1]


def test_who_may_and_is_refused_for_another_reason_did_not_lack_the_permission(refused: Refused) -> None:
    long_ago = refused.as_account(uuid4(), is_superuser=True, authenticated_at=1_764_000_000)

    [answer] = refused.call("DELETE", f"{API}/users/{uuid4()}", headers=long_ago)

    assert answer.json()["code"] == "reauthentication_required"
    [row] = refused.wait_for(1)
    assert (row.permission, row.details) == (None, {"reason": "reauthentication_required"})


def test_each_kind_has_a_row_of_its_own(refused: Refused) -> None:
    ada, grace = uuid4(), uuid4()

    for account, path in ((ada, "/users"), (ada, "/jobs"), (grace, "/users")):
        refused.refuse(account, path)
    refused.refuse_stranger("203.0.113.7")

    rows = refused.wait_for(4)
    assert {(row.actor_id, row.source) for row in rows} == {
        (ada, f"GET {API}/users"),
        (ada, f"GET {API}/jobs"),
        (grace, f"GET {API}/users"),
        (None, f"POST {API}/auth/cookie/login"),
    }


def test_when_a_window_ends_the_others_are_a_row_and_a_window_without_refusals_is_none(
    live_database: URL, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(denials, "WINDOW", 0.5)
    refused, account = Refused(live_database, settings), uuid4()
    refused.start()

    refused.refuse(account)
    refused.wait_for(1)
    refused.refuse(account, times=3)
    counts = refused.wait_for_counts(4)
    refused.pause(0.7)

    assert (sum(counts), counts[0]) == (4, 1)
    assert [row.count for row in refused.rows()] == counts
    refused.stop()


def test_a_refusal_does_not_wait_for_the_audit_log(stopping: Refused) -> None:
    with create_engine(stopping.url, poolclass=NullPool).begin() as other:
        other.execute(text("LOCK TABLE audit_events IN ACCESS EXCLUSIVE MODE"))
        began = time.monotonic()
        for _ in range(3):
            stopping.refuse(uuid4())
        took = time.monotonic() - began
    stopping.stop()

    assert took < LOCK_TIMEOUT, "each would have waited so long"
    assert [row.count for row in stopping.rows()] == [1, 1, 1]


def test_what_could_not_be_written_is_said_at_the_end(stopping: Refused, caplog: pytest.LogCaptureFixture) -> None:
    with create_engine(stopping.url, poolclass=NullPool).begin() as operator:
        operator.execute(text("ALTER TABLE audit_events RENAME TO gone"))

    with caplog.at_level(logging.WARNING, "app.server.denials"):
        stopping.refuse(uuid4(), times=2)
        stopping.pause(0.2)
        stopping.refuse(uuid4())
        stopping.stop()

    said = [record.getMessage() for record in caplog.records if record.name == "app.server.denials"]
    assert said == [
        "denials cannot be written to the audit log yet: ProgrammingError",
        "3 denials are not in the audit log: the database does not answer",
    ]


def test_what_could_not_be_written_is_tried_again(stopping: Refused) -> None:
    with create_engine(stopping.url, poolclass=NullPool, isolation_level="AUTOCOMMIT").connect() as operator:
        operator.execute(text("ALTER TABLE audit_events RENAME TO gone"))
        stopping.refuse(uuid4(), times=2)
        stopping.pause(0.2)
        operator.execute(text("ALTER TABLE gone RENAME TO audit_events"))
    stopping.refuse(uuid4())
    stopping.stop()

    assert sorted(row.count for row in stopping.rows()) == [1, 2]
