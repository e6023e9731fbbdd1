import re
from collections.abc import Callable, Iterator
from email.message import EmailMessage
from email.utils import localtime
from pathlib import Path
from uuid import uuid4

import pytest
from litestar import Litestar
from litestar.testing import TestClient
from sqlalchemy import URL

from app.lib.mail.folder import MailFolder
from app.lib.settings import Settings
from app.server.asgi import build_app

pytestmark = pytest.mark.integration
Client = TestClient[Litestar]

HOSTILE = "<script>document.title = 'hacked'</script><img src=x onerror=alert(1)>"


@pytest.fixture
def development(settings: Settings, database_url: URL, tmp_path: Path) -> Iterator[Client]:
    """The application as a developer runs it."""
    changes = {"app_env": "development", "mail_backend": "memory", "local_dir": tmp_path}
    with TestClient(build_app(settings.model_copy(update=changes), database_url)) as client:
        yield client


@pytest.fixture
def keep(tmp_path: Path) -> Callable[..., str]:
    """Put a mail where those that are sent are kept, as another process would. Returns its path in the mailbox."""

    def write(subject: str = "Hello", text: str = "Hi.\n", html: str = "<p>Hi.</p>") -> str:
        message = EmailMessage()
        message["Subject"], message["From"], message["To"] = subject, "keel@keel.test", "Ada <ada@example.com>"
        message["Date"], message["Message-ID"] = localtime(), "<1@keel.test>"
        message.set_content(text)
        message.add_alternative(html, subtype="html")
        folder = MailFolder(tmp_path / "mail")
        folder.deliver(message)
        return f"/dev/mail/{next(folder.newest_first()).id}"

    return write


def test_mails_are_listed_the_newest_first(development: Client, keep: Callable[..., str]) -> None:
    assert "Nothing has been sent yet." in development.get("/dev/mail").text

    paths = [keep(subject=subject) for subject in ("first", "second")]

    links = re.findall(r'<a href="(/dev/mail/\S+)">(\w+)</a>', development.get("/dev/mail").text)
    assert links == [(paths[1], "second"), (paths[0], "first")]


def test_files_that_are_no_mails_do_not_hide_the_others(
    development: Client, keep: Callable[..., str], tmp_path: Path
) -> None:
    keep(subject="Hello")
    (tmp_path / "mail" / "notes.eml").write_text("Subject: a name that is no UUID")
    for content in (b"", b"\0\xff no mail", b"Date: nonsense\n\nHi."):
        (tmp_path / "mail" / f"{uuid4()}.eml").write_bytes(content)

    answer = development.get("/dev/mail")

    assert (answer.status_code, answer.text.count("(no subject)"), answer.text.count("Hello")) == (200, 3, 1)
    assert "no UUID" not in answer.text


def test_a_mail_that_the_application_sends_is_kept(development: Client) -> None:
    development.app.state.mailer.send("accounts/farewell", to="ada@example.com", key="1")

    page = development.get("/dev/mail").text
    assert "was deleted" in page
    assert "ada@example.com" in page


def test_a_mail_is_shown_as_html_as_text_and_as_it_travels(development: Client, keep: Callable[..., str]) -> None:
    path = keep(text="See http://keel.test/a?b=1&c=2 soon.\n", html="<p>See <a href='http://keel.test'>this</a></p>")

    assert f'src="{path}/html" sandbox="allow-popups allow-popups-to-escape-sandbox"' in development.get(path).text
    assert "<p>See <a href='http://keel.test'>this</a></p>" in development.get(f"{path}/html").text
    link = '<a href="http://keel.test/a?b=1&amp;c=2" rel="noopener" target="_blank">'
    assert link in development.get(f"{path}/text").text
    source = development.get(f"{path}/source")
    assert "Message-ID: <1@keel.test>" in source.text
    assert source.headers["content-type"] == "text/plain; charset=utf-8"


def test_the_html_of_a_mail_can_do_nothing(development: Client, keep: Callable[..., str]) -> None:
    headers = development.get(f"{keep(html=HOSTILE)}/html").headers

    policy = headers["content-security-policy"].split("; ")
    assert "sandbox allow-popups allow-popups-to-escape-sandbox" in policy
    assert {"default-src 'none'", "form-action 'none'"} <= set(policy)
    assert not any(part.startswith("script-src") for part in policy)


@pytest.mark.parametrize("view", ["", "/text"])
def test_nothing_of_a_mail_is_html_on_our_own_pages(view: str, development: Client, keep: Callable[..., str]) -> None:
    path = keep(subject=HOSTILE, text=HOSTILE + " javascript:alert(1)\n", html=HOSTILE)

    for page in (development.get(path + view), development.get("/dev/mail")):
        assert "<script" not in page.text
        assert "<img" not in page.text
        assert 'href="javascript' not in page.text
        assert "script-src" not in page.headers["content-security-policy"]


@pytest.mark.parametrize(
    "name",
    [
        "../secret_key",
        "..%2fsecret_key",
        "%2e%2e/secret_key",
        "x",
        "019ab000-0000-7000-8000-000000000000",
        "019ab000-0000-7000-8000-000000000000.eml",
    ],
)
def test_a_name_that_is_no_mail_is_404(name: str, development: Client, tmp_path: Path) -> None:
    (tmp_path / "secret_key").write_text("sesame")

    for view in ("", "/html", "/text", "/source"):
        answer = development.get(f"/dev/mail/{name}{view}")
        assert (answer.status_code, "sesame" in answer.text) == (404, False)


@pytest.mark.parametrize("app_env", ["test", "production"])
def test_there_is_no_mailbox_but_in_development(
    app_env: str, settings: Settings, database_url: URL, tmp_path: Path, keep: Callable[..., str]
) -> None:
    path = keep()
    changes = {"app_env": app_env, "local_dir": tmp_path, "allowed_hosts": ("*",), "debug": True}
    app = build_app(settings.model_copy(update=changes), database_url)

    with TestClient(app) as client:
        statuses = {client.get(each).status_code for each in ("/dev/mail", "/dev/mail/", path, f"{path}/source")}

    assert statuses == {404}
    assert app.state.mailbox_path is None


def test_the_mailbox_is_no_part_of_the_api(development: Client) -> None:
    assert "/dev/mail" not in development.get("/api/v1/openapi.json").text
