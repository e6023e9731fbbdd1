"""Cookies in a real browser: the example of docs/sessions.md works, and foreign pages achieve nothing."""

import re
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from selenium.webdriver import Chrome
from sqlalchemy import URL, NullPool, create_engine, text

from tests.live import PASSWORD, LiveServer, free_port, wait_until

pytestmark = pytest.mark.e2e

DOCUMENT = Path(__file__).parents[2] / "docs" / "sessions.md"
FORGED = """<!doctype html><title>Evil</title>
<form id="form" method="post" enctype="text/plain" target="frame" action="{api}/items">
<input name='{{"title": "by form", "description": "' value='"}}'></form>
<form id="logout" method="post" target="frame" action="{api}/auth/logout"></form><iframe name="frame"></iframe>
<script>
const attempt = (path, body, type, extra) => fetch("{api}" + path, {{
  method: "POST", credentials: "include", body, headers: {{"Content-Type": type}}, ...extra}}).catch(() => null);
const attempts = [
  attempt("/items", '{{"title": "by fetch"}}', "text/plain", {{mode: "no-cors"}}),
  attempt("/items", '{{"title": "with preflight"}}', "application/json"),
  attempt("/auth/cookie/refresh", "", "text/plain", {{mode: "no-cors"}}),
  attempt("/auth/cookie/logout", "", "text/plain", {{mode: "no-cors"}}),
  attempt("/auth/logout", "", "text/plain", {{mode: "no-cors"}}),
  attempt("/auth/cookie/login", '{{"email": "eve@example.com", "password": "{password}"}}', "text/plain",
    {{mode: "no-cors"}}),
];
const frame = document.querySelector("iframe");
const loaded = () => new Promise((resolve) => frame.addEventListener("load", resolve, {{once: true}}));
Promise.all(attempts).then(async () => {{
  for (const id of ["form", "logout"]) {{
    const answered = loaded();
    document.getElementById(id).submit();
    await answered;
  }}
  document.title = "Done";
}});
</script>"""


@pytest.fixture(scope="module")
def server(start_shared: Callable[..., LiveServer], shared_database: URL) -> LiveServer:
    port = free_port()
    return start_shared(LiveServer, shared_database, port=port, public_url=f"http://127.0.0.1:{port}")


@pytest.fixture
def evil_port(server: LiveServer) -> Iterator[int]:
    """Where somebody else serves a page that attacks."""
    page = FORGED.format(api=server.api, password=PASSWORD).encode()

    class Evil(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.send_header("Content-Length", str(len(page)))
            self.end_headers()
            self.wfile.write(page)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Evil) as evil:
        threading.Thread(target=evil.serve_forever, daemon=True).start()
        yield evil.server_port
        evil.shutdown()


@pytest.fixture
def page(server: LiveServer, browser: Chrome) -> Chrome:
    """A page of the API's own host, with the functions of the documentation, on which Ada has signed in."""
    email = server.sign_up()
    [functions] = re.findall(r"^```js\n(.*?)^```$", DOCUMENT.read_text(), re.MULTILINE | re.DOTALL)
    browser.get(f"{server.api}/docs")
    browser.execute_script(functions + "window.call = call;")
    assert call(browser, "POST", "/auth/cookie/login", {"email": email, "password": PASSWORD}) == 204
    return browser


def call(page: Chrome, *arguments: Any) -> int:
    script = "const done = arguments[arguments.length - 1]; call(...arguments).then((answer) => done(answer.status));"
    status: int = page.execute_async_script(script, *arguments)
    return status


def stored(url: URL, query: str) -> list[Any]:
    """`:user` is who signed up last: Ada."""
    with create_engine(url, poolclass=NullPool).connect() as fresh:
        ada = fresh.scalar(text("SELECT id FROM users ORDER BY created_at DESC LIMIT 1"))
        return list(fresh.scalars(text(query), {"user": ada}))


def test_the_example_signs_in_acts_refreshes_and_signs_out(page: Chrome, shared_database: URL) -> None:
    assert call(page, "GET", "/users/me") == 200
    assert page.execute_script("return document.cookie").startswith("keel-csrf=")
    page.delete_cookie("keel-access")

    assert call(page, "POST", "/items", {"title": "after a refresh"}) == 201
    assert call(page, "POST", "/auth/cookie/logout") == 204

    assert page.execute_script("return document.cookie") == ""
    assert call(page, "GET", "/users/me") == 401
    assert stored(shared_database, "SELECT title FROM items WHERE owner_id = :user") == ["after a refresh"]
    assert stored(shared_database, "SELECT revocation_reason FROM sessions WHERE user_id = :user") == ["logout"]


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"], ids=["same site, cookies are sent", "another site"])
def test_a_foreign_page_achieves_nothing(host: str, page: Chrome, evil_port: int, shared_database: URL) -> None:
    cookies = {cookie["name"]: cookie["value"] for cookie in page.get_cookies()}
    own_page = page.current_url

    page.get(f"http://{host}:{evil_port}/")
    wait_until(lambda: page.title == "Done", seconds=15, what="the attacks to end")

    assert stored(shared_database, "SELECT title FROM items WHERE owner_id = :user") == []
    assert stored(shared_database, "SELECT revoked_at FROM sessions WHERE user_id = :user") == [None]
    assert stored(
        shared_database, "SELECT used_at FROM refresh_tokens JOIN sessions s ON s.id = session_id WHERE user_id = :user"
    ) == [None]
    page.get(own_page)
    assert {cookie["name"]: cookie["value"] for cookie in page.get_cookies()} == cookies
