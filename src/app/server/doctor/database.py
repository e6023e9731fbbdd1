"""What `doctor` asks the database, all over one connection."""

import time
from collections.abc import Iterator

from msgspec import Struct
from sqlalchemy import URL, Connection, Row, text
from sqlalchemy.exc import DBAPIError, OperationalError
from sqlalchemy.orm import Session

from app.domain.users.services import UserService
from app.lib.db.database import create_pool, reason_of
from app.lib.settings import Settings
from app.server.doctor.findings import Finding, Level, fault, fine, one_line, warning
from app.server.doctor.jobs import job_findings
from app.server.revisions import Revisions, Tables, applied_revisions

OLDEST = 15
"""Of PostgreSQL: the first with the unique indexes that the policy needs (NULLS NOT DISTINCT)."""
OWN_CONNECTIONS = 5
"""Of an API process beside its pool: three listen, one reads the policy, one answers /health/ready. A worker has as
many beside those of its jobs."""
SLOW = 0.020
CLOCK_WARNING, CLOCK_FAULT = 2.0, 10.0
FULL = 0.8

FACTS = text("""
    SELECT current_setting('server_version_num')::int / 10000 AS major,
        current_setting('server_version') AS version,
        current_user AS role,
        rolsuper AS is_superuser,
        pg_is_in_recovery() OR current_setting('default_transaction_read_only')::bool AS is_read_only,
        pg_encoding_to_char(encoding) AS encoding,
        current_setting('max_connections')::int - current_setting('superuser_reserved_connections')::int
            - coalesce(current_setting('reserved_connections', true)::int, 0) AS of_server,
        nullif(rolconnlimit, -1) AS of_role,
        nullif(datconnlimit, -1) AS of_database,
        (SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend') AS used
    FROM pg_roles, pg_database WHERE rolname = current_user AND datname = current_database()
""")
MENDS = {
    "password": "Correct the password in DATABASE_URL (or DB_PASSWORD), or that of the role: ALTER ROLE ... PASSWORD.",
    "no pg_hba.conf entry": "Let this machine in: add a line for it to pg_hba.conf, and reload the server.",
    "too many": "Lower DB_POOL_SIZE, stop what holds connections, or raise max_connections.",
    "remaining connection slots": "Lower DB_POOL_SIZE, stop what holds connections, or raise max_connections.",
    "starting up": "Wait until it has started.",
    "could not translate host name": "Correct the host in DATABASE_URL.",
    "failed to resolve host": "Correct the host in DATABASE_URL.",
    "SSL": "Correct sslmode in DATABASE_URL, or give the server a certificate.",
    "ssl": "Correct sslmode in DATABASE_URL, or give the server a certificate.",
    "role": "Create it: CREATE ROLE ... LOGIN PASSWORD ..., or correct the user in DATABASE_URL.",
    "database": "Create it: CREATE DATABASE ..., or correct the name in DATABASE_URL.",
}
"""By a word of the reason that the driver gives."""
UNREACHABLE = "Start it, and see that the host and the port in DATABASE_URL are its own and no firewall is between."


class Load(Struct, frozen=True):
    """How many processes there are to be."""

    processes: int = 1
    workers: int = 1

    def connections(self, settings: Settings) -> int:
        own = OWN_CONNECTIONS + bool(settings.metrics_port)
        return self.processes * (settings.db_pool_size + own) + self.workers * (settings.job_concurrency + own)


def database_findings(settings: Settings, url: URL | str, load: Load) -> Iterator[Finding]:
    engine = create_pool(url, size=1, name="keel-doctor", isolation_level="AUTOCOMMIT")
    try:
        with engine.connect() as connection:
            yield from _server(connection, settings, load)
            migrations = _migrations(connection)
            yield migrations
            if migrations.level is not Level.FAULT:
                yield from job_findings(connection)
                yield _administrator(connection)
    except DBAPIError as error:
        yield unreachable("database", error)
    finally:
        engine.dispose()


def unreachable(check: str, error: DBAPIError) -> Finding:
    reason = one_line(reason_of(error))
    if not isinstance(error, OperationalError):
        mend = "Give the role in its URL the right: make it the owner of the database, or GRANT what is missing."
        return fault(check, f"It refuses what is asked: {reason}.", mend)
    mend = next((mend for word, mend in MENDS.items() if word in reason.rpartition("FATAL:")[2]), UNREACHABLE)
    return fault(check, f"It does not answer: {reason}.", UNREACHABLE if "refused" in reason else mend)


