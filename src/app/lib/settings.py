"""Everything that can be configured, from the environment or `.env`. Read once, at start-up."""

from datetime import timedelta
from functools import lru_cache
from pathlib import Path
from typing import Literal, Self
from urllib.parse import quote, urlsplit

from pydantic import Field, PositiveInt, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict
from sqlalchemy import URL, make_url

from app.lib.password_policy import SHORTEST
from app.lib.secret_keys import SECRET_KEY_BYTES, development_secret, is_weak
from app.lib.setting_types import (
    CommaSeparated,
    Directory,
    MailAddress,
    Networks,
    OpenIDIssuers,
    PostgresUrl,
    PostgresUrls,
    PublicUrl,
    RateLimit,
    RedisUrl,
    StorageUrl,
)

CHECKOUT = Path(__file__).resolve().parents[3]
LOOPBACK = ("localhost", "127.0.0.1", "[::1]")


class UnsafeSettingsError(Exception):
    """The settings would be dangerous in production. `args` hold one plain sentence per fault."""


class Settings(BaseSettings):
    """Environment variables have the same names in upper case. `docs/settings.md` explains each."""

    model_config = SettingsConfigDict(env_file=CHECKOUT / ".env", env_ignore_empty=True, extra="ignore", frozen=True)

    app_env: Literal["development", "test", "production"] = "development"
    debug: bool = False
    project_name: str = "Keel"
    version: str = "0.1.0"
    description: str = "A synchronous, batteries-included backend on Litestar."
    api_v1_prefix: str = Field(default="/api/v1", pattern=r"^(/[A-Za-z0-9._-]+)+$")
    public_url: PublicUrl = "http://localhost:8000"
    host: str = "127.0.0.1"
    port: int = Field(default=8000, ge=1, le=65535)
    reload: bool = False
    local_dir: Directory = CHECKOUT / ".local"

    secret_key: str = Field(default="", repr=False)
    algorithm: Literal["HS256", "HS384", "HS512"] = "HS256"
    access_token_expire_minutes: int = Field(default=15, ge=1, le=24 * 60)
    refresh_token_expire_days: int = Field(default=7, ge=1, le=365)
    session_idle_expire_hours: int = Field(default=72, ge=1, le=365 * 24)
    require_verified_email: bool = False
    password_hash_concurrency: PositiveInt = 1
    password_min_length: int = Field(default=SHORTEST, ge=SHORTEST, le=128)
    audit_retention_days: int = Field(default=365, ge=1, le=100 * 365)

    google_client_id: str = ""
    google_client_secret: str = Field(default="", repr=False)
    github_client_id: str = ""
    github_client_secret: str = Field(default="", repr=False)
    oidc_providers: OpenIDIssuers = Field(default=(), repr=False)
    oidc_allow_private_addresses: bool = False

    backend_cors_origins: CommaSeparated = ()
    allowed_hosts: CommaSeparated = ()
    trusted_proxies: Networks = ()
    max_body_size: PositiveInt = 1024 * 1024

    database_url: PostgresUrl | None = Field(default=None, repr=False)
    db_host: str | None = None
    db_port: int = 5432
    db_user: str = "keel"
    db_password: str = Field(default="", repr=False)
    db_name: str = "keel"
    database_replica_urls: PostgresUrls = Field(default=(), repr=False)
    db_echo: bool = False
    db_pool_size: PositiveInt = 8

    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    log_format: Literal["console", "json"] = "console"  # in production, json

    metrics_host: str = "127.0.0.1"
    metrics_port: int | None = Field(default=None, ge=1, le=65535)
    otel_exporter_otlp_endpoint: str = Field(default="", pattern=r"^(|https?://[^\s?#]+)$", repr=False)

    redis_url: RedisUrl | None = Field(default=None, repr=False)
    redis_host: str | None = None
    redis_port: int = 6379
    redis_db: int = Field(default=0, ge=0)
    redis_password: str = Field(default="", repr=False)

    job_concurrency: PositiveInt = 4

    mail_backend: Literal["smtp", "console", "file", "memory"] = "console"
    smtp_host: str = ""
    smtp_port: int = Field(default=587, ge=1, le=65535)
    smtp_user: str = ""
    smtp_password: str = Field(default="", repr=False)
    smtp_security: Literal["starttls", "tls", "none"] = "starttls"
    emails_from_email: MailAddress = "keel@localhost"
    emails_from_name: str = "Keel"

    storage_url: StorageUrl = ""
    max_upload_size: PositiveInt = 10 * 1024 * 1024
    allowed_extensions: CommaSeparated = (
        "pdf",
        "png",
        "jpg",
        "jpeg",
        "gif",
        "webp",
        "txt",
        "csv",
        "docx",
        "xlsx",
        "zip",
    )

    rate_limit_enabled: bool = True
    rate_limit_sign_in: RateLimit = "20/minute"
    rate_limit_refresh: RateLimit = "120/minute"
    rate_limit_api_keys: RateLimit = "60/minute"
    rate_limit_write: RateLimit = "120/minute"
    rate_limit_read: RateLimit = "600/minute"

    default_page_size: PositiveInt = 20
    max_page_size: PositiveInt = 100

    @property
    def is_production(self) -> bool:
        return self.app_env == "production"

    @property
    def postgres_url(self) -> URL | None:
        """The configured database with the driver we use; None means the embedded server."""
        if self.database_url:
            return make_url(self.database_url).set(drivername="postgresql+psycopg")
        if self.db_host:
            return URL.create(
                "postgresql+psycopg", self.db_user, self.db_password, self.db_host, self.db_port, self.db_name
            )
        return None

    @property
    def replica_urls(self) -> list[URL]:
        return [make_url(url).set(drivername="postgresql+psycopg") for url in self.database_replica_urls]

    @property
    def redis_dsn(self) -> str | None:
        """None means that caches and rate limits live in the memory of each process."""
        if self.redis_url or not self.redis_host:
            return self.redis_url
        password = f":{quote(self.redis_password, safe='')}@" if self.redis_password else ""
        return f"redis://{password}{self.redis_host}:{self.redis_port}/{self.redis_db}"

    @property
    def session_lifetime(self) -> timedelta:
        return timedelta(days=self.refresh_token_expire_days)

    @property
    def session_idle_lifetime(self) -> timedelta:
        return timedelta(hours=self.session_idle_expire_hours)

    @property
    def frontend_origins(self) -> set[str]:
        """Of our own pages and of those that are listed: where a browser may be sent back to."""
        own = urlsplit(self.public_url)
        listed = {origin.lower().rstrip("/") for origin in self.backend_cors_origins if origin != "*"}
        return {f"{own.scheme}://{own.netloc}".lower(), *listed}

    @property
    def has_http_issuer(self) -> bool:
        return any(each.issuer.startswith("http://") for each in self.oidc_providers)

    @property
    def rate_limits(self) -> dict[str, str]:
        """Of `rate_limit_read`, a route says `rate_limit="read"`."""
        fields = [name for name in type(self).model_fields if name.startswith("rate_limit_")]
        limits = {name.removeprefix("rate_limit_"): getattr(self, name) for name in fields}
        del limits["enabled"]
        return limits

    @model_validator(mode="after")
    def fill_in_what_may_be_left_out(self) -> Self:
        if not self.secret_key and not self.is_production:
            object.__setattr__(self, "secret_key", development_secret(self.local_dir / "secret_key"))
        if self.is_production and "log_format" not in self.model_fields_set:
            object.__setattr__(self, "log_format", "json")
        if not self.allowed_hosts:
            object.__setattr__(self, "allowed_hosts", self._usual_hosts())
        return self

    def _usual_hosts(self) -> tuple[str, ...]:
        """In development no strange name is answered, either: a web page could rebind its own to this machine."""
        if self.app_env == "test":
            return ("*",)
        public_host = urlsplit(self.public_url).hostname or ""
        return (public_host,) if self.is_production else tuple(dict.fromkeys((public_host, self.host, *LOOPBACK)))

    @model_validator(mode="after")
    def metrics_have_a_port_of_their_own(self) -> Self:
        """Sockets share a port here: requests would go to the one or to the other."""
        if self.metrics_port == self.port:
            raise ValueError("METRICS_PORT must be another one than PORT")
        return self

    @model_validator(mode="after")
    def page_sizes_agree(self) -> Self:
        if self.default_page_size > self.max_page_size:
            raise ValueError("DEFAULT_PAGE_SIZE is larger than MAX_PAGE_SIZE")
        return self

    @model_validator(mode="after")
    def sessions_in_use_are_not_idle(self) -> Self:
        """One is seen when it is refreshed, which it is when its access token ends."""
        if self.session_idle_expire_hours * 60 <= self.access_token_expire_minutes:
            raise ValueError("SESSION_IDLE_EXPIRE_HOURS must be longer than ACCESS_TOKEN_EXPIRE_MINUTES")
        return self

    @model_validator(mode="after")
    def sign_ins_leave_threads_to_others(self) -> Self:
        if self.password_hash_concurrency >= max(self.db_pool_size, 2):
            raise ValueError("PASSWORD_HASH_CONCURRENCY must be smaller than DB_POOL_SIZE")
        return self

    @model_validator(mode="after")
    def clients_of_providers_have_both_halves(self) -> Self:
        for name in ("google", "github"):
            if bool(getattr(self, f"{name}_client_id")) != bool(getattr(self, f"{name}_client_secret")):
                raise ValueError(f"{name.upper()}_CLIENT_ID and {name.upper()}_CLIENT_SECRET belong together")
        if not self.oidc_allow_private_addresses and self.has_http_issuer:
            raise ValueError("OIDC_PROVIDERS has an issuer without TLS: https:// is missing")
        return self

    @model_validator(mode="after")
    def mail_has_a_server(self) -> Self:
        if self.mail_backend == "smtp" and not self.smtp_host and not self.is_production:
            raise ValueError("SMTP_HOST is missing: set it to the host that sends your mail")
        return self

    def refuse_unsafe_production(self) -> None:
        """Raises UnsafeSettingsError with every fault at once, so that one restart mends them all."""
        if self.is_production and (faults := _production_faults(self)):
            raise UnsafeSettingsError(*faults)


