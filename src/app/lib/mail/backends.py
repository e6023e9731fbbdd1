"""Where a mail goes. Beside these two: to a server (`lib/mail/smtp.py`), into a folder (`lib/mail/folder.py`)."""

import sys
from email.message import EmailMessage
from typing import Protocol


class Backend(Protocol):
    def deliver(self, message: EmailMessage) -> None:
        """Raises whatever kept the mail from going: the job that sends it is then repeated."""


class ConsoleBackend:
    """Prints who gets it, the subject, and the text."""

    def deliver(self, message: EmailMessage) -> None:
        shown = f"To: {message['To']}\nSubject: {message['Subject']}\n\n{text_of(message)}"
        sys.stdout.write("".join(char for char in shown if char.isprintable() or char == "\n"))
        sys.stdout.flush()


class MemoryBackend:
    """Keeps mails for tests to look at."""

    def __init__(self) -> None:
        self.messages: list[EmailMessage] = []

    def deliver(self, message: EmailMessage) -> None:
        self.messages.append(message)


def text_of(message: EmailMessage) -> str:
    return _part(message, "plain")


def html_of(message: EmailMessage) -> str:
    return _part(message, "html")


def _part(message: EmailMessage, subtype: str) -> str:
    """Empty when there is none: a folder may hold mails that are not ours."""
    part = message.get_body((subtype,))
    return str(part.get_content()).replace("\r\n", "\n") if part else ""