def clock_finding(theirs: float, ours: float, *, whose: str) -> Finding:
    """`theirs` and `ours`: seconds since the epoch, at the same moment."""
    difference = abs(theirs - ours)
    said = f"The clocks of this machine and of {whose} differ by {difference:.1f} s."
    mend = "Let both follow NTP: tokens, links, limits and jobs are timed by either."
    if difference < CLOCK_WARNING:
        return fine("clock", said)
    return fault("clock", said, mend) if difference > CLOCK_FAULT else warning("clock", said, mend)


def _server(connection: Connection, settings: Settings, load: Load) -> Iterator[Finding]:
    began = time.perf_counter()
    now = time.time()
    theirs = connection.scalar(text("SELECT extract(epoch FROM clock_timestamp())::float"))
    seconds = time.perf_counter() - began
    facts = connection.execute(FACTS).one()
    yield _version(facts, seconds)
    if facts.is_read_only:
        yield fault(
            "database", "It only reads.", "Name the primary in DATABASE_URL, and replicas in DATABASE_REPLICA_URLS."
        )
    if facts.encoding != "UTF8":
        yield fault("database", f"Its encoding is {facts.encoding}.", "Create it anew with ENCODING 'UTF8'.")
    yield _role(facts, settings)
    yield from _connections(facts, settings, load)
    yield clock_finding(theirs, now + seconds / 2, whose="the database")


def _version(facts: Row[tuple[object, ...]], seconds: float) -> Finding:
    said = f"PostgreSQL {facts.version} answers in {seconds * 1000:.1f} ms."
    if facts.major < OLDEST:
        return fault("database", said, f"Upgrade it: Keel needs PostgreSQL {OLDEST} or newer.")
    if seconds > SLOW:
        return warning("database", said, "Each query of each request takes as long: bring the API nearer to it.")
    return fine("database", said)


def _role(facts: Row[tuple[object, ...]], settings: Settings) -> Finding:
    if facts.is_superuser and settings.is_production:
        return warning(
            "role",
            f"The API connects as {facts.role}, a superuser: whoever takes it over has the whole server.",
            "Create a role of its own: CREATE ROLE keel LOGIN PASSWORD '...', and make it the owner of the database.",
        )
    return fine("role", f"The API connects as {facts.role}.")


def _connections(facts: Row[tuple[object, ...]], settings: Settings, load: Load) -> Iterator[Finding]:
    limit = min(filter(None, (facts.of_server, facts.of_role, facts.of_database)))
    needed = load.connections(settings)
    said = (
        f"API processes: {load.processes}, workers: {load.workers}. They open up to {needed} connections; "
        f"{limit} are allowed."
    )
    if needed > limit:
        yield fault(
            "connections",
            said,
            f"Lower DB_POOL_SIZE (now {settings.db_pool_size}), run fewer processes, or raise max_connections.",
        )
    else:
        yield fine("connections", said)
    if facts.used > FULL * facts.of_server:
        yield warning(
            "connections",
            f"{facts.used} of the server's {facts.of_server} connections are in use.",
            "See in pg_stat_activity by whom; raise max_connections, or put PgBouncer in front.",
        )


def _migrations(connection: Connection) -> Finding:
    revisions, applied = Revisions(), applied_revisions(connection)
    shown = ", ".join(applied) or "none"
    tables = revisions.compare(applied)
    if tables is Tables.CURRENT:
        return fine("migrations", f"The tables are those of this version ({shown}).")
    if tables is Tables.NEWER:
        return warning(
            "migrations",
            f"The tables are those of a newer version ({shown}), upon which this one serves during an upgrade.",
            "Finish the upgrade, or go back as docs/operations.md says.",
        )
    return fault(
        "migrations",
        f"Migrations are missing: {shown} is applied, {', '.join(sorted(revisions.heads))} is the newest.",
        "Run `litestar database upgrade --no-prompt`.",
    )


def _administrator(connection: Connection) -> Finding:
    with Session(connection) as session:
        if UserService(session).has_administrator():
            return fine("administrator", "There is one who is active.")
    return warning(
        "administrator",
        "There is none who is active, so nobody can manage accounts and roles.",
        "Run `litestar users create --administrator` or `litestar users promote`.",
    )
