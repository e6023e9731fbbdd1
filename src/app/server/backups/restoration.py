"""Putting a backup back: in one transaction, so that whatever goes wrong, what was there stays."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple
from uuid import UUID

from sqlalchemy import Connection, Engine, NullPool, create_engine, text
from sqlalchemy.exc import DBAPIError, OperationalError, ProgrammingError

from app.lib.storage import Storage
from app.server.backups.archives import load, refuse_differences
from app.server.backups.audit_trail import record_restoration
from app.server.backups.backups import current_schema, major_of, where
from app.server.backups.files import unseal
from app.server.backups.programs import BackupError
from app.server.backups.restored_state import Aftermath, Wishes, missing_blobs, put_right, remember
from app.server.backups.table_sums import qualified
from app.server.commands.progress import Report
from app.server.revisions import Revisions, Tables

MAINTENANCE = "postgres"
"""The database from which another one is made."""
LOCK_SECONDS = 10
LOCK_ATTEMPTS = 6
LOCK_PAUSE = 0.1
"""Running requests end within that, and a deadlock with one of them is tried again."""
UNKNOWN = (
    "The end of the transaction was cut off: whether the backup is restored is not known. Look whether its rows are "
    "there; to restore it again does no harm."
)
ALONE = 0x4B45454C
"""The advisory lock that two restorations of a database compete for."""

_OBJECTS = text(
    """
    SELECT kind, name FROM (
        SELECT CASE relkind WHEN 'v' THEN 'VIEW' WHEN 'm' THEN 'MATERIALIZED VIEW' WHEN 'S' THEN 'SEQUENCE'
                WHEN 'f' THEN 'FOREIGN TABLE' ELSE 'TABLE' END AS kind,
            oid, 'pg_class'::regclass AS catalog, oid::regclass::text AS name
        FROM pg_class WHERE relkind IN ('r', 'p', 'v', 'm', 'S', 'f') AND relnamespace = {schema}
        UNION ALL
        SELECT 'ROUTINE', oid, 'pg_proc'::regclass, oid::regprocedure::text FROM pg_proc WHERE pronamespace = {schema}
        UNION ALL
        SELECT CASE typtype WHEN 'd' THEN 'DOMAIN' ELSE 'TYPE' END, oid, 'pg_type'::regclass, oid::regtype::text
        FROM pg_type WHERE typnamespace = {schema} AND typtype IN ('d', 'e', 'r')
    ) AS object
    WHERE NOT EXISTS (
        SELECT FROM pg_depend
        WHERE classid = catalog AND objid = object.oid
            AND (deptype = 'e' OR (deptype IN ('a', 'i') AND kind = 'SEQUENCE'))
    )
