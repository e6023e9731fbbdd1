"""The archive in a backup: loaded in a transaction of ours, and compared with what it should be."""

import re
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import psycopg
from sqlalchemy import Connection, text

from app.server.backups.files import Manifest
from app.server.backups.programs import BackupError, ClientProgram
from app.server.backups.table_sums import qualified, sequences_of, sums_of
from app.server.commands.progress import Report

PIECE = 256 * 1024
FOR_PSQL_OR_NEWER = re.compile(rb"^(?:\\(?:un)?restrict \w+|SET transaction_timeout = 0;)$", re.MULTILINE)
"""Lines of the script that only psql understands, or only a newer server."""
_TAKE_RIGHTS = """
    SELECT DISTINCT format(
        'REVOKE ALL ON %%s %%s FROM %%s', CASE relkind WHEN 'S' THEN 'SEQUENCE' ELSE 'TABLE' END,
        format('%%I.%%I', %(db_schema)s::text, relname),
        CASE grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(grantee)) END
    )
    FROM pg_class, aclexplode(relacl)
    WHERE relnamespace = (SELECT oid FROM pg_namespace WHERE nspname = %(db_schema)s) AND grantee <> relowner
"""
END_OF_DATA = b"\\.\n"


def load(connection: Connection, path: Path, manifest: Manifest, *, with_privileges: bool, report: Report) -> None:
    """Everything that is in the archive, in the transaction of the connection, whose schema has none of it.

    pg_restore would commit before anybody could look at what it has made: so it writes the script, and we run it.
    Everything belongs to whoever restores. Raises BackupError.
    """
    pg_restore = ClientProgram.find("pg_restore", at_least=manifest.client)
    options = ["--no-owner", f"--schema={manifest.db_schema}", "--file=-"]
    driver = connection.connection.driver_connection
    assert isinstance(driver, psycopg.Connection)
    with driver.cursor() as cursor:
        for section in ("pre-data", "data", "post-data"):
            with pg_restore.reading(f"--section={section}", "--no-privileges", *options, path) as script:
                if section == "data":
                    _run_data(cursor, script, manifest, report)
                else:
                    report("Making tables" if section == "pre-data" else "Making indexes and constraints", 0, 1)
                    cursor.execute(FOR_PSQL_OR_NEWER.sub(b"", script.read()))
        if with_privileges:
            _give_rights(cursor, pg_restore, path, manifest)
    connection.execute(text(f"SET LOCAL search_path = {qualified(connection, manifest.db_schema)}"))


def refuse_differences(connection: Connection, manifest: Manifest, report: Report) -> None:
    """Raises BackupError unless every row that was backed up is here, and no other."""
    found = sums_of(connection, manifest.db_schema, report=report, what="Comparing every row")
    if found != manifest.tables:
        names = sorted(
            name for name in found.keys() | manifest.tables.keys() if found.get(name) != manifest.tables.get(name)
        )
        raise BackupError(f"The restored rows are not those that were backed up, in {', '.join(names)}.")
    reached = sequences_of(connection, manifest.db_schema)
    if behind := sorted(name for name, last in manifest.sequences.items() if reached.get(name, -1) < last):
        raise BackupError(f"The sequence {', '.join(behind)} would give out again what it has given out before.")


def _give_rights(cursor: psycopg.Cursor[Any], pg_restore: ClientProgram, path: Path, manifest: Manifest) -> None:
    """Exactly those of the backup: what default privileges have given to the new tables is taken first. The schema
    itself has stayed as it was."""
    for (statement,) in cursor.execute(_TAKE_RIGHTS, {"db_schema": manifest.db_schema}).fetchall():
        cursor.execute(statement)
    with pg_restore.reading("--list", path) as content:
        rights = [line for line in content if b" ACL " in line and b" ACL - SCHEMA " not in line]
    if not rights:
        return
    with tempfile.NamedTemporaryFile() as chosen:
        chosen.writelines(rights)
        chosen.flush()
        with pg_restore.reading(f"--use-list={chosen.name}", "--no-owner", "--file=-", path) as script:
            cursor.execute(FOR_PSQL_OR_NEWER.sub(b"", script.read()))


def _run_data(cursor: psycopg.Cursor[object], script: IO[bytes], manifest: Manifest, report: Report) -> None:
    """Each statement of this section is one line, and what follows a COPY is its data."""
    done = 0
    for line in script:
        if line.startswith(b"COPY "):
            with cursor.copy(line.rstrip(b";\n")) as copy:
                for rows, piece in _pieces(script):
                    copy.write(piece)
                    done += rows
                    report("Loading rows", done, manifest.rows)
        elif not line.startswith(b"--"):
            statement = FOR_PSQL_OR_NEWER.sub(b"", line).strip()
            if statement:
                cursor.execute(statement)


def _pieces(script: IO[bytes]) -> Iterator[tuple[int, bytes]]:
    """The rows of one table, so many together as are quick to send."""
    lines: list[bytes] = []
    size = 0
    for line in script:
        if line == END_OF_DATA:
            yield len(lines), b"".join(lines)
            return
        lines.append(line)
        size += len(line)
        if size >= PIECE:
            yield len(lines), b"".join(lines)
            lines, size = [], 0
    raise BackupError("The archive ends in the middle of a table.")
