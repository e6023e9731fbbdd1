"""What must not be in a log: masked by the name of its field, by what it looks like, and because we know it."""

import re
from collections.abc import Iterable, Iterator, MutableMapping
from functools import lru_cache
from typing import Any
from urllib.parse import quote, urlsplit

from sqlalchemy import make_url

from app.lib.api_keys import PATTERN as API_KEY
from app.lib.settings import Settings

MASK = "***"
SHORTEST_KNOWN = 8
"""Characters of a configured secret that is looked for: a shorter one would be found in innocent words."""

_NAMES = (
    r"pass(?:word|wd|phrase|code)|pwd|csrf|signature|secret|token|api[_-]?key"
    r"|authorization|cookie|credential|recovery[_-]?code|totp"
)
_SECRET_NAME = re.compile(_NAMES, re.IGNORECASE)
_PLAIN_NAMES = {
    "level",
    "logger",
    "timestamp",
    "method",
    "route",
    "client",
    "user",
    "request_id",
    "trace_id",
    "span_id",
}
"""Fields of nearly every line which hold what we or the server have made, or checked."""
_SHAPES = re.compile(
    rf"""
      (?P<url> :// [^\s:/@"']{{0,100}}+ : ) [^\s"']{{1,200}} (?= @ )
    | (?P<header> (?i:cookie|authorization) (?: \\? ["']? \s? [:=] \s? | ["'] ,\s? b? ["'] ) ) [^\n]+
    | (?P<field> (?i:{_NAMES}) [\w-]{{0,40}} \\? ["']? \s? [:=] \s? )
      (?: " (?: [^"\\] | \\. )* " | \\ " [^"]* " | ' (?: [^'\\] | \\. )* ' | \\ ' [^']* ' | [^\s"']+ )
    | (?P<scheme> \b (?i:bearer|basic) [ ] ) [\w.~+/=-]{{16,}}
    | \b eyJ [\w-]{{8,}} (?: \. [\w-]* ){{2,4}}
    | -----BEGIN\ [A-Z ]{{0,20}}PRIVATE\ KEY----- .*? (?: -----END\ [A-Z ]{{0,20}}PRIVATE\ KEY----- | \Z )
    | \$argon2 [\w$=,+/.-]+
    | (?<! [\w-] ) {API_KEY}
    | (?<! [\w-] ) (?= [\w-]* \d ) (?= [\w-]* [A-Z] ) (?= [\w-]* [a-z] ) [\w-]{{43,}} =*
    """,
    re.VERBOSE | re.DOTALL,
)
"""A password in a URL; a header; `name=value` and `"name": "value"`; what follows a scheme of authentication; a JSON
web token; a private key; a password's hash; an API key; what `lib.random_secrets` and `lib.link_tokens` make."""
_HINTS = (
    *("://", "eyj", "-----begin", "$argon2", "keel_", "bearer", "basic", "pass", "secret", "token"),
    *(
        "api_key",
        "api-key",
        "apikey",
        "pwd",
        "csrf",
        "signature",
        "authorization",
        "cookie",
        "credential",
        "recovery",
        "totp",
    ),
)
"""Of which every shape has one, save for the last: they are looked for a hundred times faster."""
_LONG_WORD = re.compile(r"[\w-]{43}")


class Redaction:
    """A processor of structlog, behind those that render exceptions. Also what others log passes through it."""

    def __init__(self, settings: Settings) -> None:
        known = sorted(_configured(settings), key=len, reverse=True)
        self._known = re.compile("|".join(map(re.escape, known))) if known else None

    def __call__(self, _logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        for name, value in event.items():
            if name not in _PLAIN_NAMES:
                event[name] = self._masked(name, value)
        return event

    def _masked(self, name: str, value: Any) -> Any:
        if value is None or isinstance(value, bool | int | float):
            return value
        if _is_secret(name):
            return MASK
        if isinstance(value, str):
            return self.mask(value)
        if isinstance(value, dict):
            return {key: self._masked(str(key), each) for key, each in value.items()}
        if isinstance(value, list | tuple | set | frozenset):
            return [self._masked("", each) for each in value]
        return self.mask(str(value))

    def mask(self, text: str) -> str:
        if self._known:
            text = self._known.sub(MASK, text)
        lower = text.lower()
        if any(hint in lower for hint in _HINTS) or _LONG_WORD.search(text):
            return _SHAPES.sub(_mask_match, text)
        return text


@lru_cache(maxsize=1000)
def _is_secret(name: str) -> bool:
    return bool(_SECRET_NAME.search(name))


def _mask_match(found: re.Match[str]) -> str:
    """What stands before the secret tells what it was."""
    return (found[found.lastgroup] if found.lastgroup else "") + MASK


def _configured(settings: Settings) -> set[str]:
    """As they are, and as they stand in a URL."""
    secrets = {secret for secret in _secrets_of(settings) if len(secret) >= SHORTEST_KNOWN}
    return secrets | {quote(secret, safe="") for secret in secrets}


def _secrets_of(settings: Settings) -> Iterator[str]:
    yield from (settings.secret_key, settings.db_password, settings.redis_password, settings.smtp_password)
    yield from (settings.google_client_secret, settings.github_client_secret)
    yield from (each.client_secret for each in settings.oidc_providers)
    urls: Iterable[str | None] = (settings.database_url, settings.redis_url, *settings.database_replica_urls)
    yield from (make_url(url).password or "" for url in urls if url)
    yield from (urlsplit(url).password or "" for url in (settings.storage_url, settings.otel_exporter_otlp_endpoint))
