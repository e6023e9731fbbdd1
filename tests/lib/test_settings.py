import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from app.lib.settings import Settings, UnsafeSettingsError, get_settings
from app.server.configuration import read_settings

pytestmark = pytest.mark.unit

SAFE = {
    "app_env": "production",
    "secret_key": "q2G7vQm1Zb0kY5s8T3xW9uJ4hN6cR1pL",
    "public_url": "https://api.example.com",
    "mail_backend": "smtp",
    "smtp_host": "mail.example.com",
    "emails_from_email": "keel@example.com",
    "storage_url": "s3://keel-files",
    "database_url": "postgresql://keel@db/keel",
}


def production(**changes: Any) -> Settings:
    return Settings(_env_file=None, **SAFE | changes)


def test_safe_production_settings_are_accepted() -> None:
    settings = production()

    settings.refuse_unsafe_production()

    assert settings.allowed_hosts == ("api.example.com",)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"secret_key": ""}, "SECRET_KEY is missing"),
        ({"secret_key": "short"}, "SECRET_KEY is too weak"),
        ({"secret_key": "a" * 64}, "SECRET_KEY is too weak"),
        ({"secret_key": "change-me-please-change-me-please-0123"}, "SECRET_KEY is too weak"),
        ({"debug": True}, "DEBUG is on"),
        ({"backend_cors_origins": "*"}, "BACKEND_CORS_ORIGINS is `*`"),
        ({"allowed_hosts": "*"}, "ALLOWED_HOSTS is `*`"),
        ({"trusted_proxies": "*"}, "TRUSTED_PROXIES trusts everybody"),
        ({"trusted_proxies": "0.0.0.0/0"}, "TRUSTED_PROXIES trusts everybody"),
        ({"db_echo": True}, "DB_ECHO is on"),
        ({"secret_key": "q2G7vQm1Zb0kY5s8T3xW9uJ4hN6cR1pL # the key"}, "SECRET_KEY is too weak"),
        ({"secret_key": "abcdefghijklmnopqrstuvwxyz0123456789"}, "SECRET_KEY is too weak"),
        ({"public_url": "http://api.example.com"}, "PUBLIC_URL has no TLS: start it with https://"),
        ({"mail_backend": "console"}, "MAIL_BACKEND prints mail"),
        ({"smtp_host": ""}, "SMTP_HOST is missing"),
        ({"storage_url": ""}, "STORAGE_URL is missing"),
        ({"emails_from_email": "keel@localhost"}, "EMAILS_FROM_EMAIL is missing"),
        ({"smtp_security": "none", "smtp_password": "sesame"}, "SMTP_SECURITY is `none`"),
        ({"database_url": None}, "No database is configured"),
    ],
)
def test_each_unsafe_production_setting_is_named(changes: dict[str, Any], sentence: str) -> None:
    with pytest.raises(UnsafeSettingsError) as refused:
        production(**changes).refuse_unsafe_production()
    assert [fault.startswith(sentence) for fault in refused.value.args] == [True]


def test_all_faults_are_named_at_once() -> None:
    settings = Settings(_env_file=None, app_env="production", debug=True)

    with pytest.raises(UnsafeSettingsError) as refused:
        settings.refuse_unsafe_production()
    assert len(refused.value.args) == 8


def test_development_may_leave_everything_out(tmp_path: Path) -> None:
    settings = Settings(_env_file=None, local_dir=tmp_path)

    settings.refuse_unsafe_production()

    assert settings.postgres_url is None
    assert settings.allowed_hosts == ("localhost", "127.0.0.1", "[::1]")


def test_the_generated_key_is_kept_and_private(tmp_path: Path) -> None:
    first = Settings(_env_file=None, local_dir=tmp_path / "new").secret_key
    second = Settings(_env_file=None, local_dir=tmp_path / "new").secret_key

    assert first == second
    assert len(first) >= 32
    assert (tmp_path / "new" / "secret_key").stat().st_mode & 0o777 == 0o600
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["secret_key"]


@pytest.mark.parametrize("url", ["postgres://u:p@h:1/d", "postgresql://u:p@h:1/d", "postgresql+psycopg://u:p@h:1/d"])
def test_every_spelling_of_a_postgresql_url_is_understood(url: str) -> None:
    found = Settings(_env_file=None, secret_key="x", database_url=url).postgres_url

    assert found is not None
    assert found.render_as_string(hide_password=False) == "postgresql+psycopg://u:p@h:1/d"


def test_the_database_may_be_given_in_parts() -> None:
    parts: dict[str, Any] = {"db_host": "h", "db_user": "u", "db_password": "p@ss/word", "db_name": "d"}

    found = Settings(_env_file=None, secret_key="x", **parts).postgres_url

    assert found is not None
    assert (found.password, found.host, found.port, found.database) == ("p@ss/word", "h", 5432, "d")


@pytest.mark.parametrize(
    ("given", "found"),
    [
        ({}, None),
        ({"redis_url": "rediss://:sesame@h:1/2", "redis_host": "other"}, "rediss://:sesame@h:1/2"),
        ({"redis_host": "h"}, "redis://h:6379/0"),
        (
            {"redis_host": "h", "redis_port": 1, "redis_db": 2, "redis_password": "p@ss/word"},
            "redis://:p%40ss%2Fword@h:1/2",
        ),
    ],
)
def test_redis_may_be_given_as_a_url_or_in_parts(given: dict[str, Any], found: str | None) -> None:
    assert Settings(_env_file=None, secret_key="x", **given).redis_dsn == found


