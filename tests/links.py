"""The links in mails that were sent."""

import re
from collections.abc import Iterable
from email.message import EmailMessage

from app.lib.mail.backends import text_of


def token_in(message: EmailMessage) -> str:
    """What stands behind `#token=` in the one link of the mail's text."""
    [token] = re.findall(r"/confirm/\w+#token=(\S+)", text_of(message))
    return str(token)


def about(subject: str, mailbox: Iterable[EmailMessage]) -> list[EmailMessage]:
    """Those with these words in their subjects."""
    return [message for message in mailbox if subject in message["Subject"]]
