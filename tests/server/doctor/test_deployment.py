"""`litestar check`: faults that the settings, or files, are enough to see."""

import json
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from litestar import Controller, Litestar, get
from litestar.datastructures import State

from app.lib.settings import Settings, get_settings
from app.server.doctor.diagnosis import create_app
from app.server.doctor.doctor import Doctor
from tests.command_line import CommandLine

pytestmark = pytest.mark.unit

SAFE: dict[str, Any] = {
    "app_env": "production",
    "secret_key": "r3J9vQ0xkLm2Tz7PwYb4Nc8Hd1Fg6Ks5Au0Ve3Ri",
    "public_url": "https://api.example.com",
    "database_url": "postgresql://keel:password@db.example.com/keel?sslmode=verify-full",
    "redis_url": "rediss://:password@redis.example.com/0",
    "mail_backend": "smtp",
    "smtp_host": "mail.example.com",
    "emails_from_email": "keel@example.com",
    "storage_url": "s3://keel-files",
    "trusted_proxies": "10.0.0.5",
    "require_verified_email": True,
    "log_format": "json",
}
FAULTS: list[tuple[dict[str, Any], str, str]] = [
    ({"app_env": "development"}, "APP_ENV is not production", "Set APP_ENV=production."),
    ({"debug": True}, "DEBUG is on", "Set DEBUG=false."),
    ({"secret_key": "secret"}, "SECRET_KEY is too weak", "Use at least 32 random bytes"),
    ({"public_url": "http://api.example.com"}, "PUBLIC_URL has no TLS", "Start it with https://"),
    ({"backend_cors_origins": "*"}, "BACKEND_CORS_ORIGINS is `*`", "List the origins."),
    ({"allowed_hosts": "*"}, "ALLOWED_HOSTS is `*`", "List the host names"),
    ({"trusted_proxies": "0.0.0.0/0"}, "TRUSTED_PROXIES trusts everybody", "List the addresses of your proxies."),
    ({"db_echo": True}, "DB_ECHO is on", "It writes every statement to the log. Set DB_ECHO=false."),
    ({"mail_backend": "console"}, "MAIL_BACKEND prints mail", "Set MAIL_BACKEND=smtp."),
    ({"smtp_security": "none", "smtp_password": "x"}, "SMTP_SECURITY is `none`, but there is", "Set SMTP_SECURITY="),
    ({"storage_url": ""}, "STORAGE_URL is missing", "Set it to s3://bucket/prefix, or to file:///"),
    ({"database_url": None}, "No database is configured", "Set DATABASE_URL"),
    ({"reload": True}, "RELOAD is on", "Set RELOAD=false."),
]
WARNINGS: list[tuple[dict[str, Any], str]] = [
    ({"rate_limit_enabled": False}, "RATE_LIMIT_ENABLED is off"),
    ({"trusted_proxies": ""}, "TRUSTED_PROXIES is empty"),
    ({"redis_url": None}, "REDIS_URL is empty"),
    ({"redis_url": "redis://redis.example.com"}, "REDIS_URL names another machine and has no password."),
    ({"database_url": "postgresql://keel@db.example.com/keel"}, "A database on another machine is not asked for TLS"),
    ({"database_replica_urls": "postgresql://keel@b.example.com/keel"}, "A database on another machine is not asked"),
    ({"db_pool_size": 2}, "DB_POOL_SIZE is below 4"),
    ({"storage_url": "file:///var/lib/keel"}, "STORAGE_URL is a directory"),
    ({"require_verified_email": False}, "REQUIRE_VERIFIED_EMAIL is off"),
    ({"access_token_expire_minutes": 120}, "ACCESS_TOKEN_EXPIRE_MINUTES is above 60"),
    ({"refresh_token_expire_days": 365}, "REFRESH_TOKEN_EXPIRE_DAYS is above 90"),
    ({"backend_cors_origins": "http://app.example.com"}, "BACKEND_CORS_ORIGINS has an origin without TLS"),
    ({"oidc_allow_private_addresses": True}, "OIDC_ALLOW_PRIVATE_ADDRESSES is on"),
    ({"smtp_security": "none"}, "SMTP_SECURITY is `none`"),
    ({"log_level": "DEBUG"}, "LOG_LEVEL is DEBUG"),
    ({"log_format": "console"}, "LOG_FORMAT is console"),
    ({"metrics_port": 9100, "metrics_host": "0.0.0.0"}, "METRICS_HOST answers other machines"),
    ({"max_body_size": 2**30}, "MAX_BODY_SIZE is above 100 MiB"),
]


class ForgottenController(Controller):
    path = "/forgotten"

    @get()
    async def get_forgotten(self) -> None:
        """Nobody says who may."""


def check(doctor: Doctor, *arguments: str) -> tuple[int, list[dict[str, str]]]:
    """The exit code, and what is not fine."""
    app = Litestar(openapi_config=None, logging_config=None, state=State({"doctor": doctor}))
    ended = CommandLine(app).run("check", "--json", *arguments)
    return ended.exit_code, [found for found in json.loads(ended.stdout)["items"] if found["level"] != "ok"]


