import pytest
from litestar import Litestar

from app.server.resources import FEATURES
from tests.command_line import CommandLine

pytestmark = pytest.mark.integration


@pytest.fixture
def litestar(app: Litestar) -> CommandLine:
    return CommandLine(app)


def test_a_mail_is_shown_as_text_or_as_html(litestar: CommandLine) -> None:
    _, text = litestar("mail", "preview", "confirmations/email_change")
    _, html = litestar("mail", "preview", "confirmations/email_change", "--html")

    assert text.startswith("Subject: Confirm your new address at Keel\n\nHello Ada Lovelace,\n")
    assert "http://localhost:8000/confirm/email_change#token=" in text
    assert html.startswith("<!doctype html>")


def test_mails_are_listed_by_name(litestar: CommandLine) -> None:
    listed = litestar("mail", "list")[1].splitlines()

    assert listed == sorted(f"{text.parents[1].name}/{text.stem}" for text in FEATURES.glob("*/templates/*.txt"))
    assert "confirmations/verification" in listed
    assert [each["name"] for each in litestar.items("mail", "list")] == listed


def test_a_name_that_is_no_mail_is_one_line(litestar: CommandLine) -> None:
    code, said = litestar("mail", "preview", "users/nothing")

    assert code == 1
    assert "There is no mail 'users/nothing'. There are: " in said
    assert "registrations/registration_notice, " in said
