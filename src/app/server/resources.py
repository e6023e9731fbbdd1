"""What jobs may ask for by type, beside the session and services."""

from pathlib import Path
from typing import Any

from app import domain
from app.lib.mail.mailer import Mailer, open_mailer
from app.lib.settings import Settings
from app.lib.storage import Storage

FEATURES = Path(domain.__path__[0])


def job_resources(settings: Settings) -> dict[type[Any], Any]:
    return {Settings: settings, Mailer: build_mailer(settings), Storage: Storage.of(settings)}


def build_mailer(settings: Settings) -> Mailer:
    return open_mailer(settings, features=FEATURES)
