from uuid import UUID, uuid4

import pytest

from app.lib.csrf import CsrfProtection
from app.lib.errors import CsrfFailedError

pytestmark = pytest.mark.unit

SECRET = "a test key, which is long enough to be one"
SESSION = UUID("0192f0c1-0000-7000-8000-000000000001")
OWN, LISTED, FOREIGN = "https://api.example.com", "https://app.example.com", "https://evil.example"


def protection(*, own: str = OWN, secret: str = SECRET) -> CsrfProtection:
    return CsrfProtection(secret=secret, own=own, listed=[LISTED, "*"])


def headers(**named: str) -> list[tuple[bytes, bytes]]:
    return [(name.replace("_", "-").encode(), value.encode("latin-1")) for name, value in named.items()]


def test_a_token_is_good_for_its_session() -> None:
    csrf = protection()

    csrf.check(headers(x_csrf_token=csrf.token_of(SESSION)), SESSION)


@pytest.mark.parametrize(
    "token",
    [None, "", "x", "\xe9", protection().token_of(uuid4()), protection(secret=SECRET[::-1]).token_of(SESSION)],
    ids=["none", "empty", "short", "not ASCII", "of another session", "of another key"],
)
def test_any_other_token_is_refused(token: str | None) -> None:
    sent = headers() if token is None else headers(x_csrf_token=token)

    with pytest.raises(CsrfFailedError):
        protection().check(sent, SESSION)


@pytest.mark.parametrize(
    ("origin", "site"),
    [
        (None, None),
        (None, "same-origin"),
        (None, "none"),
        (OWN, None),
        (OWN, "same-origin"),
        (LISTED, "same-site"),
        (LISTED, "cross-site"),
    ],
)
def test_what_our_pages_and_no_browser_send_passes(origin: str | None, site: str | None) -> None:
    named = {"origin": origin, "sec_fetch_site": site}

    protection().check_origin(headers(**{name: value for name, value in named.items() if value}))


@pytest.mark.parametrize(
    "sent",
    [
        headers(origin=FOREIGN),
        headers(origin="null"),
        headers(origin=""),
        headers(origin="*"),
        headers(origin=f"{OWN}.evil.example"),
        headers(origin="https://apixexample.com"),
        headers(origin="http://api.example.com"),
        headers(origin=f"{OWN}:8443"),
        headers(origin=f"{OWN}, {OWN}"),
        headers(sec_fetch_site="cross-site"),
        headers(origin=OWN, sec_fetch_site="cross-site"),
        [*headers(origin=OWN), *headers(origin=FOREIGN)],
        [*headers(sec_fetch_site="same-origin"), *headers(sec_fetch_site="cross-site")],
    ],
)
def test_what_a_foreign_page_sends_does_not_even_with_the_token(sent: list[tuple[bytes, bytes]]) -> None:
    csrf = protection()

    with pytest.raises(CsrfFailedError):
        csrf.check([*sent, *headers(x_csrf_token=csrf.token_of(SESSION))], SESSION)


def test_two_tokens_are_refused_though_one_is_good() -> None:
    csrf = protection()
    good = headers(x_csrf_token=csrf.token_of(SESSION))

    with pytest.raises(CsrfFailedError):
        csrf.check([*good, *headers(x_csrf_token="x")], SESSION)


@pytest.mark.parametrize(
    ("public_url", "origin"),
    [
        ("https://API.example.com/keel", "https://api.example.com"),
        ("https://api.example.com:443", "https://api.example.com"),
        ("http://localhost:80", "http://localhost"),
        ("http://localhost:8000", "http://localhost:8000"),
        ("http://[::1]:8000", "http://[::1]:8000"),
    ],
)
def test_the_own_origin_is_as_browsers_write_it(public_url: str, origin: str) -> None:
    protection(own=public_url).check_origin(headers(origin=origin))
