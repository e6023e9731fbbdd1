"""`/dev/mail` in a real browser, with mails that another process sent."""

from collections.abc import Callable
from email.message import EmailMessage
from email.utils import localtime
from pathlib import Path
from typing import Any

import pytest
from selenium.webdriver import Chrome
from selenium.webdriver.common.by import By
from sqlalchemy import URL

from app.lib.mail.mailer import mail_folder
from app.lib.settings import Settings
from app.server.resources import build_mailer
from tests.live import LiveServer, free_port, wait_until

pytestmark = pytest.mark.e2e

LINK: dict[str, Any] = {
    "key": "1",
    "path": "/confirm/verification#token=a-token",
    "requested_at": "now",
    "valid_until": "tomorrow",
    "is_known": False,
}
HOSTILE = """<base href="https://evil.test" target="_self"><p id="text">safe</p>
<script>document.getElementById("text").textContent = "hacked"</script>
<img src="x" onerror="document.getElementById('text').textContent = 'hacked'">
<a id="script" href="javascript:document.getElementById('text').textContent = 'hacked'">A script</a>
<form action="/dev/mail"><button>Send</button></form>
<a id="top" href="/dev/mail" target="_top">Away</a>
"""


@pytest.fixture(scope="module")
def sender(settings: Settings, tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """The settings of another process of the same checkout, such as the worker."""
    url = f"http://127.0.0.1:{free_port()}"
    changes = {"app_env": "development", "local_dir": tmp_path_factory.mktemp("local"), "public_url": url}
    return settings.model_copy(update=changes)


@pytest.fixture(scope="module")
def server(sender: Settings, start_shared: Callable[..., LiveServer], shared_database: URL) -> LiveServer:
    port = int(sender.public_url.rpartition(":")[2])
    return start_shared(
        LiveServer,
        shared_database,
        port=port,
        app_env="development",
        local_dir=sender.local_dir,
        public_url=sender.public_url,
    )


def test_a_mail_is_displayed_and_its_link_works(
    server: LiveServer, sender: Settings, browser: Chrome, tmp_path: Path
) -> None:
    build_mailer(sender).send("confirmations/verification", to="ada@example.com", name="Ada Lovelace", **LINK)

    browser.get(f"{server.url}/dev/mail")
    browser.save_screenshot(str(tmp_path / "list.png"))
    browser.find_element(By.LINK_TEXT, "Confirm your address at Keel").click()
    browser.switch_to.frame(browser.find_element(By.TAG_NAME, "iframe"))
    assert browser.find_element(By.TAG_NAME, "h1").text == "Confirm your address"
    assert "Hello Ada Lovelace," in browser.find_element(By.TAG_NAME, "main").text
    browser.save_screenshot(str(tmp_path / "mail.png"))
    browser.find_element(By.LINK_TEXT, "Confirm this address").click()

    wait_until(lambda: len(browser.window_handles) == 2, seconds=5, what="the link to open")
    browser.switch_to.window(browser.window_handles[1])
    page = f"{server.url}/confirm/verification"  # whose script has taken the token out of the address
    wait_until(lambda: browser.current_url == page, seconds=5, what=lambda: browser.current_url)
    assert browser.find_element(By.TAG_NAME, "h1").text == "Confirm your address"


def test_the_text_of_a_mail_is_displayed_with_links_too(server: LiveServer, sender: Settings, browser: Chrome) -> None:
    build_mailer(sender).send("confirmations/verification", to="ada@example.com", **LINK)

    browser.get(f"{server.url}/dev/mail")
    browser.find_element(By.LINK_TEXT, "Confirm your address at Keel").click()
    browser.find_element(By.LINK_TEXT, "Text").click()

    link = browser.find_element(By.CSS_SELECTOR, "pre a")
    assert link.get_attribute("href") == link.text == f"{server.url}{LINK['path']}"


def test_a_hostile_mail_runs_nothing_and_leads_nowhere(server: LiveServer, sender: Settings, browser: Chrome) -> None:
    message = EmailMessage()
    message["Subject"], message["From"], message["To"], message["Date"] = "Hi", "a@b.test", "c@d.test", localtime()
    message.set_content("Hi.\n")
    message.add_alternative(HOSTILE, subtype="html")
    mail_folder(sender).deliver(message)

    browser.get(f"{server.url}/dev/mail")
    browser.find_element(By.LINK_TEXT, "Hi").click()
    page = browser.current_url
    browser.switch_to.frame(browser.find_element(By.TAG_NAME, "iframe"))
    for clickable in ("script", "top"):
        browser.find_element(By.ID, clickable).click()
    browser.find_element(By.TAG_NAME, "button").click()

    assert browser.find_element(By.ID, "text").text == "safe"
    browser.switch_to.default_content()
    assert browser.current_url == page
    browser.get(f"{page}/html")
    assert browser.find_element(By.ID, "text").text == "safe"
