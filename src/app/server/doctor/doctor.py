"""Is everything there that the application needs? For each thing one line, and the mend where it is not."""

import contextlib
import functools
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from litestar import Litestar
from sqlalchemy import URL
from sqlalchemy.exc import DBAPIError

from app.lib.settings import CHECKOUT, Settings
from app.server.doctor.database import Load, database_findings
from app.server.doctor.deployment import deployment_findings, production_demands, route_findings
from app.server.doctor.findings import Check, Finding, examine, fault, fine, warning
from app.server.doctor.machine import (
    disk_findings,
    env_file_findings,
    python_findings,
    secret_findings,
    thread_findings,
)
from app.server.doctor.services import mail_findings, redis_findings, replica_findings, storage_findings
from app.server.postgres.account import PostgresError
from app.server.postgres.embedded import EmbeddedPostgres
from app.server.serving.processors import usable_processors


class Doctor:
    """Found by the command line in `app.state.doctor`.

    `settings` are None when they cannot be read, and `faults` say why; or why there is no application.
    """

    def __init__(
        self,
        settings: Settings | None,
        url: URL | str | None,
        *,
        embedded: EmbeddedPostgres | None = None,
        faults: Sequence[Finding] = (),
        checkout: Path = CHECKOUT,
    ) -> None:
        self._settings = settings
        self._url = url
        self._embedded = embedded
        self._faults = faults
        self._checkout = checkout

    def check(self, *, deploy: bool) -> Iterator[Finding]:
        """What the settings and the files tell; nobody else is asked. `deploy`: as production would see them."""
        settings = self._settings
        is_production = deploy or (settings is not None and settings.is_production)
        yield from self._faults
        yield from env_file_findings(self._checkout, is_production=is_production)
        if settings is None:
            return
        yield fine("routes", "Every one says who may call it.") if not self._faults else _nothing_known()
        if deploy:
            yield from deployment_findings(settings)
        else:
            yield from self._demands(settings)
            yield from secret_findings(settings)

    def examine(self, app: Litestar, *, processes: int | None, workers: int) -> Iterator[Finding]:
        """Ask everything that the application needs, in about five seconds at most. `processes`: None stands for those
        that `serve` would start here."""
        settings = self._settings
        yield from python_findings()
        yield from self._faults
        is_production = settings is not None and settings.is_production
        yield from env_file_findings(self._checkout, is_production=is_production)
        if settings is None:
            return
        load = Load(processes or (usable_processors() if is_production else 1), workers)
        yield from self._demands(settings)
        yield from secret_findings(settings)
        yield from thread_findings(settings)
        yield from disk_findings(settings)
        if load.processes > 1 and settings.redis_dsn is None:
            said = (
                f"{load.processes} processes, and no REDIS_URL: each counts rate limits and keeps a cache for itself."
            )
            yield warning("redis", said, "Set REDIS_URL.")
        with contextlib.ExitStack() as held:
            try:
                if self._embedded:
                    held.enter_context(self._embedded)
            except PostgresError as error:
                yield fault("database", error.message, "See the log beside its data, and the disk that it is on.")
                return
            yield from examine(self._checks(app, settings, load))

    def _checks(self, app: Litestar, settings: Settings, load: Load) -> dict[str, Check]:
        database = app.state.get("database")
        checks: dict[str, Check] = {
            "redis": functools.partial(redis_findings, settings),
            "mail": functools.partial(mail_findings, settings),
            "storage": functools.partial(storage_findings, settings, database),
            "replicas": functools.partial(replica_findings, settings),
        }
        if self._url is not None:
            checks = {"database": functools.partial(database_findings, settings, self._url, load), **checks}
        if database:
            checks["access"] = functools.partial(_access, app)
        return checks

    def _demands(self, settings: Settings) -> Iterator[Finding]:
        demands = list(production_demands(settings))
        yield from demands or [fine("settings", f"They can be read; APP_ENV is {settings.app_env}.")]


def _access(app: Litestar) -> Iterator[Finding]:
    inspection: Any = app.state.access_inspection
    try:
        problems = inspection.gaps(app)
    except DBAPIError:
        return  # of which the database's own line tells
    yield from route_findings(problems)
    if not problems:
        yield fine("access", "Every permission is asked for by a route, and given to somebody.")


def _nothing_known() -> Finding:
    return warning("routes", "They could not be looked at.", "Mend the fault above first.")