""".replace("{schema}", "(SELECT oid FROM pg_namespace WHERE nspname = :db_schema)")
)
"""What somebody has made in the schema: nothing of extensions, and no sequence that goes with its column."""
ORDER = ("VIEW", "MATERIALIZED VIEW", "FOREIGN TABLE", "TABLE", "SEQUENCE", "ROUTINE", "DOMAIN", "TYPE")


class Replaced(NamedTuple):
    """What the database has now."""

    objects: list[tuple[str, str]]
    users: int | None

    def __str__(self) -> str:
        tables = sum(kind == "TABLE" for kind, _ in self.objects)
        accounts = "" if self.users is None else f" and {self.users} accounts"
        return f"{tables} tables{accounts}" if tables else f"{len(self.objects)} objects"


class Restoration:
    """One backup and the database it is to go into. Every method raises BackupError."""

    def __init__(self, engine: Engine, path: Path, *, report: Report) -> None:
        self._engine = engine
        self._path = path
        self._report = report
        self._may_be_done = False
        self.manifest = unseal(path, report)
        self._refuse_unknown_revision()

    @contextmanager
    def database(self) -> Iterator[None]:
        """There is one inside; if it had to be made and certainly nothing came of it, it is gone again."""
        name = str(self._engine.url.database)
        maintenance = create_engine(self._engine.url.set(database=MAINTENANCE), poolclass=NullPool)
        if not self._is_missing():
            yield
            return
        with maintenance.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            quoted = qualified(connection, name)
            try:
                connection.execute(text(f"CREATE DATABASE {quoted} ENCODING 'UTF8'"))
            except ProgrammingError as error:
                account = self._engine.url.username
                raise BackupError(
                    f"There is no database {name}, and {account} may not make it: "
                    f"run `CREATE DATABASE {quoted} OWNER {account}` as a superuser."
                ) from error
            try:
                yield
            except BaseException:
                if not self._may_be_done:
                    connection.execute(text(f"DROP DATABASE {quoted} WITH (FORCE)"))
                raise

    def replaced(self) -> Replaced | None:
        """What would be lost. None: the database is empty."""
        with self._engine.connect() as connection:
            return self._look(connection)

    def run(self, wishes: Wishes) -> Aftermath:
        """All of it, or nothing of it."""
        with self._engine.connect() as connection:
            self._look(connection)
            self._refuse_impossible(connection, with_privileges=wishes.with_privileges)
        with self._locked() as connection:
            found = self._look(connection)
            if found and not wishes.is_replacing:
                raise BackupError(f"{where(self._engine)} has {found} in it: say --clean to replace them.")
            memory = remember(connection, self.manifest)
            _drop(connection, found)
            load(connection, self._path, self.manifest, with_privileges=wishes.with_privileges, report=self._report)
            refuse_differences(connection, self.manifest, self._report)
            aftermath = put_right(connection, self.manifest, memory, wishes)
            record_restoration(connection, self.manifest, wishes)
            connection.execute(text("ANALYZE"))
        return aftermath

    def missing_blobs(self, storage: Storage, *, report: Report) -> list[UUID]:
        """Ids of files whose content is not in the storage. Raises StorageUnavailableError."""
        with self._engine.connect() as connection:
            return missing_blobs(connection, storage, report=report)

    @property
    def is_older(self) -> bool:
        """The code wants newer tables than these."""
        return Revisions().compare(self.manifest.revisions) is Tables.OLDER

    def _refuse_unknown_revision(self) -> None:
        if unknown := set(self.manifest.revisions) - Revisions().known:
            raise BackupError(
                f"This backup has the tables of revision {', '.join(sorted(unknown))}, which this version of Keel does "
                f"not know: restore it with Keel {self.manifest.keel} or newer."
            )

    def _is_missing(self) -> bool:
        try:
            self._engine.connect().close()
        except OperationalError as error:
            if getattr(error.orig, "sqlstate", None) == "3D000" or "does not exist" in str(error.orig):
                return True
            raise
        return False

    def _look(self, connection: Connection) -> Replaced | None:
        db_schema = current_schema(connection)
        if db_schema != self.manifest.db_schema:
            raise BackupError(
                f"This backup is of the schema {self.manifest.db_schema}, and this account uses {db_schema}: set its "
                "search_path."
            )
        objects = [(kind, name) for kind, name in connection.execute(_OBJECTS, {"db_schema": db_schema})]
        if not objects:
            return None
        has_users = connection.scalar(text("SELECT to_regclass('users') IS NOT NULL"))
        return Replaced(objects, connection.scalar(text("SELECT count(*) FROM users")) if has_users else None)

    @contextmanager
    def _locked(self) -> Iterator[Connection]:
        """Nobody else reads or writes any table before this ends."""
        with self._engine.connect() as connection:
            for left in reversed(range(LOCK_ATTEMPTS)):
                try:
                    self._lock(connection)
                    break
                except OperationalError:
                    connection.rollback()
                    if not left:
                        raise
                time.sleep(LOCK_PAUSE)
            yield connection
            self._may_be_done = True
            try:
                connection.commit()
            except (DBAPIError, KeyboardInterrupt) as error:
                raise BackupError(UNKNOWN) from error

    def _lock(self, connection: Connection) -> None:
        if not connection.scalar(text("SELECT pg_try_advisory_xact_lock(:key)"), {"key": ALONE}):
            raise BackupError(f"{where(self._engine)} is being restored by somebody else.")
        connection.execute(text(f"SET LOCAL lock_timeout = '{LOCK_SECONDS}s'"))
        found = self._look(connection)
        if tables := [name for kind, name in (found.objects if found else []) if kind == "TABLE"]:
            connection.execute(text(f"LOCK TABLE {', '.join(tables)} IN ACCESS EXCLUSIVE MODE"))

    def _refuse_impossible(self, connection: Connection, *, with_privileges: bool) -> None:
        server, manifest = major_of(connection), self.manifest
        if server < manifest.server:
            raise BackupError(
                f"This backup is of PostgreSQL {manifest.server}, and the server is {server}: use one not older."
            )
        may_create = text("SELECT has_schema_privilege(:db_schema, 'CREATE')")
        if not connection.scalar(may_create, {"db_schema": manifest.db_schema}):
            raise BackupError(
                f"{self._engine.url.username} may not make tables in the schema {manifest.db_schema}: restore with the "
                "account that migrates, in DATABASE_URL."
            )
        roles = set(connection.scalars(text("SELECT rolname FROM pg_roles")))
        if with_privileges and (missing := sorted(set(manifest.grantees) - roles)):
            raise BackupError(
                f"The backup gives rights to {', '.join(missing)}, and the server has no such role: make it, or say "
                "--no-privileges."
            )


def _drop(connection: Connection, found: Replaced | None) -> None:
    """All of one kind at once, so that tables may refer to each other. What others have made upon them stops it."""
    objects = found.objects if found else []
    for kind in ORDER:
        if names := [name for each, name in objects if each == kind]:
            connection.execute(text(f"DROP {kind} {', '.join(names)}"))
