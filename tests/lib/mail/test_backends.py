from email.message import EmailMessage

import pytest

from app.lib.mail.backends import ConsoleBackend, html_of, text_of

pytestmark = pytest.mark.unit


def test_the_console_shows_who_gets_it_the_subject_and_the_text(capsys: pytest.CaptureFixture[str]) -> None:
    message = EmailMessage()
    message["To"], message["Subject"] = "Ada <ada@example.com>", "Grüße"
    message.set_content("Zürich,\n\x1b[31mhttp://keel.test/a?b=c\n")
    message.add_alternative("<p>HTML</p>", subtype="html")

    ConsoleBackend().deliver(message)

    shown = "To: Ada <ada@example.com>\nSubject: Grüße\n\nZürich,\n[31mhttp://keel.test/a?b=c\n"
    assert capsys.readouterr().out == shown


def test_a_part_that_is_not_there_is_empty() -> None:
    message = EmailMessage()
    message.set_content("Only text.\n")

    assert (text_of(message), html_of(message)) == ("Only text.\n", "")
