"""What a test may ask for. `docs/tests.md` lists it."""

import functools
import gc
import logging
import os
import re
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from email.message import EmailMessage
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import time_machine
from advanced_alchemy.alembic.commands import AlembicCommands
from litestar import Litestar
from litestar.testing import TestClient
from selenium.webdriver import Chrome
from sqlalchemy import URL, Connection, NullPool, create_engine, make_url, select, text
from sqlalchemy.orm import Session

from app.domain.access.models import Role, RoleAssignment
from app.domain.access.services import POLICY_CHANGED, PolicyService
from app.domain.sessions.models import UserSession
from app.domain.sessions.services import principal_of
from app.domain.users.models import User
from app.lib.mail.mailer import Mailer
from app.lib.settings import Settings
from app.server.asgi import build_app
from app.server.logs import configure_logging
from app.server.plugins import alchemy_config
from app.server.postgres.embedded import EmbeddedPostgres
from app.server.resources import access_tokens
from tests.browser import open_browser
from tests.factories.sessions import UserSessionFactory
from tests.factories.users import UserFactory
from tests.inline_jobs import InlineJobs
from tests.live import LiveServer, LiveWorker, running_processes
from tests.one_connection import OneConnection
from tests.redis_server import RedisServer
from tests.s3_server import S3Server

API = "/api/v1"


RANDOM_ID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-")
WAITING = ("e2e", "test_tutorial.py")
"""They wait for processes to start: so they begin first, while others compute."""


def pytest_configure() -> None:
    """The objects of an application are many, and stay: looking through them all the time takes a tenth of a run."""
    gc.set_threshold(50_000, 20, 100)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Processes that share the tests must call them the same; one alone would not notice."""
    items.sort(key=lambda item: not {item.path.parent.name, item.path.name} & {*WAITING})
    if random := [item.nodeid for item in items if RANDOM_ID.search(item.nodeid)]:
        raise pytest.UsageError(f"this test is called differently each time, by a random id: {random[0]}")


@pytest.fixture(scope="session")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedPostgres]:
    """One server for the whole run, shared by the workers of pytest-xdist; the last one stops it."""
    directory = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        directory = directory.parent
    with EmbeddedPostgres(directory / "postgres", durable=False) as server:
        yield server


@pytest.fixture(scope="session")
def new_database(postgres: EmbeddedPostgres) -> Callable[[], URL]:
    """Make a database with every table. The first is made by running the migrations, and the others are copies."""

    def create(template: str = "template1") -> URL:
        name = f"test_{uuid4().hex}"
        with create_engine(postgres.url(), poolclass=NullPool, isolation_level="AUTOCOMMIT").connect() as connection:
            connection.execute(text(f"CREATE DATABASE {name} TEMPLATE {template}"))
        return make_url(postgres.url(name))

    migrated = create()
    AlembicCommands(alchemy_config(migrated)).upgrade()
    return functools.partial(create, str(migrated.database))


@pytest.fixture(scope="session")
def database_url(new_database: Callable[[], URL]) -> URL:
    return new_database()


@pytest.fixture
def live_database(new_database: Callable[[], URL]) -> URL:
    """An own database, for tests about commits, threads and processes."""
    return new_database()


@pytest.fixture(scope="session")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    return Settings(
        _env_file=None,
        app_env="test",
        secret_key="a test key, which is long enough to be one",
        local_dir=tmp_path_factory.mktemp("local"),
        log_level="WARNING",
        mail_backend="memory",
        rate_limit_enabled=False,
    )


@pytest.fixture(autouse=True)
def logs(settings: Settings, request: pytest.FixtureRequest) -> None:
    """As the application writes them, in every test: Litestar configures them too, with each application of a test.
    The configuration takes pytest's handler away, which shows the figures of tests with `--log-cli-level=INFO`."""
    configure_logging(settings)
    live: Any = request.config.pluginmanager.getplugin("logging-plugin")
    if live.log_cli_level is not None:
        logging.getLogger().addHandler(live.log_cli_handler)
        logging.getLogger("tests").setLevel(live.log_cli_level)


@pytest.fixture(scope="session")
def app(settings: Settings, database_url: URL) -> Iterator[Litestar]:
    app = build_app(settings, database_url)
    yield app
    app.state.database.dispose()  # a run without a client never starts it, nor stops it


@pytest.fixture(scope="session")
def running_client(app: Litestar) -> Iterator[TestClient[Litestar]]:
    with TestClient(app, raise_server_exceptions=False) as client:
        yield client


@pytest.fixture
def connection(app: Litestar) -> Iterator[Connection]:
    """A transaction around the test: what the application commits in it is undone."""
    with app.state.database.engine.connect() as connection:
        transaction = connection.begin()
        yield connection
        transaction.rollback()


@pytest.fixture
def session(connection: Connection) -> Iterator[Session]:
    with Session(connection, join_transaction_mode="create_savepoint", expire_on_commit=False) as session:
        yield session


