"""Making a backup, and proving that it can be restored. `server/backups/restoration.py` is the other way round."""

import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from sqlalchemy import Connection, Engine, NullPool, create_engine, text

from app.server.backups.archives import load, refuse_differences
from app.server.backups.files import Manifest, new_file, seal, unseal
from app.server.backups.programs import BackupError, ClientProgram
from app.server.backups.table_sums import TableSum, qualified, sequences_of, sums_of
from app.server.commands.progress import Report
from app.server.revisions import applied_revisions

LOCK_PATIENCE = 30
"""Seconds that pg_dump waits for a table that a migration, perhaps, keeps to itself."""
SCRATCH = "keel_scratch_"
LEFT_BEHIND = 24 * 3600
"""Seconds after which the scratch database of another backup is one that was killed."""
_GRANTEES = text("""
    WITH here AS (SELECT oid FROM pg_namespace WHERE nspname = current_schema()), named AS (
        SELECT grantee AS role FROM pg_class, aclexplode(relacl)
        WHERE relnamespace IN (SELECT oid FROM here) AND grantee <> relowner
        UNION
        SELECT unnest(ARRAY[defaclrole, grantee]) FROM pg_default_acl, aclexplode(defaclacl)
        WHERE defaclnamespace IN (SELECT oid FROM here)
    )
    SELECT rolname FROM pg_roles WHERE oid IN (SELECT role FROM named)
""")
"""Also those of default privileges."""
_MAY_CREATE = text("SELECT rolcreatedb OR rolsuper FROM pg_roles WHERE rolname = current_user")


class Backups:
    """Found by the command line in `app.state.backups`. `engine`: that of migrations, which has no time-outs."""

    def __init__(self, engine: Engine, *, version: str) -> None:
        self._engine = engine
        self._version = version

    def back_up(self, path: Path, *, overwrite: bool, is_verified: bool, report: Report) -> Manifest:
        """All rows as they are at one moment, while everybody goes on. Raises BackupError; then there is no file."""
        with new_file(path, overwrite=overwrite) as draft:
            with self._at_one_moment() as connection:
                if is_verified:
                    self._refuse_unverifiable(connection)
                manifest = self._dump(connection, draft, report)
            seal(draft, manifest, report)
            if is_verified:
                self._verify(draft, report)
        return manifest

    @contextmanager
    def _at_one_moment(self) -> Iterator[Connection]:
        options = {"isolation_level": "REPEATABLE READ", "postgresql_readonly": True}
        with self._engine.connect().execution_options(**options) as connection:
            yield connection

    def _dump(self, connection: Connection, draft: Path, report: Report) -> Manifest:
        snapshot = connection.scalars(text("SELECT pg_export_snapshot()")).one()
        db_schema = current_schema(connection)
        server = major_of(connection)
        revisions = applied_revisions(connection)
        if not revisions:
            raise BackupError(f"{where(self._engine)} has no tables of Keel in it: nothing to back up.")
        pg_dump = ClientProgram.find("pg_dump", at_least=server)
        manifest = Manifest(
            keel=self._version,
            made_at=datetime.now(UTC),
            database=str(self._engine.url.database),
            db_schema=db_schema,
            revisions=revisions,
            server=server,
            client=pg_dump.major,
            sequences=sequences_of(connection, db_schema),
            tables=sums_of(connection, db_schema, report=report, what="Reading every row"),
            grantees=sorted(connection.scalars(_GRANTEES)),
        )
        pg_dump.run(
            *("--format=custom", f"--snapshot={snapshot}", f"--schema={_pattern(db_schema)}", "--no-comments"),
            *("--verbose", "--no-password", f"--lock-wait-timeout={LOCK_PATIENCE}s", "--file", draft),
            engine=self._engine,
            say=_dump_progress(manifest.tables, report),
        )
        return manifest

    def _verify(self, draft: Path, report: Report) -> None:
        """Restore it into an empty database, and compare. Raises BackupError."""
        manifest = unseal(draft, report)
        with self._scratch_database() as scratch, scratch.begin() as connection:
            connection.execute(text(f"CREATE SCHEMA IF NOT EXISTS {qualified(connection, manifest.db_schema)}"))
            load(connection, draft, manifest, with_privileges=False, report=report)
            refuse_differences(connection, manifest, report)

    @contextmanager
    def _scratch_database(self) -> Iterator[Engine]:
        name = f"{SCRATCH}{int(time.time())}_{secrets.token_hex(4)}"
        with self._engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            _drop_left_behind(connection)
            connection.execute(text(f"CREATE DATABASE {name} TEMPLATE template0 ENCODING 'UTF8'"))
            try:
                yield create_engine(self._engine.url.set(database=name), poolclass=NullPool)
            finally:
                connection.execute(text(f"DROP DATABASE {name} WITH (FORCE)"))

    def _refuse_unverifiable(self, connection: Connection) -> None:
        if not connection.scalar(_MAY_CREATE):
            account = self._engine.url.username
            raise BackupError(
                f"{account} may not make the database into which a backup is restored to verify it: "
                f"run `ALTER ROLE {account} CREATEDB`, or say --no-verify."
            )


def current_schema(connection: Connection) -> str:
    """Raises BackupError."""
    found = connection.scalar(text("SELECT current_schema()"))
    if found is None:
        raise BackupError("The search_path of this account names no schema that exists: CREATE SCHEMA public.")
    return str(found)


def major_of(connection: Connection) -> int:
    return int(connection.scalars(text("SHOW server_version_num")).one()) // 10_000


def where(engine: Engine) -> str:
    """For a person, and without the password."""
    _, given = engine.dialect.create_connect_args(engine.url)
    return f"The database {given.get('dbname')} at {given.get('host', 'localhost')}"


def _pattern(name: str) -> str:
    """A name as pg_dump takes it, without its wildcards."""
    return '"' + name.replace('"', '""') + '"'


def _drop_left_behind(connection: Connection) -> None:
    """Of backups that were killed with -9."""
    mine = text("SELECT datname FROM pg_database WHERE datname ~ :mark AND pg_get_userbyid(datdba) = current_user")
    for name in connection.scalars(mine, {"mark": rf"^{SCRATCH}\d+_[0-9a-f]+$"}).all():
        if int(name.split("_")[2]) < time.time() - LEFT_BEHIND:
            connection.execute(text(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)"))


def _dump_progress(tables: dict[str, TableSum], report: Report) -> Callable[[str], None]:
    """By the rows of the tables that pg_dump says it has come to."""
    total = sum(each.rows for each in tables.values())
    begun: list[str] = []

    def say(line: str) -> None:
        if "dumping contents of table" in line:
            report("Dumping", sum(tables[name].rows for name in begun if name in tables), total)
            begun.append(line.rpartition(".")[2].strip('"'))

    return say
