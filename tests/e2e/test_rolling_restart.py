"""Two groups of processes and a worker behind nginx, replaced one after the other under load: nobody notices."""

import contextlib
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Self
from uuid import uuid4

import httpx
import pytest
from sqlalchemy import URL, NullPool, create_engine, text

from app.server.serving.supervisor import Serving
from tests.live import LiveWorker, wait_until
from tests.nginx_server import NAME, NginxServer
from tests.redis_server import RedisServer
from tests.sample_files import picture
from tests.served import ServedApi

pytestmark = pytest.mark.e2e

ACCOUNT = {"password": "correct horse battery staple", "first_name": "Ada", "last_name": "Lovelace"}
REFRESHES = 7
SETTINGS = {
    "public_url": f"https://{NAME}",
    "trusted_proxies": "127.0.0.1",
    "password_hash_concurrency": 2,
    "rate_limit_enabled": "true",
    "rate_limit_sign_in": "100000/minute",
    "rate_limit_write": "100000/minute",
    "rate_limit_read": "100000/minute",
    "rate_limit_refresh": f"{REFRESHES}/minute",
}
UNFINISHED = "SELECT count(*) FROM saq_jobs WHERE status <> 'complete' AND key NOT LIKE 'cron:%'"
Act = Callable[[httpx.Client, str], httpx.Response]


@pytest.fixture
def groups(live_database: URL, redis_server: RedisServer, tmp_path: Path) -> Iterator[list[ServedApi]]:
    groups = []
    for name in ("a", "b"):
        serving = Serving(host="127.0.0.1", port=1, socket=str(tmp_path / f"{name}.sock"), workers=1, drain=3, grace=60)
        settings = {**SETTINGS, "redis_url": redis_server.url, "storage_url": f"file://{tmp_path}/files"}
        groups.append(ServedApi(live_database, log=tmp_path / f"{name}.log", serving=serving, **settings))
    yield groups
    for group in groups:
        group.stop()


@pytest.fixture
def nginx(groups: list[ServedApi], tmp_path: Path) -> Iterator[NginxServer]:
    server = NginxServer(tmp_path, {f"/run/keel/{name}.sock": tmp_path / f"{name}.sock" for name in ("a", "b")})
    try:
        server.start()
        for group in groups:
            group.start()
        yield server
    finally:
        server.stop()


def sign_up(client: httpx.Client) -> str:
    """Returns the address of the new account, under whose name the client goes on."""
    email = f"{uuid4().hex}@example.com"
    answer = client.post("/auth/register", json={"email": email, **ACCOUNT})
    assert answer.status_code == 202, f"{answer.status_code} {answer.text}"
    token = sign_in(client, email).raise_for_status().json()["access_token"]
    client.headers["Authorization"] = f"Bearer {token}"
    return email


def sign_in(client: httpx.Client, email: str) -> httpx.Response:
    return client.post("/auth/login", json={"email": email, "password": ACCOUNT["password"]})


def register(client: httpx.Client, _: str) -> httpx.Response:
    return client.post("/auth/register", json={"email": f"{uuid4().hex}@example.com", **ACCOUNT})


def read(client: httpx.Client, _: str) -> httpx.Response:
    return client.get("/items")


def write(client: httpx.Client, _: str) -> httpx.Response:
    return client.post("/items", json={"title": "Buy milk"})


def upload(client: httpx.Client, _: str) -> httpx.Response:
    return client.post("/files", files={"file": ("dot.png", picture(), "image/png")})


COSTLY = (sign_in, register)
"""They hash a password, which takes tens of milliseconds of a processor."""


class Load:
    """Each act again and again, by somebody of its own in a thread and over a connection of its own, until the block
    ends. They sign up one after the other: many at once would be told to wait (503)."""

    def __init__(self, nginx: NginxServer, *acts: Act) -> None:
        self.outcomes: Counter[str] = Counter()
        self._nginx = nginx
        self._acts = acts
        self._is_over = threading.Event()
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> Self:
        clients = [self._stack.enter_context(self._nginx.client()) for _ in self._acts]
        try:
            emails = [sign_up(client) for client in clients]
        except (AssertionError, httpx.HTTPError) as error:
            raise AssertionError(f"{error!r}\n{self._nginx.log()}") from error
        threads = self._stack.enter_context(ThreadPoolExecutor(len(clients)))
        self._running = [threads.submit(self._repeat, *each) for each in zip(self._acts, clients, emails, strict=True)]
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over.set()
        with self._stack:
            for each in self._running:
                each.result()

    def _repeat(self, act: Act, client: httpx.Client, email: str) -> None:
        while not self._is_over.wait(0.5 if act in COSTLY else 0.1):
            try:
                self.outcomes[f"{act.__name__} {act(client, email).status_code}"] += 1
            except httpx.TransportError as error:
                self.outcomes[f"{act.__name__} {error!r}"] += 1


def test_groups_and_worker_are_replaced_under_load_and_no_request_fails_and_both_know_the_same(
    nginx: NginxServer, groups: list[ServedApi], live_database: URL, start_worker: Callable[..., LiveWorker]
) -> None:
    worker = start_worker(live_database)
    with Load(nginx, read, write, write, upload, sign_in, register) as load:
        for group in groups:
            group.tell_to_stop()
            assert group.exit_code(seconds=30) == 0
            group.start()
        worker.tell_to_stop()
        assert worker.exit_code(seconds=30) == 0
        worker.start()

    done = {outcome.split()[0]: count for outcome, count in load.outcomes.items()}
    expected = {"read 200", "write 201", "upload 201", "sign_in 200", "register 202"}
    assert set(load.outcomes) == expected, f"{load.outcomes}\n{nginx.log()}"
    assert min(done.values()) > 10
    with create_engine(live_database, poolclass=NullPool, isolation_level="AUTOCOMMIT").connect() as database:
        assert database.scalar(text("SELECT count(*) FROM items")) == done["write"]
        assert database.scalar(text("SELECT count(*) FROM files")) == done["upload"]
        wait_until(lambda: database.scalar(text(UNFINISHED)) == 0, seconds=30, what="all mails to be sent")
    assert_both_know_the_same(nginx, groups, live_database)


def assert_both_know_the_same(nginx: NginxServer, groups: list[ServedApi], url: URL) -> None:
    """Of sessions, policies, limits, and who the client is."""
    with nginx.client(address="127.0.0.2") as ada, nginx.client() as root:
        sign_up(ada)
        administrator = sign_up(root)
        with create_engine(url, poolclass=NullPool).begin() as database:
            database.execute(text("UPDATE users SET is_superuser = email = :email"), {"email": administrator})
        root.headers["Authorization"] = f"Bearer {sign_in(root, administrator).json()['access_token']}"
        me = ada.get("/users/me").json()["id"]
        [session] = ada.get("/users/me/sessions").json()["items"]
        assert session["address"] == "127.0.0.2"

        def answers(path: str) -> set[int | None]:
            return {
                group.status(f"/api/v1{path}", headers={"Host": NAME, "Authorization": ada.headers["Authorization"]})
                for group in groups
            }

        assert answers("/posts") == {403}
        root.put(f"/users/{me}/roles/viewer").raise_for_status()
        wait_until(lambda: answers("/posts") == {200}, seconds=2, what="both to know of the role")

        ada.post("/auth/logout").raise_for_status()
        wait_until(lambda: answers("/users/me") == {401}, seconds=2, what="both to know of the logout")

        refreshed = [
            ada.post("/auth/refresh", json={"refresh_token": "x" * 43}).status_code for _ in range(REFRESHES + 1)
        ]
        assert refreshed == [401] * REFRESHES + [429]
