"""What the audit log says of backups: somebody has taken a copy of everything, or put one back."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, text
from sqlalchemy.orm import Session

from app.domain.audit.models import Action, AuditEvent
from app.domain.audit.services import AuditService
from app.server.backups.files import Manifest
from app.server.backups.restored_state import Wishes

PATIENCE = 5
"""Seconds for a migration or a restoration that keeps the table to itself."""
_COLUMNS = text("""
    SELECT attname FROM pg_attribute
    WHERE attrelid = to_regclass('audit_events') AND attnum > 0 AND NOT attisdropped
""")


def record_backup(engine: Engine, manifest: Manifest, file: Path, *, is_verified: bool) -> None:
    """Once there is a file. Raises DBAPIError where the account only reads."""
    details = {"file": str(file), "rows": manifest.rows, "is_verified": is_verified}
    with engine.begin() as connection:
        connection.execute(text(f"SET LOCAL lock_timeout = '{PATIENCE}s'"))
        _record(connection, Action.DATABASE_BACKED_UP, manifest, details)


def record_restoration(connection: Connection, manifest: Manifest, wishes: Wishes) -> None:
    """In the transaction of the restoration."""
    details = {"made_at": manifest.made_at, "keeps_sessions": wishes.keeps_sessions, "is_copy": wishes.is_copy}
    _record(connection, Action.DATABASE_RESTORED, manifest, details)


def _record(connection: Connection, action: Action, manifest: Manifest, details: Mapping[str, Any]) -> None:
    """Tables older than the log have none, or one that this version of Keel cannot write to."""
    if set(connection.scalars(_COLUMNS)) != set(AuditEvent.__table__.columns.keys()):
        return
    with Session(connection, join_transaction_mode="create_savepoint") as session:
        AuditService(session).record(action, subject=("database", manifest.database), details=details)
        session.commit()