@pytest.fixture
def client(
    app: Litestar, running_client: TestClient[Litestar], connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> Iterator[TestClient[Litestar]]:
    """Nobody is signed in. What requests write is undone after the test."""
    follower = app.state.policy_follower
    with follower._lock:  # it would replace a policy of the test by the stored one, every two seconds
        monkeypatch.setattr(follower, "_follow", lambda *_, **__: None)
    real, policy = app.state.database, app.state.access.policy
    info = real._writer.kw["info"]
    deliver = functools.partial(follow_here, app, connection, info["deliver"])
    app.state.database = OneConnection(connection, session_info=info | {"deliver": deliver})
    app.state.cache.clear()  # what other tests had in it has been undone
    yield running_client
    running_client.cookies.clear()
    app.state.database = real
    app.state.access.policy = policy


def follow_here(app: Litestar, connection: Connection, deliver: Callable[[str], None], event: str) -> None:
    """What the test's transaction says of the policy, nobody outside can read."""
    if event.startswith(POLICY_CHANGED):
        with Session(connection, join_transaction_mode="create_savepoint") as session:
            app.state.access.policy = PolicyService(session).load()
    else:
        deliver(event)


@pytest.fixture
def as_user(
    app: Litestar, client: TestClient[Litestar], session: Session, settings: Settings
) -> Callable[..., "SignedIn"]:
    """`as_user()` is somebody new without a role, `as_user(user)` this user, `as_user(role="editor")` an editor,
    `as_user(is_superuser=True)` an administrator."""

    def sign_in(user: User | None = None, *, role: str | None = None, **fields: Any) -> SignedIn:
        user = user or UserFactory.build(**fields)
        session.add(user)
        session.flush()
        if role:
            held = select(Role.id).where(Role.name == role)
            session.add(RoleAssignment(user_id=user.id, role_id=session.scalars(held).one()))
            app.state.access.policy = PolicyService(session).load()
        row = UserSessionFactory.build(user_id=user.id)
        session.add(row)
        session.commit()
        return SignedIn(client, user, row, access_tokens(settings).issue(principal_of(row, user)))

    return sign_in


@pytest.fixture
def jobs(app: Litestar, connection: Connection) -> InlineJobs:
    """`jobs.queued` is what the application has enqueued; `jobs.run()` runs it, here and now."""
    return InlineJobs(app, connection, OneConnection(connection, session_info={}))


@pytest.fixture
def mailbox(jobs: InlineJobs) -> list[EmailMessage]:
    """The mails that `jobs.run()` has sent."""
    [backend] = jobs.resources[Mailer].backends
    messages: list[EmailMessage] = backend.messages
    return messages


@pytest.fixture
def clock() -> Iterator[time_machine.Traveller]:
    """Python's time, at noon of today and going on from there; `move_to` and `shift` change it. Not the database's."""
    noon = datetime.now(UTC).replace(hour=12, minute=0, second=0)
    with time_machine.travel(noon, tick=True) as coordinates:
        yield coordinates


class SignedIn:
    """A user at a client: `get`, `post`, `put`, `patch`, `delete` below the API's prefix, with the user's token."""

    def __init__(self, client: TestClient[Litestar], user: User, row: UserSession, token: str) -> None:
        self.client, self.user, self.session, self.token = client, user, row, token

    def request(self, method: str, path: str, **options: Any) -> Any:
        headers = {"Authorization": f"Bearer {self.token}", **options.pop("headers", {})}
        return self.client.request(method, API + path, headers=headers, **options)

    def get(self, path: str, **options: Any) -> Any:
        return self.request("GET", path, **options)

    def post(self, path: str, **options: Any) -> Any:
        return self.request("POST", path, **options)

    def put(self, path: str, **options: Any) -> Any:
        return self.request("PUT", path, **options)

    def patch(self, path: str, **options: Any) -> Any:
        return self.request("PATCH", path, **options)

    def delete(self, path: str, **options: Any) -> Any:
        return self.request("DELETE", path, **options)


@pytest.fixture
def start_process(tmp_path: Path) -> Iterator[Callable[..., Any]]:
    """Start a process of the application against a database. Stopped after the test."""
    with running_processes(tmp_path) as start:
        yield start


@pytest.fixture
def start_server(start_process: Callable[..., LiveServer]) -> Callable[..., LiveServer]:
    """Start the real thing: Granian, its own worker processes, a socket on loopback."""
    return functools.partial(start_process, LiveServer)


@pytest.fixture
def start_worker(start_process: Callable[..., LiveWorker]) -> Callable[..., LiveWorker]:
    """Start `litestar worker`."""
    return functools.partial(start_process, LiveWorker)


@pytest.fixture
def redis_server(tmp_path: Path) -> Iterator[RedisServer]:
    """A real Redis of the test's own. Skipped, with a line that says how to get one, where there is none."""
    server = RedisServer(tmp_path)
    server.start()
    yield server
    server.stop()


@pytest.fixture
def s3_server(monkeypatch: pytest.MonkeyPatch) -> Iterator[S3Server]:
    """A real S3-compatible service with one empty bucket, which the environment names."""
    with S3Server() as server:
        for name, value in server.environment.items():
            monkeypatch.setenv(name, value)
        yield server


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[Chrome]:
    """A real Chromium without a window. Skipped, with a line that says how to get one, where there is none."""
    browser = open_browser(tmp_path / "profile")
    browser.implicitly_wait(5)
    yield browser
    browser.quit()
