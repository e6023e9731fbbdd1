"""The application that `doctor` and `check` are handed, when the real one might refuse to start."""

from litestar import Litestar
from litestar.datastructures import State

from app.lib.settings import Settings
from app.server.asgi import build_app
from app.server.configuration import UnreadableSettingsError, parse_settings
from app.server.doctor.doctor import Doctor
from app.server.doctor.findings import Finding, fault, one_line
from app.server.logs import configure_logging
from app.server.postgres.embedded import EmbeddedPostgres


def create_app() -> Litestar:
    """Never served. Whatever keeps the real one from being built is among what its doctor says."""
    try:
        settings = parse_settings()
    except UnreadableSettingsError as error:
        return _without_routes(Doctor(None, None, faults=[_unreadable(sentence) for sentence in error.args]))
    configure_logging(settings)
    embedded = None if settings.postgres_url else EmbeddedPostgres(settings.local_dir / "postgres")
    url = settings.postgres_url or (embedded.url() if embedded else "")
    used = None if settings.is_production else embedded
    try:
        return build_app(settings, url, embedded=used)
    except Exception as error:  # noqa: BLE001  (whatever it is, the operator hears of it)
        said = f"It cannot be built: {type(error).__name__}: {one_line(error)}."
        wrong = fault("application", said, "Mend what it names: `litestar run` would end the same way.")
        return _without_routes(Doctor(settings, url, embedded=used, faults=[wrong]), settings)


def _without_routes(doctor: Doctor, settings: Settings | None = None) -> Litestar:
    return Litestar(openapi_config=None, logging_config=None, state=State({"doctor": doctor, "settings": settings}))


def _unreadable(sentence: str) -> Finding:
    what, _, mend = sentence.partition(": ")
    return fault(
        "settings", f"{what} cannot be used.", f"{mend[0].upper()}{mend[1:].rstrip('.')}." if mend else "Correct it."
    )
