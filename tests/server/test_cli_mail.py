import os
import subprocess
import sys
from pathlib import Path

import pytest

from app.server.resources import FEATURES

pytestmark = pytest.mark.e2e

LITESTAR = Path(sys.executable).with_name("litestar")


def mail(*arguments: str, tmp_path: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "APP_ENV": "test", "LOCAL_DIR": str(tmp_path), "PUBLIC_URL": "https://keel.test/api"}
    return subprocess.run([LITESTAR, "mail", *arguments], env=environment, capture_output=True, text=True, check=False)


def test_a_mail_is_shown_as_text_or_as_html(tmp_path: Path) -> None:
    text = mail("preview", "confirmations/email_change", tmp_path=tmp_path).stdout
    html = mail("preview", "confirmations/email_change", "--html", tmp_path=tmp_path).stdout

    assert text.startswith("Subject: Confirm your new address at Keel\n\nHello Ada Lovelace,\n")
    assert "https://keel.test/api/confirm/email_change#token=" in text
    assert html.startswith("<!doctype html>")


def test_mails_are_listed_by_name(tmp_path: Path) -> None:
    listed = mail("list", tmp_path=tmp_path).stdout.splitlines()

    assert listed == sorted(f"{text.parents[1].name}/{text.stem}" for text in FEATURES.glob("*/templates/*.txt"))
    assert "confirmations/verification" in listed


def test_a_name_that_is_no_mail_is_one_line(tmp_path: Path) -> None:
    ended = mail("preview", "users/nothing", tmp_path=tmp_path)

    assert (ended.returncode, ended.stdout) == (1, "")
    said = " ".join(ended.stderr.replace("│", " ").split())
    assert "There is no mail 'users/nothing'. There are: " in said
    assert "registrations/registration_notice, " in said
