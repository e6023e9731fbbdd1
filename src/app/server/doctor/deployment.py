"""What makes a start in production unsafe or unwise, as far as the settings alone tell."""

from collections.abc import Callable, Iterator
from typing import NamedTuple
from urllib.parse import urlsplit

from sqlalchemy import URL

from app.lib.settings import Settings, UnsafeSettingsError
from app.server.doctor.findings import Finding, Level, fault, fine, warning

HERE = {"localhost", "127.0.0.1", "::1"}
ENCRYPTED = {"require", "verify-ca", "verify-full"}
LONGEST_TOKEN = 60
LONGEST_SESSION = 90
FEWEST_CONNECTIONS = 4
LARGEST_BODY = 100 * 1024 * 1024


class Rule(NamedTuple):
    """`applies`: whether it is as `what` says."""

    check: str
    level: Level
    applies: Callable[[Settings], bool]
    what: str
    mend: str


def _has_open_database(settings: Settings) -> bool:
    urls = [*filter(None, [settings.postgres_url]), *settings.replica_urls]
    return any(_is_remote(url) and url.query.get("sslmode") not in ENCRYPTED for url in urls)


def _is_remote(url: URL) -> bool:
    host = url.host or str(url.query.get("host", "/"))
    return host not in HERE and not host.startswith("/")


def _has_open_redis(settings: Settings) -> bool:
    parts = urlsplit(settings.redis_dsn or "")
    return parts.scheme == "redis" and parts.hostname not in HERE and parts.password is None


def _has_strange_origins(settings: Settings) -> bool:
    return any(origin.startswith("http://") for origin in settings.backend_cors_origins)


