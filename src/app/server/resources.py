"""What jobs may ask for by type, beside the session and services."""

from typing import Any

from app.lib.settings import Settings


def job_resources(settings: Settings) -> dict[type[Any], Any]:
    return {Settings: settings}
