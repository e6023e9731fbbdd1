"""A mail as it travels (RFC 5322), of which no name, address or subject can forge a part."""

import hashlib
import re
from datetime import UTC, datetime
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import SMTP, SMTPUTF8

from email_validator import EmailNotValidError, validate_email

from app.lib.mail.rendering import Letter

UNSAFE = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]|=\?")
"""Line breaks and other control characters, half surrogate pairs, and the beginning of an encoded word (RFC 2047):
the standard library decodes `=?utf-8?q?=0D=0ABcc:...?=` and then writes the line break that was hidden in it."""
LOCAL_ADDRESS = re.compile(r"[A-Za-z0-9._+-]+@localhost")


class UnsafeHeaderError(ValueError):
    """A name, address or subject that could forge a header, or is none."""


def address(email: str, name: str = "") -> Address:
    """The domain becomes ASCII (IDNA); what is before the @ may need a server that knows SMTPUTF8 (RFC 6531).

    Raises UnsafeHeaderError.
    """
    _refuse_unsafe(name)
    _refuse_unsafe(email)
    if LOCAL_ADDRESS.fullmatch(email):
        return Address(name, addr_spec=email)
    try:
        found = validate_email(email, check_deliverability=False, test_environment=True)
    except EmailNotValidError as error:
        raise UnsafeHeaderError(f"not an address: {error}") from error
    return Address(name, found.local_part, found.ascii_domain)


def compose(letter: Letter, *, sender: Address, to: Address, message_id: str) -> EmailMessage:
    """Text and HTML as alternatives, seven bits wide. Raises UnsafeHeaderError."""
    _refuse_unsafe(letter.subject)
    policy = SMTP if to.addr_spec.isascii() else SMTPUTF8
    message = EmailMessage(policy=policy.clone(cte_type="7bit"))
    message["Subject"] = letter.subject
    message["From"] = sender
    message["To"] = to
    message["Date"] = datetime.now(UTC)
    message["Message-ID"] = message_id
    message["Auto-Submitted"] = "auto-generated"  # RFC 3834: no holiday notices, please
    message.set_content(letter.text)
    message.add_alternative(letter.html, subtype="html")
    return message


def message_id(*, mail: str, to: Address, key: str, domain: str) -> str:
    """The same for each delivery of one mail: whoever gets it twice can tell."""
    digest = hashlib.sha256("\n".join((mail, to.addr_spec, key)).encode()).hexdigest()
    return f"<{digest[:32]}@{domain}>"


def _refuse_unsafe(text: str) -> None:
    if UNSAFE.search(text):
        raise UnsafeHeaderError(f"this could forge a header: {text!a}")