def test_the_url_of_another_store_is_refused_without_repeating_it() -> None:
    with pytest.raises(ValidationError) as refused:
        Settings(_env_file=None, secret_key="x", redis_url="memcached://sesame@h")
    assert "sesame" not in str(refused.value.errors()[0]["msg"])


@pytest.mark.parametrize("url", ["", "file:///var/lib/keel", "s3://bucket", "s3://bucket/a/prefix"])
def test_files_are_kept_in_a_directory_or_a_bucket(url: str) -> None:
    assert Settings(_env_file=None, secret_key="x", storage_url=url).storage_url == url


@pytest.mark.parametrize("url", ["/var/lib/keel", "file://var/lib/keel", "s3:///prefix", "gs://bucket", "s3://b?x=1"])
def test_another_place_for_files_is_refused(url: str) -> None:
    with pytest.raises(ValidationError):
        Settings(_env_file=None, secret_key="x", storage_url=url)


@pytest.mark.parametrize("given", ["https://api.example.com", "https://api.example.com/"])
def test_the_public_url_ends_without_a_slash(given: str) -> None:
    assert production(public_url=given).public_url == "https://api.example.com"


def test_lists_are_separated_by_commas(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BACKEND_CORS_ORIGINS", "https://a.example, https://b.example,")

    settings = Settings(_env_file=None, secret_key="x")

    assert settings.backend_cors_origins == ("https://a.example", "https://b.example")


@pytest.mark.parametrize(
    "bad",
    [
        {"database_url": "garbage"},
        {"database_url": "postgresql://keel:sesame@db:port/keel"},
        {"database_url": "sqlite:///sesame.db"},
        {"database_replica_urls": "mysql://sesame@db/keel"},
        {"trusted_proxies": "not-an-address"},
        {"public_url": "https://"},
        {"public_url": "https://user:sesame@example.com"},
        {"api_v1_prefix": "/api/{version}"},
        {"access_token_expire_minutes": 10**15},
        {"port": 99999},
        {"rate_limit_sign_in": "10 per sesame"},
        {"rate_limit_write": "0/minute"},
        {"rate_limit_read": "10/minute;100/hour"},
    ],
)
def test_what_cannot_work_is_refused_without_repeating_it(bad: dict[str, Any]) -> None:
    with pytest.raises(ValidationError) as refused:
        Settings(_env_file=None, secret_key="x", **bad)
    assert "sesame" not in "".join(error["msg"] for error in refused.value.errors())


def test_a_damaged_key_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "secret_key").write_text("")

    with pytest.raises(ValidationError, match="is damaged"):
        Settings(_env_file=None, local_dir=tmp_path)


def test_secrets_are_not_shown() -> None:
    shown = repr(production(database_url="postgresql://keel:sesame@db/keel"))

    assert SAFE["secret_key"] not in shown
    assert "sesame" not in shown


def test_a_default_page_larger_than_the_maximum_is_refused() -> None:
    with pytest.raises(ValidationError, match="DEFAULT_PAGE_SIZE is larger"):
        Settings(_env_file=None, secret_key="x", default_page_size=200)


@pytest.fixture
def unread_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """They are read at the next call, and forgotten after the test."""
    monkeypatch.setenv("LOCAL_DIR", str(tmp_path))
    get_settings.cache_clear()
    yield
    get_settings.cache_clear()


@pytest.mark.usefixtures("unread_settings")
@pytest.mark.parametrize(
    ("environment", "line"),
    [
        ({"APP_ENV": "production"}, "SECRET_KEY is missing: set it to the output of `openssl rand -base64 48`."),
        ({"DB_POOL_SIZE": "many"}, "DB_POOL_SIZE: Input should be a valid integer"),
        ({"REDIS_URL": "redis://:a/b@h/0"}, "REDIS_URL: its port is no number: encode what is special"),
        ({"RATE_LIMIT_READ": "ten"}, "RATE_LIMIT_READ: write a number, `/` and second, minute, hour or day"),
        ({"MAIL_BACKEND": "smtp"}, "Settings: SMTP_HOST is missing: set it to the host that sends your mail"),
        ({"EMAILS_FROM_EMAIL": "Keel <a@b.test>"}, "EMAILS_FROM_EMAIL: not an address: A display name"),
    ],
)
def test_bad_settings_are_said_in_plain_lines(
    environment: dict[str, str], line: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)

    with pytest.raises(SystemExit) as ended:
        read_settings()

    assert any(said.startswith(line) for said in str(ended.value).splitlines())


@pytest.mark.e2e
def test_a_process_with_bad_settings_ends_with_plain_lines(tmp_path: Path) -> None:
    command = [sys.executable, "-c", "from app.server.asgi import create_app; create_app()"]

    ended = subprocess.run(
        command, env={"APP_ENV": "production"}, cwd=tmp_path, capture_output=True, text=True, check=False
    )

    assert ended.returncode == 1
    assert ended.stderr.startswith("SECRET_KEY is missing: ")
    assert "Traceback" not in ended.stderr


def test_metrics_and_requests_need_two_ports() -> None:
    with pytest.raises(ValidationError, match="METRICS_PORT must be another one than PORT"):
        Settings(_env_file=None, secret_key="x", port=9100, metrics_port=9100)


def test_a_session_that_is_used_must_not_count_as_idle() -> None:
    with pytest.raises(ValidationError, match="SESSION_IDLE_EXPIRE_HOURS must be longer"):
        Settings(_env_file=None, session_idle_expire_hours=1, access_token_expire_minutes=60)
