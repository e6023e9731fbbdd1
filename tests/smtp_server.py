"""A real SMTP server for tests: TLS with a certificate of the test's own, and AUTH."""

import ssl
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import default
from pathlib import Path
from typing import Any, NamedTuple

import trustme
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session

from tests.live import free_port

HOST = "127.0.0.1"
USER, PASSWORD = "keel", "the password at the mail server"


class Received(NamedTuple):
    sender: str
    recipients: list[str]
    source: bytes
    tls_version: str | None
    is_authenticated: bool

    @property
    def message(self) -> EmailMessage:
        return message_from_bytes(self.source, policy=default)


class SmtpServer:
    """On a free port of loopback, for one security: `starttls`, `tls` or `none`; the first two want AUTH.

    `refusals` are the answers to the next recipients, such as `451 try again later`.
    """

    def __init__(
        self,
        directory: Path,
        *,
        security: str = "starttls",
        certified_name: str = HOST,
        knows_unicode: bool = True,
    ) -> None:
        self.port = free_port()
        self.received: list[Received] = []
        self.refusals: list[str] = []
        self.farewell = "221 Bye"
        self.authorities = directory / "authorities.pem"
        authority = trustme.CA()
        authority.cert_pem.write_to_path(str(self.authorities))
        self._tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        authority.issue_cert(certified_name).configure_cert(self._tls)
        options = self._options(security)
        self._controller = Controller(self, HOST, self.port, enable_SMTPUTF8=knows_unicode, **options)

    def _options(self, security: str) -> dict[str, Any]:
        if security == "none":
            return {}
        login = {"authenticator": self._authenticate}
        if security == "tls":  # of which aiosmtpd does not know that it is TLS
            return login | {"ssl_context": self._tls, "auth_require_tls": False}
        return login | {"tls_context": self._tls, "require_starttls": True, "auth_required": True}

    def start(self) -> None:
        self._controller.start()

    def stop(self) -> None:
        self._controller.stop()

    def settings(self, **other: object) -> dict[str, object]:
        """What the application needs to send through this server, and to believe its certificate."""
        return {
            "mail_backend": "smtp",
            "smtp_host": HOST,
            "smtp_port": self.port,
            "smtp_user": USER,
            "smtp_password": PASSWORD,
            **other,
        }

    async def handle_RCPT(  # noqa: N802  (aiosmtpd's name)
        self, _server: SMTP, _session: Session, envelope: Envelope, address: str, _options: list[str]
    ) -> str:
        if self.refusals:
            return self.refusals.pop(0)
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:  # noqa: N802  (as above)
        assert isinstance(envelope.content, bytes)
        tls = server.transport.get_extra_info("ssl_object") if server.transport else None
        self.received.append(
            Received(
                sender=str(envelope.mail_from),
                recipients=envelope.rcpt_tos,
                source=envelope.content,
                tls_version=tls.version() if tls else None,
                is_authenticated=bool(session.authenticated),
            )
        )
        return "250 OK"

    async def handle_QUIT(self, _server: SMTP, _session: Session, _envelope: Envelope) -> str:  # noqa: N802  (as above)
        return self.farewell

    @staticmethod
    def _authenticate(_server: SMTP, _session: Session, _envelope: Envelope, _mechanism: str, given: Any) -> AuthResult:
        is_right = given == LoginPassword(USER.encode(), PASSWORD.encode())
        return AuthResult(success=is_right, handled=False)
