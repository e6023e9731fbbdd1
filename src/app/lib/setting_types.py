"""The kinds of values that settings have, each checked when it is read. What they refuse, they do not repeat."""

import json
import re
from ipaddress import ip_network
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field
from pydantic_settings import NoDecode
from sqlalchemy import make_url
from sqlalchemy.exc import ArgumentError

from app.lib.mail.message import address


def _split_commas(value: object) -> object:
    return [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value


def _postgres_url(value: str) -> str:
    """Raises ValueError, which says nothing of the URL itself: it holds a password."""
    try:
        driver = make_url(value).drivername
    except (ArgumentError, ValueError):
        raise ValueError("this is not a database URL, such as postgresql://user:password@host:5432/name") from None
    if driver.partition("+")[0] not in {"postgres", "postgresql"}:
        raise ValueError("only PostgreSQL is supported: start the URL with postgresql://")
    return value


def _redis_url(value: str) -> str:
    """Raises ValueError, which says nothing of the URL itself: it holds a password."""
    if not value.startswith(("redis://", "rediss://", "unix://")):
        raise ValueError("this is not the URL of a Redis, such as redis://:password@host:6379/0")
    try:
        _ = urlsplit(value).port
    except ValueError:
        raise ValueError("its port is no number: encode what is special in the password, `/` as %2F") from None
    return value


def _rate_limit(value: str) -> str:
    if not re.fullmatch(r"[1-9]\d{0,8}/(second|minute|hour|day)", value):
        raise ValueError("write a number, `/` and second, minute, hour or day, such as 10/minute")
    return value


def _mail_address(value: str) -> str:
    """Raises UnsafeHeaderError, which is a ValueError."""
    address(value)
    return value


def _network(value: str) -> str:
    if value != "*":
        ip_network(value)
    return value


def _json(value: object) -> object:
    """Raises ValueError, which says nothing of the text itself: it holds secrets."""
    try:
        return json.loads(value) if isinstance(value, str) else value
    except ValueError:
        raise ValueError("this is not JSON") from None


class OpenIDIssuer(BaseModel):
    """One entry of OIDC_PROVIDERS. `name` is part of its callback's URL."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9-]{0,39}$")
    issuer: str = Field(pattern=r"^https?://[A-Za-z0-9.:\[\]-]+(/[A-Za-z0-9._~/-]*)?$", max_length=255)
    client_id: str = Field(min_length=1)
    client_secret: str = Field(min_length=1, repr=False)
    label: str = Field(default="", max_length=40)
    scopes: tuple[str, ...] = ()


def _distinct(value: tuple[OpenIDIssuer, ...]) -> tuple[OpenIDIssuer, ...]:
    names = {each.name for each in value} | {"google", "github"}
    if len(names) != len(value) + 2:
        raise ValueError("each name must be another one; google and github are taken")
    if any(each.issuer.rstrip("/") == "https://github.com" for each in value):
        raise ValueError("GitHub is no issuer of OpenID Connect: set GITHUB_CLIENT_ID")
    return value


CommaSeparated = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_split_commas)]
PostgresUrl = Annotated[str, AfterValidator(_postgres_url)]
PostgresUrls = Annotated[tuple[PostgresUrl, ...], NoDecode, BeforeValidator(_split_commas)]
StorageUrl = Annotated[str, Field(pattern=r"^(|file:///[^?#]+|s3://[^/?#]+(/[^?#]*)?)$")]
RedisUrl = Annotated[str, AfterValidator(_redis_url)]
RateLimit = Annotated[str, AfterValidator(_rate_limit)]
MailAddress = Annotated[str, AfterValidator(_mail_address)]
Networks = Annotated[tuple[Annotated[str, AfterValidator(_network)], ...], NoDecode, BeforeValidator(_split_commas)]
PublicUrl = Annotated[
    str,
    BeforeValidator(lambda value: str(value).rstrip("/")),
    Field(pattern=r"^https?://[A-Za-z0-9.:\[\]-]+(/[A-Za-z0-9._-]+)*$"),
]
OpenIDIssuers = Annotated[tuple[OpenIDIssuer, ...], NoDecode, BeforeValidator(_json), AfterValidator(_distinct)]
Directory = Annotated[Path, AfterValidator(Path.expanduser)]
