"""Signing in as a browser does: the client keeps the cookies."""

from typing import Any

import httpx

from tests.live import PASSWORD

LOGIN, REFRESH, LOGOUT = (f"/auth/cookie/{act}" for act in ("login", "refresh", "logout"))
ACCESS_COOKIE, REFRESH_COOKIE, CSRF_COOKIE = "keel-access", "keel-refresh", "keel-csrf"
CSRF_HEADER = "X-CSRF-Token"


def sign_in_with_cookies(client: httpx.Client, email: str, *, password: str = PASSWORD, prefix: str = "") -> str:
    """Returns the CSRF token. `prefix`: that of the API, unless the client has it already."""
    answer = client.post(f"{prefix}{LOGIN}", json={"email": email, "password": password})
    assert answer.status_code == 204, answer.text
    return str(answer.headers[CSRF_HEADER])


def meant(csrf_token: str, **headers: str) -> dict[str, str]:
    """The header of a request that one of our pages makes."""
    return {CSRF_HEADER: csrf_token, **headers}


def set_cookies(answer: Any) -> dict[str, str]:
    """What the answer sets: the whole text of each `Set-Cookie` by the cookie's name."""
    return {text.partition("=")[0]: text for text in answer.headers.get_list("set-cookie")}
