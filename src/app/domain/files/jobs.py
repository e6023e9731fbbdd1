from collections.abc import Collection
from datetime import timedelta
from uuid import UUID

from sqlalchemy import select, union_all
from sqlalchemy.orm import Session

from app.domain.files.models import DatabaseIdentity
from app.lib.db.models import Stored, utc_now
from app.lib.db.unit_of_work import AnySession
from app.lib.jobs.broker import enqueue
from app.lib.jobs.declaration import job
from app.lib.storage import SHARDS, Storage

KEEP_ORPHANS = timedelta(days=1)
"""Much longer than an upload takes from its blob to its COMMIT."""


@job(retries=10, retry_delay=30)
def delete_blob(session: Session, storage: Storage, *, blob_id: UUID) -> None:
    """Delete a blob unless a row names it."""
    for orphan in _orphans(session, [blob_id]):
        storage.delete(orphan)


@job(cron="23 3 * * *")
def remove_orphans(session: Session) -> None:
    """Delete the blobs that no row names: of uploads that were cut short, and of users that were deleted."""
    for shard in range(SHARDS):
        enqueue(session, remove_orphans_of, shard=shard, key=f"files.remove_orphans_of:{shard}")


@job(timeout=600)
def remove_orphans_of(session: Session, storage: Storage, *, shard: int) -> None:
    """The same for one shard of the storage, in batches of its own.

    Raises ForeignStorageError when the storage is another database's: to this one, everything there is an orphan.
    """
    if not storage.belongs_to(identity_of(session)):
        return
    before = utc_now() - KEEP_ORPHANS
    storage.remove_unfinished(before, shard=shard)
    for batch in storage.stored_before(before, shard=shard):
        storage.delete_all(_orphans(session, batch))


def identity_of(session: AnySession) -> UUID:
    return session.scalars(select(DatabaseIdentity.id)).one()


def _orphans(session: Session, blob_ids: Collection[UUID]) -> set[UUID]:
    named = union_all(*[select(table.id).where(table.id.in_(blob_ids)) for table in stored_tables()])
    return set(blob_ids).difference(session.scalars(named))


def stored_tables() -> list[type[Stored]]:
    """Every table whose ids are names of blobs."""
    return [mapper.class_ for mapper in Stored.registry.mappers if issubclass(mapper.class_, Stored)]
