"""What has happened since a backup was made, and must not be undone by it; and what a copy may not do."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID, uuid4

from sqlalchemy import (
    ColumnElement,
    Connection,
    Table,
    Text,
    cast,
    delete,
    func,
    select,
    text,
    union_all,
    update,
)
from sqlalchemy.orm import Session

from app.domain.api_keys.models import ApiKey
from app.domain.files.jobs import identity_of, stored_tables
from app.domain.files.models import DatabaseIdentity
from app.domain.sessions.models import UserSession
from app.domain.sessions.services import SESSION_REVOKED
from app.lib.db.models import Model, utc_now
from app.lib.events import CHANNEL, RESTORED
from app.lib.jobs.broker import saq_jobs
from app.lib.jobs.ledger import PENDING
from app.lib.storage import SHARDS, Storage
from app.server.backups.files import Manifest
from app.server.commands.progress import Report


@dataclass(frozen=True, kw_only=True)
class Wishes:
    """What whoever restores has asked for. `is_copy`: the original lives on, elsewhere."""

    is_replacing: bool = False
    keeps_sessions: bool = False
    drops_jobs: bool = False
    with_privileges: bool = True
    is_copy: bool = False


@dataclass(frozen=True)
class Memory:
    """Of the database that is replaced. `knows`: the tables of which there are copies for this transaction."""

    policy_version: int
    knows: frozenset[str]


@dataclass(frozen=True)
class Aftermath:
    ended_sessions: int
    live_sessions: int
    revoked_keys: int
    live_keys: int
    pending_jobs: int
    dropped_jobs: int
    kept_events: int
    is_informed: bool
    """Whether it could be known what has happened since the backup."""


REMEMBERED: Mapping[str, str] = {
    "database_identities": "SELECT id FROM database_identities",
    "users": "SELECT id, is_superuser, is_active, password_hash FROM users",
    "sessions": "SELECT * FROM sessions",
    "refresh_tokens": "SELECT * FROM refresh_tokens",
    "api_keys": "SELECT id, revoked_at FROM api_keys",
    "audit_events": "SELECT * FROM audit_events WHERE created_at > CAST(:made_at AS timestamptz) - interval '1 hour'",
}
_END_SESSIONS = """
    WITH ended AS (
        UPDATE sessions SET revoked_at = clock_timestamp(), revocation_reason = 'restored'
        WHERE revoked_at IS NULL AND {which} RETURNING id
    ), told AS (SELECT pg_notify(:channel, :topic || ':' || id) FROM ended)
    SELECT count(*) FROM told
"""
_ENDED_SINCE = """(
    NOT EXISTS (SELECT FROM remembered_sessions AS known WHERE known.id = sessions.id AND known.revoked_at IS NULL)
    OR EXISTS (
        SELECT FROM users JOIN remembered_users AS known USING (id)
        WHERE users.id = sessions.user_id AND (users.is_superuser, users.is_active, users.password_hash)
            IS DISTINCT FROM (known.is_superuser, known.is_active, known.password_hash)
    )
)"""
"""Also those of accounts that get other rights or another password back: tokens of theirs say what is no longer so."""
_BEGUN_SINCE = """
    user_id IN (SELECT id FROM users) AND (identity_id IS NULL OR identity_id IN (SELECT id FROM identities))
"""
_USE_TOKENS = text("""
    UPDATE refresh_tokens SET used_at = known.used_at FROM remembered_refresh_tokens AS known
    WHERE known.token_hash = refresh_tokens.token_hash AND refresh_tokens.used_at IS NULL
""")
_TELL_OF_VANISHED = text("""
    SELECT pg_notify(:channel, :topic || ':' || id) FROM remembered_sessions AS known
    WHERE revoked_at IS NULL AND NOT EXISTS (SELECT FROM sessions WHERE sessions.id = known.id)
""")
"""Access tokens of accounts that are no longer there: whoever hears it refuses them."""
_REVOKE_KEYS = """
    UPDATE api_keys SET revoked_at = clock_timestamp() WHERE revoked_at IS NULL
        AND NOT EXISTS (
            SELECT FROM remembered_api_keys AS known WHERE known.id = api_keys.id AND known.revoked_at IS NULL
        )
