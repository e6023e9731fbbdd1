"""The cookie that ties a sign-in with a provider to the browser in which it was begun."""

import re
from collections.abc import Mapping
from datetime import timedelta

from litestar.datastructures import Cookie

from app.lib.settings import Settings

SECRET = re.compile(r"[A-Za-z0-9_-]{43}")


def cookie_name(settings: Settings) -> str:
    """`__Host-` keeps subdomains from planting one (RFC 6265bis section 4.1.3.2)."""
    return "__Host-keel-flow" if settings.public_url.startswith("https://") else "keel-flow"


def browser_of(cookies: Mapping[str, str], settings: Settings) -> str | None:
    """Its secret, if it has one that we can have given to it."""
    found = cookies.get(cookie_name(settings), "")
    return found if SECRET.fullmatch(found) else None


def browser_cookie(browser: str, settings: Settings, *, lifetime: timedelta) -> Cookie:
    """Lax: it has to come along when the provider sends the browser back, and with no POST of another site."""
    return Cookie(
        key=cookie_name(settings),
        value=browser,
        path="/",
        max_age=int(lifetime.total_seconds()),
        httponly=True,
        samesite="lax",
        secure=settings.public_url.startswith("https://"),
    )
