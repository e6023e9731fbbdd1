"""The service every feature's service starts from: advanced-alchemy's, with our defaults."""

from typing import Any, TypeVar

import msgspec
from advanced_alchemy.repository import SQLAlchemySyncRepository
from advanced_alchemy.service import SQLAlchemySyncRepositoryService
from sqlalchemy import ColumnElement, delete, select

from app.lib.db.models import Model
from app.lib.db.unit_of_work import AnySession
from app.lib.pagination import Page, PageRequest, paginate
from app.lib.schema import Schema

ModelT = TypeVar("ModelT", bound=Model)
SchemaT = TypeVar("SchemaT", bound=Schema)

BATCH = 1000
"""Rows that a clean-up deletes in one transaction, so that nobody waits long for it."""

Repository = SQLAlchemySyncRepository


class Service(SQLAlchemySyncRepositoryService[ModelT, SQLAlchemySyncRepository[ModelT]]):
    """What may happen to one kind of row, inside the unit of work whose session it is given.

    A subclass names its table: `class Repo(Repository[Item]): model_type = Item` and `repository_type = Repo`.
    `get_one` raises advanced-alchemy's NotFoundError, which answers 404; database errors pass through as
    SQLAlchemy raised them. Nothing is re-read after a write: our defaults are made in Python.
    """

    def __init__(self, session: AnySession, **options: Any) -> None:
        super().__init__(session, auto_refresh=False, wrap_exceptions=False, **options)

    @property
    def session(self) -> AnySession:
        return self.repository.session

    def apply(self, row: ModelT, changes: msgspec.Struct) -> ModelT:
        """Set the fields that the caller sent (those that are not UNSET) and flush."""
        for name, value in msgspec.structs.asdict(changes).items():
            if value is not msgspec.UNSET:
                setattr(row, name, value)
        self.session.flush()
        return row

    def remove(self, row: ModelT) -> None:
        self.session.delete(row)
        self.session.flush()

    def lock(self, *where: ColumnElement[bool]) -> ModelT | None:
        return lock(self.session, self.model_type, *where)

    def remove_batch(self, *where: ColumnElement[bool], limit: int = BATCH) -> int:
        return remove_batch(self.session, self.model_type, *where, limit=limit)

    def page(self, *where: ColumnElement[bool], page: PageRequest, sort: str, into: type[SchemaT]) -> Page[SchemaT]:
        """The rows that meet every condition, as `lib.pagination.paginate` answers them."""
        return paginate(self.session, self.model_type, *where, page=page, sort=sort, into=into)


def lock(session: AnySession, model: type[ModelT], *where: ColumnElement[bool]) -> ModelT | None:
    """The one row that meets every condition, as it is now, kept from everybody else until the COMMIT.

    Rows that refer to it may still be written.
    """
    found = select(model).where(*where).with_for_update(key_share=True)
    return session.scalars(found, execution_options={"populate_existing": True}).one_or_none()


def remove_batch(session: AnySession, model: type[Model], *where: ColumnElement[bool], limit: int = BATCH) -> int:
    """Delete some of the rows that meet every condition, passing over those that are locked. Returns how many."""
    some = select(model.id).where(*where).limit(limit).with_for_update(skip_locked=True)
    gone = session.scalars(delete(model).where(model.id.in_(some)).returning(model.id))
    return len(gone.all())
