"""Mail, as jobs send it."""

from collections.abc import Sequence
from pathlib import Path

from app.lib.mail.backends import Backend, ConsoleBackend, MemoryBackend
from app.lib.mail.folder import MailFolder
from app.lib.mail.message import address, compose, message_id
from app.lib.mail.rendering import MailTemplates
from app.lib.mail.smtp import SmtpBackend
from app.lib.settings import Settings


class Mailer:
    """Renders a mail and hands it to each back end in turn. A job asks for it by its type."""

    def __init__(self, templates: MailTemplates, backends: Sequence[Backend], *, sender: str, sender_name: str) -> None:
        self.templates = templates
        self.backends = backends
        self._sender = address(sender, sender_name)

    def send(self, mail: str, *, to: str, key: str, name: str = "", **values: object) -> None:
        """Send `mail`, such as `accounts/farewell`, to one address.

        `key` is what tells this mail from others of its kind to the same address, and does not change when the job
        is repeated: it becomes part of the Message-ID. `name` is the recipient's. Raises UnsafeHeaderError, and
        whatever the back end raises.
        """
        recipient = address(to, name)
        letter = self.templates.render(mail, name=name, **values)
        identity = message_id(mail=mail, to=recipient, key=key, domain=self._sender.domain)
        message = compose(letter, sender=self._sender, to=recipient, message_id=identity)
        for backend in self.backends:
            backend.deliver(message)


def open_mailer(settings: Settings, *, features: Path) -> Mailer:
    """Connects to nothing. `features` is the folder of the features, where their templates are."""
    templates = MailTemplates(
        features,
        public_url=settings.public_url,
        values={"project_name": settings.project_name, "api_prefix": settings.api_v1_prefix},
    )
    return Mailer(
        templates, _backends(settings), sender=settings.emails_from_email, sender_name=settings.emails_from_name
    )


def mail_folder(settings: Settings) -> MailFolder:
    return MailFolder(settings.local_dir / "mail")


def _backends(settings: Settings) -> list[Backend]:
    """In development every mail is kept as well, once it is sent."""
    kept: list[Backend] = [mail_folder(settings)] if settings.app_env == "development" else []
    match settings.mail_backend:
        case "smtp":
            return [SmtpBackend(settings), *kept]
        case "console":
            return [ConsoleBackend(), *kept]
        case "memory":
            return [MemoryBackend(), *kept]
        case "file":
            return [mail_folder(settings)]
