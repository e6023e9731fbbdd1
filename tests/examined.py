"""What `litestar doctor` finds, with the settings and the database of a test."""

import json
from pathlib import Path
from typing import Any

from litestar import Litestar
from litestar.datastructures import State
from sqlalchemy import URL

from app.lib.db.database import Database
from app.lib.settings import Settings
from app.server.access import AccessInspection
from app.server.doctor.doctor import Doctor
from tests.command_line import CommandLine

Found = dict[str, dict[str, str]]


def examined(
    settings: Settings,
    *options: str,
    default: URL,
    checkout: Path,
    url: URL | None = None,
    database: Database | None = None,
    **changes: object,
) -> tuple[int, Found]:
    """The exit code, and by its check whatever is not fine. `url` instead of the `default`; `changes` of settings."""
    doctor = Doctor(settings.model_copy(update=changes), url or default, checkout=checkout)
    state: dict[str, Any] = {"doctor": doctor}
    if database:
        state |= {"database": database, "access_inspection": AccessInspection(database)}
    app = Litestar(openapi_config=None, logging_config=None, state=State(state))
    ended = CommandLine(app).run("doctor", "--json", *options)
    found = [each for each in json.loads(ended.stdout)["items"] if each["level"] != "ok"]
    return ended.exit_code, {each["check"]: each for each in found}
