"""A real browser for tests: Chromium without a window."""

import shutil
from pathlib import Path

import pytest
from selenium.webdriver import Chrome, ChromeOptions, ChromeService

PROGRAMS = ("chromium", "chromium-browser", "google-chrome")
MISSING = "no chromium and chromedriver on this machine: install them, for example with apt-get install chromium-driver"
OPTIONS = (
    *("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--window-size=1200,900"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync", "--no-proxy-server"),
)


def open_browser(profile: Path) -> Chrome:
    """With a new profile. Skips the test, with a line that says how to get one, where there is no browser."""
    program, driver = next(filter(None, map(shutil.which, PROGRAMS)), None), shutil.which("chromedriver")
    if program is None or driver is None:
        pytest.skip(MISSING)
    options = ChromeOptions()
    options.binary_location = program
    for option in (*OPTIONS, f"--user-data-dir={profile}"):
        options.add_argument(option)
    return Chrome(options=options, service=ChromeService(executable_path=driver))
