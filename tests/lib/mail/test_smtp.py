import smtplib
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from app.lib.mail.message import address, compose
from app.lib.mail.rendering import Letter
from app.lib.mail.smtp import SmtpBackend
from app.lib.settings import Settings
from tests.smtp_server import HOST, SmtpServer

pytestmark = pytest.mark.e2e

Connect = Callable[..., SmtpBackend]
LETTER = Letter("Hello", "Good morning.\n", "<p>Good morning.</p>\n")


@pytest.fixture
def start_smtp(tmp_path: Path) -> Iterator[Callable[..., SmtpServer]]:
    servers: list[SmtpServer] = []

    def start(**options: Any) -> SmtpServer:
        servers.append(SmtpServer(tmp_path, **options))
        servers[-1].start()
        return servers[-1]

    yield start
    for server in servers:
        server.stop()


@pytest.fixture
def backend(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Connect:
    """The back end for a server, which believes the server's authority as an operator would make it."""

    def connect(server: SmtpServer, **changes: object) -> SmtpBackend:
        monkeypatch.setenv("SSL_CERT_FILE", str(server.authorities))
        return SmtpBackend(settings.model_copy(update=server.settings(**changes)))

    return connect


def send(backend: SmtpBackend, to: str = "ada@example.com") -> None:
    sender = address("keel@example.com", "Keel")
    backend.deliver(compose(LETTER, sender=sender, to=address(to, "Ada"), message_id="<1@example.com>"))


def test_a_mail_arrives_over_starttls_from_whom_and_for_whom_it_is(
    start_smtp: Callable[..., SmtpServer], backend: Connect
) -> None:
    server = start_smtp()

    send(backend(server))

    [received] = server.received
    assert (received.sender, received.recipients) == ("keel@example.com", ["ada@example.com"])
    assert (received.tls_version, received.is_authenticated) == ("TLSv1.3", True)
    assert received.message["Subject"] == "Hello"


def test_a_mail_arrives_over_implicit_tls(start_smtp: Callable[..., SmtpServer], backend: Connect) -> None:
    server = start_smtp(security="tls")

    send(backend(server, smtp_security="tls"))

    [received] = server.received
    assert (received.tls_version, received.is_authenticated) == ("TLSv1.3", True)


def test_a_mail_arrives_in_clear_where_the_settings_say_so(
    start_smtp: Callable[..., SmtpServer], backend: Connect
) -> None:
    server = start_smtp(security="none")

    send(backend(server, smtp_security="none", smtp_user=""))

    [received] = server.received
    assert (received.tls_version, received.is_authenticated) == (None, False)


def test_an_address_that_is_not_ascii_needs_no_other_spelling(
    start_smtp: Callable[..., SmtpServer], backend: Connect
) -> None:
    server = start_smtp()

    send(backend(server), to="jürgen@bücher.example")

    [received] = server.received
    assert received.recipients == ["jürgen@xn--bcher-kva.example"]
    assert "To: Ada <jürgen@xn--bcher-kva.example>".encode() in received.source


def test_a_server_that_cannot_take_such_an_address_gets_no_other(
    start_smtp: Callable[..., SmtpServer], backend: Connect
) -> None:
    server = start_smtp(knows_unicode=False)

    with pytest.raises(smtplib.SMTPNotSupportedError):
        send(backend(server), to="jürgen@bücher.example")
    send(backend(server), to="ada@bücher.example")

    assert [received.recipients for received in server.received] == [["ada@xn--bcher-kva.example"]]


def test_a_refusal_is_raised_and_the_next_attempt_succeeds(
    start_smtp: Callable[..., SmtpServer], backend: Connect
) -> None:
    server = start_smtp()
    server.refusals = ["451 4.7.1 Try again later"]

    with pytest.raises(smtplib.SMTPRecipientsRefused):
        send(backend(server))
    send(backend(server))

    assert len(server.received) == 1


def test_a_permanent_refusal_is_raised_as_well(start_smtp: Callable[..., SmtpServer], backend: Connect) -> None:
    server = start_smtp()
    server.refusals = ["550 5.1.1 No such mailbox"]

    with pytest.raises(smtplib.SMTPRecipientsRefused):
        send(backend(server))


@pytest.mark.parametrize("security", ["starttls", "tls"])
def test_a_wrong_password_is_raised_and_is_not_in_the_error(
    security: str, start_smtp: Callable[..., SmtpServer], backend: Connect
) -> None:
    server = start_smtp(security=security)

    with pytest.raises(smtplib.SMTPAuthenticationError) as refused:
        send(backend(server, smtp_security=security, smtp_password="sesame"))

    assert "sesame" not in str(refused.value)
    assert server.received == []


@pytest.mark.parametrize("security", ["starttls", "tls"])
def test_a_certificate_for_another_name_is_refused(
    security: str, start_smtp: Callable[..., SmtpServer], backend: Connect
) -> None:
    server = start_smtp(security=security, certified_name="mail.example.org")

    with pytest.raises(ssl.SSLCertVerificationError, match="not valid for"):
        send(backend(server, smtp_security=security))


@pytest.mark.parametrize("security", ["starttls", "tls"])
def test_a_certificate_of_an_unknown_authority_is_refused(
    security: str, start_smtp: Callable[..., SmtpServer], settings: Settings
) -> None:
    server = start_smtp(security=security)

    with pytest.raises(ssl.SSLCertVerificationError, match="local issuer"):
        send(SmtpBackend(settings.model_copy(update=server.settings(smtp_security=security))))


def test_a_server_without_starttls_gets_neither_mail_nor_password(
    start_smtp: Callable[..., SmtpServer], backend: Connect
) -> None:
    server = start_smtp(security="none")

    with pytest.raises(smtplib.SMTPNotSupportedError, match="STARTTLS"):
        send(backend(server))

    assert server.received == []


@pytest.mark.parametrize("security", ["starttls", "tls"])
def test_a_server_that_never_answers_is_given_up(
    security: str, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.lib.mail.smtp.PATIENCE", 0.3)
    with socket.create_server((HOST, 0)) as silent:
        host = {"smtp_host": HOST, "smtp_port": silent.getsockname()[1], "smtp_security": security}
        began = time.monotonic()

        with pytest.raises(OSError, match="timed out"):
            send(SmtpBackend(settings.model_copy(update=host)))

    assert time.monotonic() - began < 2


def test_a_server_that_takes_its_time_for_each_answer_is_given_up(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.lib.mail.smtp.PATIENCE", 0.5)
    with socket.create_server((HOST, 0)) as slow:
        threading.Thread(target=answer_slowly, args=[slow], daemon=True).start()
        host = {"smtp_host": HOST, "smtp_port": slow.getsockname()[1], "smtp_security": "none"}

        with pytest.raises(smtplib.SMTPServerDisconnected, match="timed out"):
            send(SmtpBackend(settings.model_copy(update=host)))


def answer_slowly(server: socket.socket) -> None:
    """Each answer comes within the patience, all of them together do not."""
    connection, _ = server.accept()
    with connection, connection.makefile("rwb", buffering=0) as stream:
        for answer in (b"220 slow\r\n", *[b"250 slow\r\n"] * 5):
            time.sleep(0.2)
            try:
                stream.write(answer)
            except OSError:
                return


def test_a_mail_that_was_accepted_is_sent_however_the_server_says_goodbye(
    start_smtp: Callable[..., SmtpServer], backend: Connect
) -> None:
    server = start_smtp()
    server.farewell = "421 Too busy to say goodbye"

    send(backend(server))

    assert len(server.received) == 1