"""
_PENDING = saq_jobs.c.status.in_(PENDING)


def remember(connection: Connection, manifest: Manifest) -> Memory:
    """Before its tables are dropped. Another database, that only has the same tables, has nothing to say."""
    tables = set(
        connection.scalars(text("SELECT relname FROM pg_class WHERE relkind = 'r' AND pg_table_is_visible(oid)"))
    )
    version = connection.scalar(text("SELECT number FROM policy_versions")) if "policy_versions" in tables else 0
    known = frozenset(REMEMBERED.keys() & tables)
    if "database_identities" not in tables:
        return Memory(version or 0, frozenset())
    for name in known:
        connection.execute(
            text(f"CREATE TEMPORARY TABLE remembered_{name} ON COMMIT DROP AS {REMEMBERED[name]}"),
            {"made_at": manifest.made_at} if ":made_at" in REMEMBERED[name] else {},
        )
    return Memory(version or 0, known)


def put_right(connection: Connection, manifest: Manifest, memory: Memory, wishes: Wishes) -> Aftermath:
    """In the transaction of the restoration: nobody ever sees the database as it was in the backup."""
    has = manifest.tables.keys()
    knows = memory.knows & has if _is_the_same(connection, memory, manifest) else frozenset()
    is_informed = "identities" in has and {"users", "sessions", "refresh_tokens"} <= knows
    kept_events = _bring_back(connection, "audit_events") if "audit_events" in knows else 0
    ended = _end_sessions(connection, wishes, is_informed=is_informed)
    revoked = connection.execute(text(_REVOKE_KEYS)).rowcount if "api_keys" in knows else 0
    dropped = 0
    if "saq_jobs" in has and (wishes.drops_jobs or wishes.is_copy):
        dropped = connection.execute(delete(saq_jobs).where(_PENDING)).rowcount
    if "database_identities" in has and wishes.is_copy:
        connection.execute(update(DatabaseIdentity).values(id=uuid4()))
    _tell(connection, memory, manifest)
    return Aftermath(
        ended_sessions=ended,
        live_sessions=_count(
            connection, UserSession, UserSession.revoked_at.is_(None), UserSession.expires_at > func.now()
        ),
        revoked_keys=revoked,
        live_keys=_count(connection, ApiKey, ApiKey.revoked_at.is_(None)) if "api_keys" in has else 0,
        pending_jobs=_count(connection, saq_jobs, _PENDING) if "saq_jobs" in has else 0,
        dropped_jobs=dropped,
        kept_events=kept_events,
        is_informed=is_informed,
    )


def _end_sessions(connection: Connection, wishes: Wishes, *, is_informed: bool) -> int:
    """Those that have ended since; all of them, when that cannot be known or is not asked for.

    What has begun since is known again, so that it can be ended, or go on: a refresh token that was exchanged since is
    not good a second time, and the one that it was exchanged for still is.
    """
    told = {"channel": CHANNEL, "topic": SESSION_REVOKED}
    if is_informed:
        _bring_back(connection, "sessions", where=_BEGUN_SINCE)
        connection.execute(_USE_TOKENS)
        _bring_back(connection, "refresh_tokens", where="session_id IN (SELECT id FROM sessions)")
        connection.execute(_TELL_OF_VANISHED, told)
    since = _ENDED_SINCE if is_informed else "false"
    which = since if wishes.keeps_sessions and not wishes.is_copy else "true"
    return int(connection.scalars(text(_END_SESSIONS.format(which=which)), told).one())


def _is_the_same(connection: Connection, memory: Memory, manifest: Manifest) -> bool:
    """By its identity: another database may have tables of the same names."""
    if not memory.knows or "database_identities" not in manifest.tables:
        return False
    was = connection.scalar(text("SELECT id FROM remembered_database_identities"))
    return bool(was == connection.scalar(select(DatabaseIdentity.id)))


def _bring_back(connection: Connection, table: str, *, where: str = "true") -> int:
    """Rows that the backup does not have. Columns that only one of the two revisions has are left out."""
    columns = text("""
        SELECT quote_ident(attname) FROM pg_attribute
        WHERE attrelid = CAST(:table AS regclass) AND attnum > 0 AND NOT attisdropped AND attname IN (
            SELECT attname FROM pg_attribute WHERE attrelid = CAST(:remembered AS regclass) AND attnum > 0
        )
    """)
    both = ", ".join(connection.scalars(columns, {"table": table, "remembered": f"remembered_{table}"}))
    rows = f"SELECT {both} FROM remembered_{table} WHERE {where}"  # noqa: S608  (our own words, and quoted names)
    return connection.execute(text(f"INSERT INTO {table} ({both}) {rows} ON CONFLICT DO NOTHING")).rowcount


def _tell(connection: Connection, memory: Memory, manifest: Manifest) -> None:
    """Every process reads anew what it knows, and a number of the policy never stands for two policies."""
    if "policy_versions" in manifest.tables:
        raised = text("UPDATE policy_versions SET number = greatest(number, :seen) + 1, updated_at = now()")
        connection.execute(raised, {"seen": memory.policy_version})
    connection.execute(text("SELECT pg_notify(:channel, :event)"), {"channel": CHANNEL, "event": RESTORED})


def _count(connection: Connection, table: type[Model] | Table, *where: ColumnElement[bool]) -> int:
    return connection.scalars(select(func.count()).select_from(table).where(*where)).one()


def missing_blobs(connection: Connection, storage: Storage, *, report: Report) -> list[UUID]:
    """Rows whose content is not in the storage. Raises StorageUnavailableError, ForeignStorageError."""
    missing: set[UUID] = set()
    with Session(connection) as session:
        storage.belongs_to(identity_of(session))
        for shard in range(SHARDS):
            report("Looking for the files", shard, SHARDS)
            missing |= _named(session, shard)
            for batch in storage.stored_before(utc_now() + timedelta(days=1), shard=shard):
                missing.difference_update(batch)
    return sorted(missing)


def _named(session: Session, shard: int) -> set[UUID]:
    """The rows whose blobs are in this shard: see `lib.storage`."""
    tables = [select(table.id).where(func.right(cast(table.id, Text), 1) == f"{shard:x}") for table in stored_tables()]
    return set(session.scalars(union_all(*tables)))
