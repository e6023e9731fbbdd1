"""What is attacked: two servers on one database and a worker that keeps its mail, for a whole run."""

import itertools
import json
from collections.abc import Callable, Iterator
from email.message import EmailMessage
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest
from sqlalchemy import URL, NullPool, Row, create_engine, text

from app.lib.mail.folder import MailFolder
from tests.fake_provider import CLIENT_ID, CLIENT_SECRET, FakeProvider
from tests.live import PASSWORD, LiveServer, LiveWorker, wait_until

ADDRESSES = itertools.count(1)


class Keel:
    """`here` and `there` are two processes; what one learns, the other must know.

    Tests share it, so each makes accounts of its own, and every client has an address of its own.
    """

    def __init__(self, url: URL, directory: Path, **settings: object) -> None:
        self.url = url
        self._local = directory / "local"
        shared: dict[str, Any] = {"local_dir": self._local, "mail_backend": "file", "trusted_proxies": "127.0.0.1/32"}
        shared |= settings
        self.here, self.there = (LiveServer(url, log=directory / f"{name}.log", **shared) for name in ("here", "there"))
        self.worker = LiveWorker(url, log=directory / "worker.log", **shared)
        self.processes: list[LiveServer | LiveWorker] = [self.here, self.there, self.worker]

    def client(self, server: LiveServer | None = None, *, token: str | None = None, **options: Any) -> httpx.Client:
        """Of `here`, at a new address. The last one is its `X-Forwarded-For`, which the servers believe."""
        headers = {"X-Forwarded-For": new_address(), **options.pop("headers", {})}
        if token:
            headers["Authorization"] = f"Bearer {token}"
        return (server or self.here).client(headers=headers, **options)

    def sign_up(self, email: str | None = None, password: str = PASSWORD) -> str:
        """Make an account. Returns its address."""
        email = email or f"{uuid4().hex}@example.com"
        account = {"email": email, "password": password, "first_name": "Ada", "last_name": "Lovelace"}
        with self.client() as client:
            client.post("/auth/register", json=account).raise_for_status()
        return email

    def sign_in(self, email: str, password: str = PASSWORD, **more: str) -> dict[str, str]:
        """Returns the pair of tokens."""
        with self.client() as client:
            answer = client.post("/auth/login", json={"email": email, "password": password, **more})
        tokens: dict[str, str] = answer.raise_for_status().json()
        return tokens

    def assert_ended(self, headers: dict[str, str]) -> None:
        """What `headers` say was ended at `here`: refused there at once, and at the other process as soon as
        PostgreSQL has told it, which takes milliseconds on a machine that is not busy."""
        with self.client(headers=headers) as here, self.client(self.there, headers=headers) as there:
            assert here.get("/users/me").status_code == 401
            wait_until(lambda: there.get("/users/me").status_code == 401, seconds=10, what="the news of the end")

    def rows(self, query: str, **values: object) -> list[Row[Any]]:
        """What is stored, on a fresh connection."""
        with create_engine(self.url, poolclass=NullPool).begin() as fresh:
            return list(fresh.execute(text(query), values))

    def write(self, statement: str, **values: object) -> None:
        """As an operator with psql could."""
        with create_engine(self.url, poolclass=NullPool).begin() as fresh:
            fresh.execute(text(statement), values)

    def mails_to(self, email: str) -> list[EmailMessage]:
        """The newest first."""
        kept = [mail.message for mail in MailFolder(self._local / "mail").newest_first()]
        return [message for message in kept if email in message["To"]]

    def mail_to(self, email: str, *, subject: str) -> EmailMessage:
        """The newest with these words in its subject, as soon as it has been sent."""
        return self.mails_about(email, subject=subject, number=1)[0]

    def mails_about(self, email: str, *, subject: str, number: int) -> list[EmailMessage]:
        """The newest first, as soon as there are at least so many."""
        found: list[EmailMessage] = []

        def have_come() -> bool:
            found[:] = [mail for mail in self.mails_to(email) if subject in mail["Subject"]]
            return len(found) >= number

        wait_until(have_come, seconds=20, what=f"{number} mails to {email} about {subject!r}")
        return found


def new_address() -> str:
    number = next(ADDRESSES)
    return f"198.18.{number // 250}.{number % 250 + 1}"


@pytest.fixture(scope="session")
def running_fakes() -> Iterator[dict[str, FakeProvider]]:
    with FakeProvider("fake") as fake, FakeProvider("other") as other, FakeProvider("broken") as broken:
        yield {each.name: each for each in (fake, other, broken)}


@pytest.fixture
def fakes(running_fakes: dict[str, FakeProvider]) -> dict[str, FakeProvider]:
    """Providers that `keel` knows: `fake`, `other`, and `broken`, of which nothing good was ever heard."""
    for each in running_fakes.values():
        each.reset()
    return running_fakes


@pytest.fixture(scope="session")
def keel(
    new_database: Callable[[], URL],
    tmp_path_factory: pytest.TempPathFactory,
    running_fakes: dict[str, FakeProvider],
) -> Iterator[Keel]:
    clients = [
        {"name": each.name, "issuer": each.issuer, "client_id": CLIENT_ID, "client_secret": CLIENT_SECRET}
        for each in running_fakes.values()
    ]
    keel = Keel(
        new_database(),
        tmp_path_factory.mktemp("attacked"),
        oidc_providers=json.dumps(clients),
        oidc_allow_private_addresses=True,
    )
    try:
        for process in keel.processes:
            process.start()
        yield keel
    finally:
        for process in reversed(keel.processes):
            process.stop()
