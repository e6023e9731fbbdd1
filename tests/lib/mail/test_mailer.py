from pathlib import Path

import pytest

from app.lib.mail.backends import ConsoleBackend, MemoryBackend, text_of
from app.lib.mail.folder import MailFolder
from app.lib.mail.mailer import Mailer, mail_folder, open_mailer
from app.lib.mail.smtp import SmtpBackend
from app.lib.settings import Settings
from app.server.resources import FEATURES

pytestmark = pytest.mark.unit


def mailer(settings: Settings, **changes: object) -> Mailer:
    return open_mailer(settings.model_copy(update=changes), features=FEATURES)


@pytest.mark.parametrize(
    ("app_env", "name", "kinds"),
    [
        ("test", "smtp", [SmtpBackend]),
        ("test", "console", [ConsoleBackend]),
        ("test", "file", [MailFolder]),
        ("test", "memory", [MemoryBackend]),
        ("production", "smtp", [SmtpBackend]),
        ("development", "smtp", [SmtpBackend, MailFolder]),
        ("development", "console", [ConsoleBackend, MailFolder]),
        ("development", "memory", [MemoryBackend, MailFolder]),
        ("development", "file", [MailFolder]),
    ],
)
def test_the_setting_chooses_and_development_keeps_every_mail(
    app_env: str, name: str, kinds: list[type], settings: Settings
) -> None:
    backends = mailer(settings, app_env=app_env, mail_backend=name, smtp_host="mail.test").backends

    assert [type(backend) for backend in backends] == kinds


def test_a_mail_comes_from_the_configured_sender_and_has_its_domain_in_its_id(settings: Settings) -> None:
    sending = mailer(settings, emails_from_email="keel@büro.example", emails_from_name="Büro")

    sending.send("accounts/farewell", to="ada@example.com", name="Ada", key="1")

    [backend] = sending.backends
    assert isinstance(backend, MemoryBackend)
    [message] = backend.messages
    assert str(message["From"]) == "Büro <keel@xn--bro-hoa.example>"
    assert str(message["To"]) == "Ada <ada@example.com>"
    assert message["Message-ID"].endswith("@xn--bro-hoa.example>")
    assert "Hello Ada," in text_of(message)


def test_a_mail_that_did_not_go_is_not_kept(settings: Settings, tmp_path: Path) -> None:
    away = {"app_env": "development", "mail_backend": "smtp", "smtp_host": "127.0.0.1", "smtp_port": 1}
    sending = mailer(settings, local_dir=tmp_path, **away)

    with pytest.raises(ConnectionRefusedError):
        sending.send("accounts/farewell", to="ada@example.com", key="1")

    assert list(MailFolder(tmp_path / "mail").newest_first()) == []


def test_mails_are_kept_below_the_local_directory(settings: Settings, tmp_path: Path) -> None:
    mailer(settings, local_dir=tmp_path, mail_backend="file").send("accounts/farewell", to="ada@example.com", key="1")

    [kept] = mail_folder(settings.model_copy(update={"local_dir": tmp_path})).newest_first()
    assert (tmp_path / "mail" / f"{kept.id}.eml").exists()
