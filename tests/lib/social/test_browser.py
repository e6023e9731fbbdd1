from datetime import timedelta

import pytest

from app.lib.random_secrets import new_secret
from app.lib.settings import Settings
from app.lib.social.browser import browser_cookie, browser_of

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(
    ("url", "name", "is_secure"),
    [("https://api.example.com", "__Host-keel-flow", True), ("http://x", "keel-flow", False)],
)
def test_with_tls_the_cookie_is_this_hosts_alone(url: str, name: str, *, is_secure: bool) -> None:
    settings = Settings(_env_file=None, secret_key="key", public_url=url)

    cookie = browser_cookie(new_secret(), settings, lifetime=timedelta(minutes=10))

    assert (cookie.key, cookie.secure, cookie.httponly, cookie.samesite) == (name, is_secure, True, "lax")
    assert (cookie.path, cookie.domain, cookie.max_age) == ("/", None, 600)
    assert browser_of({name: str(cookie.value)}, settings) == cookie.value


@pytest.mark.parametrize("value", ["", "x", "x" * 42, "x" * 44, "x" * 42 + "\n", "é" * 43])
def test_what_we_cannot_have_given_is_no_browser(value: str) -> None:
    settings = Settings(_env_file=None, secret_key="key")

    assert browser_of({"keel-flow": value}, settings) is None