def _production_faults(settings: Settings) -> list[str]:
    key = settings.secret_key
    checks = {
        "SECRET_KEY is missing: set it to the output of `openssl rand -base64 48`.": not key,
        f"SECRET_KEY is too weak: use at least {SECRET_KEY_BYTES} random bytes, as from "
        "`openssl rand -base64 48`.": bool(key) and is_weak(key),
        "DEBUG is on: set DEBUG=false.": settings.debug,
        "BACKEND_CORS_ORIGINS is `*`, but browsers send credentials here: list the origins.": (
            "*" in settings.backend_cors_origins
        ),
        "ALLOWED_HOSTS is `*`: list the host names this API answers to.": "*" in settings.allowed_hosts,
        "TRUSTED_PROXIES trusts everybody: list the addresses of your proxies.": any(
            proxy == "*" or proxy.endswith("/0") for proxy in settings.trusted_proxies
        ),
        "DB_ECHO is on: it writes every statement to the log. Set DB_ECHO=false.": settings.db_echo,
        "PUBLIC_URL has no TLS: start it with https://, as clients reach the API.": not settings.public_url.startswith(
            "https://"
        ),
        "MAIL_BACKEND prints mail instead of sending it: set MAIL_BACKEND=smtp.": settings.mail_backend != "smtp",
        "SMTP_HOST is missing: set it to the host that sends your mail.": not settings.smtp_host,
        "EMAILS_FROM_EMAIL is missing: set it to the address that mail comes from.": (
            settings.emails_from_email.endswith("@localhost")
        ),
        "SMTP_SECURITY is `none`, but there is an SMTP_PASSWORD: set SMTP_SECURITY=starttls.": (
            settings.smtp_security == "none" and bool(settings.smtp_password)
        ),
        "STORAGE_URL is missing: set it to s3://bucket/prefix, or to file:///a/directory/that/stays.": (
            not settings.storage_url
        ),
        "OIDC_PROVIDERS has an issuer that starts with http://: production believes TLS only.": (
            settings.has_http_issuer
        ),
        "No database is configured: set DATABASE_URL (or DB_HOST, DB_USER, DB_PASSWORD, DB_NAME).": (
            settings.postgres_url is None
        ),
    }
    return [sentence for sentence, is_faulty in checks.items() if is_faulty]


@lru_cache
def get_settings() -> Settings:
    """The process's settings. Raises pydantic's ValidationError when a variable cannot be read."""
    return Settings()
