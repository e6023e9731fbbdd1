import re
from datetime import UTC, datetime, timedelta
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import default

import pytest

from app.lib.mail.backends import html_of, text_of
from app.lib.mail.message import UnsafeHeaderError, address, compose, message_id
from app.lib.mail.rendering import Letter

pytestmark = pytest.mark.unit

SENDER = address("keel@example.com", "Keel")
HEADERS = {
    *("Subject", "From", "To", "Date", "Message-ID", "Auto-Submitted"),
    *("MIME-Version", "Content-Type"),
}


def written(
    *, subject: str = "Hello", email: str = "ada@example.com", name: str = "", text: str = "Hi.\n"
) -> EmailMessage:
    """A mail that was made of these, and what a mail program reads from its bytes."""
    letter = Letter(subject, text, f"<p>{text}</p>")
    message = compose(letter, sender=SENDER, to=address(email, name), message_id="<1@example.com>")
    return message_from_bytes(message.as_bytes(), policy=default)


def test_a_mail_is_text_and_html_and_says_that_a_machine_wrote_it() -> None:
    read = written(text="Grüße aus Zürich.\n")

    assert [part.get_content_type() for part in read.walk()] == ["multipart/alternative", "text/plain", "text/html"]
    assert (text_of(read), html_of(read)) == ("Grüße aus Zürich.\n", "<p>Grüße aus Zürich.\n</p>\n")
    assert set(read) == HEADERS
    assert read["Auto-Submitted"] == "auto-generated"
    assert abs(read["Date"].datetime - datetime.now(UTC)) < timedelta(minutes=1)


@pytest.mark.parametrize(
    "name",
    [
        "Ada",
        "Zoë Brontë",
        "李小龍",
        'O\'Brien, "Ada" <eve@example.com>',
        "Ünal, <eve@example.com>",
        "back\\slash",
        "a;b:c@d",
        "(comment)",
        "Bcc: eve@example.com",
    ],
)
def test_any_name_arrives_as_it_was_and_leaves_one_recipient(name: str) -> None:
    read = written(name=name, subject=f"Hello {name}")

    assert [(each.display_name, each.addr_spec) for each in read["To"].addresses] == [(name, "ada@example.com")]
    assert read["Subject"] == f"Hello {name}"
    assert set(read) == HEADERS


# An encoded word is refused in an address, too: it is valid there, and anybody can register with it.
HIDDEN = ["\r\nBcc: e@e.test", "\nX: y", "\r", "\0", "\x1b[31m", "\x85", "\u2028", "\u202e", "\ud800"]
HIDDEN += ["=?utf-8?q?=0D=0ABcc:_e@e.test?=", "=?utf-8?b?DQpCY2M6IGVAZS50ZXN0?="]


@pytest.mark.parametrize("hidden", HIDDEN, ids=ascii)
def test_what_could_forge_a_header_is_refused_wherever_it_stands(hidden: str) -> None:
    for values in ({"name": f"Ada{hidden}"}, {"subject": f"Hello{hidden}"}, {"email": f"ada{hidden}@example.com"}):
        with pytest.raises(UnsafeHeaderError):
            written(**values)


@pytest.mark.parametrize(
    "email", ["", "ada", "ada@", "a@x.test, b@x.test", "Ada <a@x.test>", "a b@x.test", "ada@localhost\n", "a@b@x.test"]
)
def test_what_is_not_one_address_is_refused(email: str) -> None:
    with pytest.raises(UnsafeHeaderError):
        address(email)


def test_an_international_domain_becomes_ascii_and_needs_nothing_of_the_server() -> None:
    read = written(email="ada@bücher.example")

    assert read["To"].addresses[0].addr_spec == "ada@xn--bcher-kva.example"


def test_a_line_of_any_length_travels_in_short_ones() -> None:
    letter = Letter("Hello", "ü" * 5000 + "\n", "<p>" + "x" * 5000 + "</p>\n")
    message = compose(letter, sender=SENDER, to=address("ada@example.com"), message_id="<1@example.com>")

    assert max(map(len, message.as_bytes().splitlines())) <= 998
    assert message.as_bytes().isascii()


def test_the_message_id_is_the_same_for_the_same_mail_only() -> None:
    first = {"mail": "accounts/farewell", "to": address("ada@example.com"), "key": "1", "domain": "example.com"}
    others = [first | {"mail": "users/notice"}, first | {"to": address("eve@example.com")}, first | {"key": "2"}]

    assert re.fullmatch(r"<[0-9a-f]{32}@example\.com>", message_id(**first))  # type: ignore[arg-type]  # a table
    assert message_id(**first) == message_id(**first)  # type: ignore[arg-type]  # a table
    assert message_id(**first) not in {message_id(**other) for other in others}  # type: ignore[arg-type]  # a table