@pytest.fixture
def doctor(tmp_path: Path) -> Callable[..., Doctor]:
    """Of safe settings with these changes."""

    def of(**changes: object) -> Doctor:
        settings = Settings(_env_file=None, local_dir=tmp_path, **SAFE | changes)
        return Doctor(settings, None, checkout=tmp_path)

    return of


def test_nothing_is_said_against_what_is_safe_and_wise(doctor: Callable[..., Doctor]) -> None:
    assert check(doctor(), "--deploy", "--fail-on", "warning") == (0, [])


@pytest.mark.parametrize(("changes", "what", "mend"), FAULTS, ids=[what for _, what, _ in FAULTS])
def test_a_planted_fault_is_named_with_its_mend(
    changes: dict[str, Any], what: str, mend: str, doctor: Callable[..., Doctor]
) -> None:
    code, found = check(doctor(**changes), "--deploy")

    [fault] = [each for each in found if each["what"].startswith(what)]
    assert (code, fault["level"]) == (1, "fault")
    assert fault["mend"].startswith(mend)


@pytest.mark.parametrize(("changes", "said"), WARNINGS, ids=[said[:25] for _, said in WARNINGS])
def test_what_is_unwise_is_a_warning_with_its_mend(
    changes: dict[str, Any], said: str, doctor: Callable[..., Doctor]
) -> None:
    code, [found] = check(doctor(**changes), "--deploy")

    assert (code, found["level"]) == (0, "warning")
    assert found["what"].startswith(said)
    assert found["mend"]
    assert check(doctor(**changes), "--deploy", "--fail-on", "warning")[0] == 1


def test_a_format_that_production_would_choose_itself_is_not_asked_for(tmp_path: Path) -> None:
    chosen = {name: value for name, value in SAFE.items() if name not in {"app_env", "log_format"}}
    settings = Settings(_env_file=None, local_dir=tmp_path, **chosen)

    _, found = check(Doctor(settings, None, checkout=tmp_path), "--deploy")

    assert [each["check"] for each in found] == ["environment"]


def test_outside_production_nothing_is_asked_of_development(doctor: Callable[..., Doctor]) -> None:
    assert check(doctor(app_env="development", public_url="http://localhost:8000")) == (0, [])


def test_an_env_file_that_others_can_read_is_a_fault(tmp_path: Path, doctor: Callable[..., Doctor]) -> None:
    (tmp_path / ".env").touch(mode=0o644)

    code, [found] = check(doctor(), "--deploy")

    assert (code, found["level"]) == (1, "fault")
    assert found["mend"] == f"Run `chmod 600 {tmp_path / '.env'}`."
    (tmp_path / ".env").chmod(0o640)
    assert check(doctor(), "--deploy") == (0, [])


@pytest.mark.skipif(not shutil.which("git"), reason="needs the program git")
def test_an_env_file_that_was_committed_is_a_fault(tmp_path: Path, doctor: Callable[..., Doctor]) -> None:
    (tmp_path / ".env").touch(mode=0o600)
    subprocess.run(["git", "init", "-q"], cwd=tmp_path, check=True)
    assert check(doctor(), "--deploy") == (0, [])

    subprocess.run(["git", "add", "-f", ".env"], cwd=tmp_path, check=True)

    code, [found] = check(doctor(), "--deploy")
    assert (code, found["level"]) == (1, "fault")
    assert found["what"].startswith(f"{tmp_path / '.env'} is in the Git repository")
    assert "git rm --cached .env" in found["mend"]


@pytest.fixture
def unread_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str, str], None]]:
    """Sets one. They are read at the next call, and forgotten after the test."""
    monkeypatch.setenv("LOCAL_DIR", str(tmp_path))
    get_settings.cache_clear()
    yield monkeypatch.setenv
    get_settings.cache_clear()


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("DB_POOL_SIZE", "many", "DB_POOL_SIZE cannot be used. Input should be a valid integer"),
        ("PASSWORD_HASH_CONCURRENCY", "99", "Settings cannot be used. PASSWORD_HASH_CONCURRENCY must be smaller"),
        ("LOCAL_DIR", "/dev/null/keel", "/dev/null/keel cannot be used. Not a directory"),
    ],
)
@pytest.mark.parametrize("command", ["check", "doctor"])
def test_settings_that_cannot_be_read_are_faults_like_any_other(
    name: str, value: str, said: str, command: str, unread_settings: Callable[[str, str], None]
) -> None:
    unread_settings(name, value)

    ended = CommandLine(create_app()).run(command)

    assert ended.exit_code == 1
    assert f"fault    settings: {said}" in ended.stdout


def test_an_application_that_cannot_be_built_is_a_fault(
    unread_settings: Callable[[str, str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    unread_settings("APP_ENV", "test")
    monkeypatch.setattr("app.server.asgi.CONTROLLERS", [ForgottenController])

    ended = CommandLine(create_app()).run("check")

    assert ended.exit_code == 1
    assert "fault    application: It cannot be built: UndeclaredAccessError: " in ended.stdout
