"""What is in the tables of a schema, in a few numbers: two databases with the same numbers have the same rows."""

from msgspec import Struct
from sqlalchemy import Connection, text

from app.server.commands.progress import Report

_TABLES = text("""
    SELECT relname FROM pg_class
    WHERE relnamespace = (SELECT oid FROM pg_namespace WHERE nspname = :db_schema) AND relkind = 'r' AND NOT EXISTS (
        SELECT FROM pg_depend WHERE classid = 'pg_class'::regclass AND objid = pg_class.oid AND deptype = 'e'
    )
    ORDER BY relname
""")
"""Without those that belong to an extension."""
_SEQUENCES = text("SELECT sequencename, coalesce(last_value, 0) FROM pg_sequences WHERE schemaname = :db_schema")
_SUM = """
    SELECT count(*), coalesce(
        sum(('x' || encode(substr(sha256(convert_to(the_row::text, 'UTF8')), 1, 7), 'hex'))::bit(56)::bigint), 0
    )
    FROM {table} AS the_row
"""
"""In no order. SHA-256, because PostgreSQL's own hashes may differ between versions and machines."""
_AS_TEXT = """
    SET LOCAL timezone = 'UTC'; SET LOCAL datestyle = 'ISO'; SET LOCAL intervalstyle = 'postgres';
    SET LOCAL bytea_output = 'hex'; SET LOCAL extra_float_digits = 1
"""
"""What the text of a row depends on."""


class TableSum(Struct, frozen=True):
    rows: int
    checksum: str


def tables_of(connection: Connection, db_schema: str) -> list[str]:
    return list(connection.scalars(_TABLES, {"db_schema": db_schema}))


def sums_of(connection: Connection, db_schema: str, *, report: Report, what: str) -> dict[str, TableSum]:
    """Reads every row of every table, as the transaction sees them."""
    connection.execute(text(_AS_TEXT))
    names, found = tables_of(connection, db_schema), {}
    for number, name in enumerate(names):
        report(what, number, len(names))
        rows, checksum = connection.execute(text(_SUM.format(table=qualified(connection, db_schema, name)))).one()
        found[name] = TableSum(rows, str(checksum))
    report(what, len(names), len(names))
    return found


def sequences_of(connection: Connection, db_schema: str) -> dict[str, int]:
    """How far they have got; transactions do not keep them still."""
    found = connection.execute(_SEQUENCES, {"db_schema": db_schema})
    return {str(name): int(last) for name, last in found}


def qualified(connection: Connection, *names: str) -> str:
    quote = connection.dialect.identifier_preparer.quote
    return ".".join(map(quote, names))
