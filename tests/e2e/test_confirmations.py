"""From the mail to the account, in a real browser: the pages behind the links, with a worker that sends them."""

from collections.abc import Callable
from pathlib import Path

import pytest
from selenium.webdriver import Chrome
from selenium.webdriver.common.by import By
from sqlalchemy import URL, NullPool, create_engine, text

from app.lib.mail.folder import MailFolder
from tests.links import about, token_in
from tests.live import PASSWORD, LiveServer, LiveWorker, free_port, wait_until

pytestmark = pytest.mark.e2e

NEW = "an analytical engine"


@pytest.fixture(scope="module")
def local_directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("local")


@pytest.fixture(scope="module")
def server(start_shared: Callable[..., LiveServer], shared_database: URL, local_directory: Path) -> LiveServer:
    """As `up` runs it, where nobody signs in before the address is verified."""
    port = free_port()
    settings = {
        "app_env": "development",
        "public_url": f"http://127.0.0.1:{port}",
        "local_dir": local_directory,
        "mail_backend": "file",
        "require_verified_email": "true",
    }
    start_shared(LiveWorker, shared_database, **settings)
    return start_shared(LiveServer, shared_database, port=port, **settings)


def login(server: LiveServer, email: str, password: str) -> int:
    with server.client() as client:
        return client.post("/auth/login", json={"email": email, "password": password}).status_code


def newest_recipient(folder: MailFolder) -> str | None:
    return next((mail.message["To"] for mail in folder.newest_first()), None)


def outcome(browser: Chrome) -> str:
    return browser.find_element(By.ID, "outcome").text


def press(browser: Chrome) -> str:
    """The button of the page. Returns what the page then says."""
    browser.find_element(By.CSS_SELECTOR, "#confirm button").click()
    wait_until(lambda: outcome(browser) != "", seconds=10, what="the page to say something")
    return outcome(browser)


def test_an_account_is_verified_from_the_mailbox_of_development(
    server: LiveServer, browser: Chrome, shared_database: URL, local_directory: Path, tmp_path: Path
) -> None:
    email = server.sign_up()
    assert login(server, email, PASSWORD) == 401
    folder = MailFolder(local_directory / "mail")
    wait_until(lambda: newest_recipient(folder) == email, seconds=20, what="the mail")

    browser.get(f"{server.url}/dev/mail")
    browser.find_element(By.LINK_TEXT, "Confirm your address at Keel").click()
    browser.switch_to.frame(browser.find_element(By.TAG_NAME, "iframe"))
    browser.find_element(By.LINK_TEXT, "Confirm this address").click()
    wait_until(lambda: len(browser.window_handles) == 2, seconds=5, what="the link to open")
    browser.switch_to.window(browser.window_handles[1])
    wait_until(lambda: browser.current_url == f"{server.url}/confirm/verification", seconds=5, what="the token to go")
    browser.save_screenshot(str(tmp_path / "page.png"))
    assert login(server, email, PASSWORD) == 401  # opening it does nothing

    assert press(browser) == "Your address is confirmed. You can sign in."
    browser.save_screenshot(str(tmp_path / "done.png"))

    assert not browser.find_element(By.ID, "confirm").is_displayed()
    assert browser.get_cookies() == []
    assert login(server, email, PASSWORD) == 200
    with create_engine(shared_database, poolclass=NullPool).connect() as fresh:
        assert fresh.scalar(text("SELECT is_verified FROM users WHERE email = :email"), {"email": email})


def test_a_new_password_is_chosen_and_a_bad_one_may_be_tried_again(
    server: LiveServer, browser: Chrome, local_directory: Path, tmp_path: Path
) -> None:
    email = server.sign_up()
    with server.client() as client:
        client.post("/auth/password/forgot", json={"email": email}).raise_for_status()
    folder = MailFolder(local_directory / "mail")

    def forgotten() -> list[str]:
        mails = about(
            "Choose a new password", [mail.message for mail in folder.newest_first() if mail.message["To"] == email]
        )
        return [token_in(mail) for mail in mails]

    wait_until(lambda: bool(forgotten()), seconds=20, what="the mail")

    browser.get(f"{server.url}/confirm/password_reset#token={forgotten()[0]}")
    field = browser.find_element(By.NAME, "password")
    field.send_keys("password1")
    assert press(browser).startswith("This is one of the passwords that are guessed first.")
    field.clear()
    field.send_keys(NEW)
    browser.find_element(By.CSS_SELECTOR, "#confirm button").click()
    wait_until(lambda: "is set" in outcome(browser), seconds=10, what=lambda: outcome(browser))

    assert login(server, email, NEW) == 200
    browser.save_screenshot(str(tmp_path / "done.png"))


def test_a_link_without_its_token_says_so(server: LiveServer, browser: Chrome) -> None:
    browser.get(f"{server.url}/confirm/email_undo")

    assert outcome(browser) == "This link is not complete. Open it from the mail again."
    assert not browser.find_element(By.ID, "confirm").is_displayed()
