"""The settings, or what is wrong with them in plain lines."""

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from app.lib.settings import Settings, UnsafeSettingsError, get_settings


class UnreadableSettingsError(Exception):
    """`args` hold one plain sentence per fault."""


def read_settings() -> Settings:
    """Raises SystemExit, with one plain line per fault, when they cannot be read or are unsafe."""
    try:
        settings = parse_settings()
        settings.refuse_unsafe_production()
    except (UnreadableSettingsError, UnsafeSettingsError) as error:
        raise SystemExit("\n".join(error.args)) from error
    return settings


def parse_settings() -> Settings:
    """As they are, safe or not. Raises UnreadableSettingsError."""
    try:
        return get_settings()
    except ValidationError as error:
        raise UnreadableSettingsError(*map(_fault, error.errors())) from error
    except UnicodeDecodeError as error:
        raise UnreadableSettingsError(".env is not text in UTF-8: save it as such.") from error
    except OSError as error:
        reason = f"{error.filename}: {(error.strerror or str(error)).lower()}"
        raise UnreadableSettingsError(f"{reason}: give it to the account that runs Keel.") from error


def _fault(error: ErrorDetails) -> str:
    name = str(error["loc"][0]).upper() if error["loc"] else "Settings"
    return f"{name}: {error['msg'].removeprefix('Value error, ')}"
