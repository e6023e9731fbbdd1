"""Mail through a server, over TLS (RFC 8314) unless the settings say `none`."""

import contextlib
import smtplib
import ssl
import time
from collections.abc import Iterator
from email.message import EmailMessage
from typing import Any
from urllib.parse import urlsplit

from app.lib.settings import Settings

PATIENCE = 20.0
"""Seconds for one mail, from connecting to the server's receipt: much less than the job has that sends it."""


class SmtpBackend:
    """One connection for each mail. Certificates are verified, against those of the system or of SSL_CERT_FILE.

    Everything that goes wrong is raised, as smtplib or ssl names it: no connection, no STARTTLS, a wrong
    certificate or password, and refusals of every kind, also those that the server calls permanent.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._tls = ssl.create_default_context()
        self._own_name = urlsplit(settings.public_url).hostname or "localhost"

    def deliver(self, message: EmailMessage) -> None:
        sender, recipient = (message[name].addresses[0].addr_spec for name in ("From", "To"))
        with self._signed_in() as server:
            server.send_message(message, from_addr=sender, to_addrs=[recipient])

    def check(self) -> None:
        """All that comes before a mail, and none."""
        with self._signed_in() as server:
            server.noop()

    @contextlib.contextmanager
    def _signed_in(self) -> Iterator[smtplib.SMTP]:
        with contextlib.closing(self._connect()) as server:
            if self._settings.smtp_security == "starttls":
                server.starttls(context=self._tls)
            if self._settings.smtp_user:
                server.login(self._settings.smtp_user, self._settings.smtp_password)
            yield server
            with contextlib.suppress(OSError):  # it has the mail, however it says goodbye
                server.quit()

    def _connect(self) -> smtplib.SMTP:
        host, port = self._settings.smtp_host, self._settings.smtp_port
        if self._settings.smtp_security == "tls":
            return _PunctualOverTls(host, port, self._own_name, context=self._tls)
        return _Punctual(host, port, self._own_name)


class _Punctual(smtplib.SMTP):
    """smtplib's time-out begins anew with each answer, so a slow server could take minutes. This one does not."""

    def __init__(self, host: str, port: int, own_name: str, **options: Any) -> None:
        self._deadline = time.monotonic() + PATIENCE
        super().__init__(host, port, own_name, timeout=PATIENCE, **options)

    def getreply(self) -> tuple[int, bytes]:
        assert self.sock is not None
        self.sock.settimeout(max(self._deadline - time.monotonic(), 0.001))
        return super().getreply()


class _PunctualOverTls(_Punctual, smtplib.SMTP_SSL):
    pass