RULES = (
    Rule(
        "environment",
        Level.FAULT,
        lambda settings: not settings.is_production,
        "APP_ENV is not production, so unsafe settings do not stop the start, and answers show errors.",
        "Set APP_ENV=production.",
    ),
    Rule(
        "reload",
        Level.FAULT,
        lambda settings: settings.reload,
        "RELOAD is on: whoever can write a file below src/ runs code in production.",
        "Set RELOAD=false.",
    ),
    Rule(
        "rate limits",
        Level.WARNING,
        lambda settings: not settings.rate_limit_enabled,
        "RATE_LIMIT_ENABLED is off, so passwords can be guessed as fast as they are refused.",
        "Set RATE_LIMIT_ENABLED=true, unless something in front of the API counts.",
    ),
    Rule(
        "proxies",
        Level.WARNING,
        lambda settings: not settings.trusted_proxies,
        "TRUSTED_PROXIES is empty: behind a reverse proxy, all clients have one address and share its rate limits.",
        "Set it to the addresses of your proxies.",
    ),
    Rule(
        "redis",
        Level.WARNING,
        lambda settings: settings.redis_dsn is None,
        "REDIS_URL is empty: each process counts rate limits, and keeps a cache, for itself.",
        "Set REDIS_URL as soon as there is more than one process.",
    ),
    Rule(
        "redis",
        Level.WARNING,
        _has_open_redis,
        "REDIS_URL names another machine and has no password.",
        "Give that Redis a password (redis://:password@host), and rediss:// where its network is not your own.",
    ),
    Rule(
        "database",
        Level.WARNING,
        _has_open_database,
        "A database on another machine is not asked for TLS: its password and its rows cross the network in clear.",
        "Add ?sslmode=verify-full (or require) to DATABASE_URL and DATABASE_REPLICA_URLS.",
    ),
    Rule(
        "pool",
        Level.WARNING,
        lambda settings: settings.db_pool_size < FEWEST_CONNECTIONS,
        f"DB_POOL_SIZE is below {FEWEST_CONNECTIONS}: so few requests run at a time, and the others queue.",
        "Leave it at 8, and change it by measurement.",
    ),
    Rule(
        "storage",
        Level.WARNING,
        lambda settings: settings.storage_url.startswith("file:"),
        "STORAGE_URL is a directory: only processes that share it find the files, and nobody else backs it up.",
        "On several machines, set it to s3://bucket/prefix; on one, back the directory up.",
    ),
    Rule(
        "verification",
        Level.WARNING,
        lambda settings: not settings.require_verified_email,
        "REQUIRE_VERIFIED_EMAIL is off: accounts work whose address nobody has proved.",
        "Set REQUIRE_VERIFIED_EMAIL=true, unless that is what you want.",
    ),
    Rule(
        "sessions",
        Level.WARNING,
        lambda settings: settings.access_token_expire_minutes > LONGEST_TOKEN,
        f"ACCESS_TOKEN_EXPIRE_MINUTES is above {LONGEST_TOKEN}: what a token says of its owner is that old.",
        "Set it to 15; clients refresh.",
    ),
    Rule(
        "sessions",
        Level.WARNING,
        lambda settings: settings.refresh_token_expire_days > LONGEST_SESSION,
        f"REFRESH_TOKEN_EXPIRE_DAYS is above {LONGEST_SESSION}: a stolen session lasts as long.",
        "Set it to 7, or to what your users need.",
    ),
    Rule(
        "browsers",
        Level.WARNING,
        _has_strange_origins,
        "BACKEND_CORS_ORIGINS has an origin without TLS: whoever is on its network acts as its users.",
        "List origins that begin with https://.",
    ),
    Rule(
        "providers",
        Level.WARNING,
        lambda settings: settings.oidc_allow_private_addresses,
        "OIDC_ALLOW_PRIVATE_ADDRESSES is on: whoever controls the name of an issuer reaches your network.",
        "Set it to false, unless an issuer of yours is there.",
    ),
    Rule(
        "mail",
        Level.WARNING,
        lambda settings: (
            settings.smtp_security == "none" and bool(settings.smtp_host) and settings.smtp_host not in HERE
        ),
        "SMTP_SECURITY is `none`: links that open accounts cross the network in clear.",
        "Set SMTP_SECURITY=starttls.",
    ),
    Rule(
        "logs",
        Level.WARNING,
        lambda settings: settings.log_level == "DEBUG",
        "LOG_LEVEL is DEBUG: libraries write down what they are given.",
        "Set LOG_LEVEL=INFO.",
    ),
    Rule(
        "logs",
        Level.WARNING,
        lambda settings: settings.log_format == "console" and "log_format" in settings.model_fields_set,
        "LOG_FORMAT is console, which programs that collect logs cannot read.",
        "Set LOG_FORMAT=json.",
    ),
    Rule(
        "metrics",
        Level.WARNING,
        lambda settings: settings.metrics_port is not None and settings.metrics_host not in HERE,
        "METRICS_HOST answers other machines: whoever reaches its port sees what is asked of the API, and how often.",
        "Set METRICS_HOST=127.0.0.1, or let nobody but Prometheus through to that port.",
    ),
    Rule(
        "bodies",
        Level.WARNING,
        lambda settings: settings.max_body_size > LARGEST_BODY,
        "MAX_BODY_SIZE is above 100 MiB, and a body that is no upload is held in memory.",
        "Leave it at 1048576; uploads have MAX_UPLOAD_SIZE.",
    ),
)


def deployment_findings(settings: Settings) -> Iterator[Finding]:
    """Asks nobody. Every rule that applies; one fine finding when none does."""
    demands = list(production_demands(settings.model_copy(update={"app_env": "production"})))
    found = [Finding(rule.check, rule.level, rule.what, rule.mend) for rule in RULES if rule.applies(settings)]
    yield from demands or [fine("settings", "They are as production demands.")]
    yield from found or [fine("deployment", "Nothing in the settings is unsafe or unwise.")]


def production_demands(settings: Settings) -> Iterator[Finding]:
    """What keeps it from starting; nothing elsewhere than in production."""
    try:
        settings.refuse_unsafe_production()
    except UnsafeSettingsError as error:
        for sentence in error.args:
            what, _, mend = sentence.partition(": ")
            yield fault("settings", f"{what.rstrip('.')}.", f"{mend[:1].upper()}{mend[1:]}")


def route_findings(problems: list[str]) -> Iterator[Finding]:
    """`problems`: what `access audit` calls gaps."""
    for problem in problems:
        yield warning("access", f"{problem[0].upper()}{problem[1:]}.", "See `litestar access audit` and docs/roles.md.")
