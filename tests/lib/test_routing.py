"""What `lib.routing` does around a handler, seen through HTTP."""

import threading
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from litestar import Controller, Litestar
from litestar.params import FromQuery
from litestar.testing import TestClient
from sqlalchemy import URL, NullPool, create_engine, select, text

from app.domain.users.models import User
from app.domain.users.services import UserService
from app.lib.access.guards import public
from app.lib.errors import ApplicationError
from app.lib.routing import delete, get, patch, post, put
from app.lib.settings import Settings
from app.server import asgi
from tests.factories.users import UserFactory

pytestmark = pytest.mark.integration


class RefusedButRecordedError(ApplicationError):
    keeps_writes = True


def is_autocommit(users: UserService) -> bool:
    driver = users.session.connection().connection.driver_connection
    assert isinstance(driver, psycopg.Connection)
    return driver.autocommit


class ProbeController(Controller):
    """Handlers as a developer would write them, which tell how they were run."""

    path = "/probe"
    guards = [public]

    @get()
    def read_probe(self, users: UserService, name: FromQuery[str] = "") -> dict[str, Any]:
        found = users.get_one_or_none(User.first_name == name)
        return {
            "thread": threading.current_thread().name,
            "autocommit": is_autocommit(users),
            "found": found is not None,
        }

    @post()
    def write_probe(self, users: UserService, name: FromQuery[str]) -> dict[str, Any]:
        users.create(UserFactory.build(first_name=name))
        return {"autocommit": is_autocommit(users)}

    @put()
    def refuse_probe(self, users: UserService, name: FromQuery[str]) -> None:
        users.create(UserFactory.build(first_name=name))
        raise ApplicationError

    @patch()
    def refuse_probe_and_keep(self, users: UserService, name: FromQuery[str]) -> None:
        users.create(UserFactory.build(first_name=name))
        raise RefusedButRecordedError

    @delete()
    def write_in_vain(self, users: UserService) -> None:
        users.session.execute(text("SET CONSTRAINTS ALL DEFERRED"))


class RecordingController(Controller):
    path = "/recording"
    guards = [public]

    @get(records=True)
    def read_and_record(self, users: UserService, *, is_refused: FromQuery[bool] = False) -> None:
        users.create(UserFactory.build(first_name="Ada"))
        if is_refused:
            raise ApplicationError


class StoppingController(Controller):
    path = "/stopping"
    guards = [public]

    @get()
    def stop_iteration(self) -> str:
        nobody: list[str] = []
        return next(iter(nobody))


class WritingReadController(Controller):
    path = "/writing-read"
    guards = [public]

    @get()
    def write_while_reading(self, users: UserService) -> None:
        users.create(UserFactory.build())


@pytest.fixture
def probe(live_database: URL, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Iterator[TestClient[Litestar]]:
    monkeypatch.setattr(
        asgi, "CONTROLLERS", [ProbeController, RecordingController, StoppingController, WritingReadController]
    )
    with TestClient(asgi.build_app(settings, live_database), raise_server_exceptions=False) as client:
        client.base_url = client.base_url.join("/api/v1/")
        yield client


@pytest.fixture
def stored(live_database: URL) -> Any:
    """Read with a fresh connection."""

    def read() -> list[str]:
        with create_engine(live_database, poolclass=NullPool).connect() as connection:
            return list(connection.scalars(select(User.first_name)))

    return read


def test_a_get_reads_in_a_worker_thread_on_autocommit(probe: TestClient[Litestar]) -> None:
    answer = probe.get("probe").json()

    assert answer["thread"].startswith("keel_")
    assert answer["autocommit"]


def test_other_methods_write_in_a_transaction_that_commits(probe: TestClient[Litestar], stored: Any) -> None:
    answer = probe.post("probe?name=Ada")

    assert answer.json() == {"autocommit": False}
    assert stored() == ["Ada"]
    assert probe.get("probe?name=Ada").json()["found"]


def test_a_handler_refuses_by_raising_and_nothing_is_stored(probe: TestClient[Litestar], stored: Any) -> None:
    assert probe.put("probe?name=Ada").status_code == 400
    assert stored() == []


def test_a_refusal_may_keep_what_was_written(probe: TestClient[Litestar], stored: Any) -> None:
    assert probe.patch("probe?name=Ada").status_code == 400
    assert stored() == ["Ada"]


def test_a_get_that_writes_is_a_bug_of_ours(probe: TestClient[Litestar], stored: Any) -> None:
    assert probe.get("writing-read").status_code == 500
    assert stored() == []


def test_a_get_that_records_writes_as_other_methods_do(probe: TestClient[Litestar], stored: Any) -> None:
    assert probe.get("recording?is_refused=true").status_code == 400
    assert stored() == []
    assert probe.get("recording").is_success
    assert stored() == ["Ada"]


def test_a_handler_that_lets_stop_iteration_escape_is_500_and_keeps_no_thread(
    probe: TestClient[Litestar], settings: Settings
) -> None:
    answers = [probe.get("stopping").status_code for _ in range(settings.db_pool_size + 1)]

    assert set(answers) == {500}
    assert probe.get("probe").status_code == 200


def test_a_handler_without_an_answer_is_204(probe: TestClient[Litestar]) -> None:
    assert probe.delete("probe").status_code == 204


def test_services_are_no_parameters_of_the_request(probe: TestClient[Litestar]) -> None:
    operation = probe.app.openapi_schema.to_schema()["paths"]["/api/v1/probe"]["get"]

    assert [parameter["name"] for parameter in operation["parameters"]] == ["name"]
    assert operation["operationId"] == "ReadProbe"
