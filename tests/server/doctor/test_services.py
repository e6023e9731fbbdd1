"""Redis, mail server and storage: each fault is planted for real, and is named with its mend."""

import functools
from collections.abc import Callable
from pathlib import Path
from uuid import uuid4

import pytest
import redis
from sqlalchemy import URL

from app.lib.db.database import Database
from app.lib.settings import Settings
from app.lib.storage import OWNER, Storage
from tests.examined import Found, examined
from tests.redis_server import RedisServer
from tests.smtp_server import SmtpServer

pytestmark = pytest.mark.integration

Examine = Callable[..., tuple[int, Found]]


@pytest.fixture
def doctor(settings: Settings, database_url: URL, tmp_path: Path) -> Examine:
    """Run it with these settings."""
    return functools.partial(examined, settings, default=database_url, checkout=tmp_path)


def test_a_password_that_the_mail_server_refuses_is_a_fault(
    doctor: Examine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = SmtpServer(tmp_path)
    server.start()
    monkeypatch.setenv("SSL_CERT_FILE", str(server.authorities))
    try:
        _, right = doctor(**server.settings())
        code, wrong = doctor(**server.settings(smtp_password="wrong"))
        monkeypatch.delenv("SSL_CERT_FILE")
        _, strange = doctor(**server.settings())
    finally:
        server.stop()

    assert "mail" not in right
    assert (code, wrong["mail"]["mend"]) == (1, "Correct SMTP_USER and SMTP_PASSWORD.")
    assert strange["mail"]["mend"].startswith("Set SMTP_HOST to the name in its certificate")
    assert server.received == []


def test_a_redis_that_refuses_to_write_or_to_let_us_in_is_named(doctor: Examine, redis_server: RedisServer) -> None:
    client = redis.Redis.from_url(redis_server.url)
    assert "redis" not in doctor(redis_url=redis_server.url)[1]
    client.config_set("maxmemory", "100mb")
    assert "allkeys-lru" in doctor(redis_url=redis_server.url)[1]["redis"]["mend"]
    client.config_set("maxmemory", "1")
    assert doctor(redis_url=redis_server.url)[1]["redis"]["mend"].startswith("Give it maxmemory-policy allkeys-lru")
    client.config_set("requirepass", "sesame")
    code, found = doctor(redis_url=redis_server.url)
    client.close()

    assert (code, found["redis"]["mend"][:32]) == (1, "Correct the user or the password")


def test_files_of_another_database_are_a_fault(doctor: Examine, database_url: URL, tmp_path: Path) -> None:
    storage = (tmp_path / "foreign").as_uri()
    Storage(storage).claim(uuid4())
    database = Database(database_url, pool_size=1)

    code, found = doctor(database=database, storage_url=storage)

    database.dispose()
    assert (code, found["storage"]["level"]) == (1, "fault")
    assert "belong to another database" in found["storage"]["what"]
    assert [path.name for path in (tmp_path / "foreign").iterdir()] == [OWNER]


def test_the_probe_leaves_nothing_behind(doctor: Examine, tmp_path: Path) -> None:
    _, found = doctor(storage_url=(tmp_path / "files").as_uri())

    assert "storage" not in found
    assert [path for path in (tmp_path / "files").rglob("*") if path.is_file()] == []
