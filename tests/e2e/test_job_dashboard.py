"""SAQ's dashboard in a real browser: nothing is shown before an administrator has signed in."""

from collections.abc import Callable
from pathlib import Path

import pytest
from selenium.webdriver import Chrome
from selenium.webdriver.common.by import By
from sqlalchemy import URL, NullPool, create_engine, text

from tests.live import PASSWORD, LiveServer, LiveWorker, wait_until

pytestmark = pytest.mark.e2e

MAKE_DEAD = """
    UPDATE saq_jobs SET status = 'failed', job = convert_to((convert_from(job, 'UTF8')::jsonb
        || '{"status": "failed", "error": "the mail server is away", "attempts": 5}')::text, 'UTF8')
"""


@pytest.fixture(scope="module")
def running(start_shared: Callable[..., LiveServer], shared_database: URL) -> LiveServer:
    return start_shared(LiveServer, shared_database)


@pytest.fixture
def server(running: LiveServer, shared_database: URL) -> LiveServer:
    """With one dead job: the mail to somebody new."""
    execute(shared_database, "DELETE FROM saq_jobs")
    running.sign_up()
    execute(shared_database, MAKE_DEAD)
    return running


def execute(url: URL, statement: str) -> None:
    with create_engine(url, poolclass=NullPool).begin() as connection:
        connection.execute(text(statement))


def statuses(url: URL) -> list[str]:
    with create_engine(url, poolclass=NullPool).connect() as connection:
        return list(connection.scalars(text("SELECT status FROM saq_jobs WHERE key NOT LIKE 'cron:%'")))


def sign_in(browser: Chrome, email: str) -> None:
    for name, value in (("email", email), ("password", PASSWORD)):
        field = browser.find_element(By.NAME, name)
        field.clear()
        field.send_keys(value)
    browser.find_element(By.CSS_SELECTOR, "#sign-in button").click()


def shown(browser: Chrome) -> str:
    return browser.find_element(By.TAG_NAME, "body").text


def test_an_administrator_finds_a_dead_job_and_runs_it_again(
    server: LiveServer, browser: Chrome, shared_database: URL, start_worker: Callable[..., LiveWorker], tmp_path: Path
) -> None:
    email = server.sign_up()
    execute(shared_database, f"UPDATE users SET is_superuser = true WHERE email = '{email}'")
    browser.get(f"{server.api}/jobs/dashboard/queues/default")
    assert "send_confirmation" not in shown(browser)

    sign_in(browser, email)
    wait_until(lambda: "confirmations.send_confirmation" in shown(browser) and "failed" in shown(browser), seconds=10)
    browser.save_screenshot(str(tmp_path / "dashboard.png"))
    browser.find_element(By.XPATH, "//tr[contains(., 'failed')]/a").click()
    wait_until(lambda: "the mail server is away" in shown(browser), seconds=10)

    browser.find_element(By.XPATH, "//a[text()='Retry']").click()
    start_worker(shared_database)
    wait_until(lambda: set(statuses(shared_database)) == {"complete"}, seconds=20)


def test_somebody_else_is_told_that_they_may_not(server: LiveServer, browser: Chrome) -> None:
    browser.get(f"{server.api}/jobs/dashboard/")

    sign_in(browser, "nobody@example.com")
    wait_until(lambda: "The e-mail address or the password is wrong." in shown(browser), seconds=10)
    sign_in(browser, server.sign_up())
    wait_until(lambda: "You are not allowed to do this." in shown(browser), seconds=10)
    assert "send_confirmation" not in shown(browser)


def test_the_page_runs_no_script_but_its_own(server: LiveServer, browser: Chrome) -> None:
    browser.get(f"{server.api}/jobs/dashboard/")

    assert browser.find_element(By.ID, "sign-in").is_displayed()
    logged = browser.get_log("browser")  # type: ignore[no-untyped-call]  # selenium gives no types for it
    assert [line for line in logged if "Content Security Policy" in line["message"]] == []
