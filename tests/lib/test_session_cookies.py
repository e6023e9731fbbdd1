from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest
from litestar.datastructures import Cookie

from app.lib.access.guards import Principal
from app.lib.csrf import CsrfProtection
from app.lib.session_cookies import SessionCookies, cookie_of
from app.lib.tokens import AccessTokens

pytestmark = pytest.mark.unit

SECRET = "a test key, which is long enough to be one"
PRINCIPAL = Principal(id=uuid4(), session_id=uuid4(), is_superuser=False, authenticated_at=1_764_000_000)


def cookies_at(public_url: str) -> SessionCookies:
    tokens = AccessTokens(
        secret=SECRET, algorithm="HS256", issuer=public_url, audience=public_url, lifetime=timedelta(minutes=15)
    )
    csrf = CsrfProtection(secret=SECRET, own=public_url, listed=[])
    return SessionCookies(tokens, csrf, public_url=public_url, api_prefix="/api/v1")


def issued(public_url: str = "https://api.example.com", *, left: timedelta = timedelta(days=7)) -> list[Cookie]:
    return cookies_at(public_url).of(PRINCIPAL, refresh_token="a-secret", until=datetime.now(UTC) + left)


def attributes(cookie: Cookie) -> set[str]:
    """Of the header, less the value and the age, which are tested below."""
    parts = cookie.to_header(header="").split("; ")
    return {part for part in parts[1:] if not part.startswith("Max-Age")}


def test_over_https_the_names_say_that_only_this_host_has_set_them() -> None:
    access, refresh, csrf = issued()

    assert [cookie.key for cookie in (access, refresh, csrf)] == [
        "__Host-keel-access",
        "__Secure-keel-refresh",
        "__Host-keel-csrf",
    ]
    assert attributes(access) == {"Path=/", "Secure", "HttpOnly", "SameSite=lax"}
    assert attributes(refresh) == {"Path=/api/v1/auth/cookie", "Secure", "HttpOnly", "SameSite=lax"}
    assert attributes(csrf) == {"Path=/", "Secure", "SameSite=lax"}


def test_over_http_browsers_would_refuse_those_names_and_the_secure_flag() -> None:
    cookies = issued("http://localhost:8000")

    assert [cookie.key for cookie in cookies] == ["keel-access", "keel-refresh", "keel-csrf"]
    assert not any("Secure" in attributes(cookie) for cookie in cookies)


def test_below_a_path_of_a_proxy_the_refresh_cookie_has_that_path() -> None:
    _, refresh, _ = issued("https://example.com/keel")

    assert refresh.path == "/keel/api/v1/auth/cookie"


def test_cookies_live_as_long_as_what_they_hold() -> None:
    assert [cookie.max_age for cookie in issued()] == pytest.approx([900, 604_800, 604_800], abs=2)


def test_no_access_token_outlives_its_session() -> None:
    access, *others = issued(left=timedelta(seconds=60))

    assert [cookie.max_age for cookie in (access, *others)] == pytest.approx([60] * 3, abs=2)
    token = cookies_at("https://api.example.com")._tokens.verify(access.value or "")
    assert token.expires_at == pytest.approx(datetime.now(UTC).timestamp() + 60, abs=2)


def test_what_is_removed_is_what_was_set() -> None:
    removed = cookies_at("https://api.example.com").removal()

    assert removed == issued()  # the same names, paths and domains
    assert [cookie.max_age for cookie in removed] == [0, 0, 0]
    assert [attributes(cookie) for cookie in removed] == [attributes(cookie) for cookie in issued()]


@pytest.mark.parametrize(
    ("sent", "found"),
    [
        ([], None),
        (["keel-access=a"], "a"),
        (["x=1; keel-access=a; y=2"], "a"),
        (["x=1", "keel-access=a"], "a"),
        (["keel-access=a=b"], "a=b"),
        (["keel-access"], ""),
        (["keel-access=a; keel-access=b"], None),
        (["keel-access=a", "keel-access=a"], None),
        (["xkeel-access=a; keel-access-x=b; Keel-Access=c"], None),
        ([";;=;\xff=\xfe; keel-access=a"], "a"),
    ],
)
def test_a_cookie_is_found_when_it_came_once(sent: list[str], found: str | None) -> None:
    headers = [(b"cookie", value.encode("latin-1")) for value in sent]

    assert cookie_of(headers, "keel-access") == found
