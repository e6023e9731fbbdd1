"""Lists in pages: by offset with a total, or by cursor when the list may grow while it is read."""

import base64
from datetime import UTC, datetime
from typing import Annotated, Any, Generic, NamedTuple, TypeVar
from uuid import UUID

import msgspec
from litestar.di import NamedDependency, Provide
from litestar.params import QueryParameter
from msgspec import UNSET, Struct, UnsetType
from sqlalchemy import ColumnElement, Select, SQLColumnExpression, func, or_, select, true, tuple_
from sqlalchemy.orm import InstrumentedAttribute

from app.lib.db.models import Model
from app.lib.db.unit_of_work import AnySession
from app.lib.errors import InvalidInputError
from app.lib.schema import LINE, Schema

MAX_OFFSET = 2**31 - 1
DATE_TIME = {"format": "date-time"}

ModelT = TypeVar("ModelT", bound=Model)
SchemaT = TypeVar("SchemaT", bound=Schema)


class Page(Schema, Generic[SchemaT]):
    """`total` and `offset` when paging by offset; `next_cursor`, null at the end, when walking by cursor."""

    items: list[SchemaT]
    limit: int
    total: int | UnsetType = UNSET
    offset: int | UnsetType = UNSET
    next_cursor: str | UnsetType | None = UNSET


class PageRequest(Struct, frozen=True):
    """What every list understands. `cursor`: None pages by offset, empty starts a walk.

    `created_after` is inclusive, `created_before` is not.
    """

    limit: int
    offset: int = 0
    q: str | None = None
    cursor: str | None = None
    created_after: datetime | None = None
    created_before: datetime | None = None


PageQuery = NamedDependency[PageRequest]


def provide_page_query(*, default_size: int, max_size: int) -> Provide:
    """The `page` dependency of the whole application, with the sizes of its settings."""

    def page_query(
        limit: Annotated[
            int, QueryParameter(ge=1, le=max_size, description="How many to answer with at most.")
        ] = default_size,
        offset: Annotated[int, QueryParameter(ge=0, le=MAX_OFFSET, description="How many to pass over.")] = 0,
        q: Annotated[
            str | None,
            QueryParameter(max_length=64, pattern=LINE, description="Only those that contain this text."),
        ] = None,
        cursor: Annotated[
            str | None,
            QueryParameter(
                max_length=1000,
                description="Walk the list instead of paging: empty to start, then `next_cursor`.",
            ),
        ] = None,
        created_after: Annotated[
            str | None, QueryParameter(schema_extra=DATE_TIME, description="Only those made then or later.")
        ] = None,
        created_before: Annotated[
            str | None, QueryParameter(schema_extra=DATE_TIME, description="Only those made earlier.")
        ] = None,
    ) -> PageRequest:
        return PageRequest(
            limit=limit,
            offset=offset,
            q=q,
            cursor=cursor,
            created_after=_moment(created_after, field="created_after"),
            created_before=_moment(created_before, field="created_before"),
        )

    return Provide(page_query, sync_to_thread=False)


def contains(q: str | None, *columns: SQLColumnExpression[Any]) -> ColumnElement[bool]:
    """One of the columns contains the text, whatever its case; `%` and `_` mean themselves. True without text."""
    return or_(*[column.icontains(q, autoescape=True) for column in columns]) if q else true()


def equals(value: object, column: SQLColumnExpression[Any]) -> ColumnElement[bool]:
    """The column has this value. True without one."""
    return true() if value is None else column == value


class Sorting(NamedTuple):
    """An order in which no two rows are equal: by a column, then by id in the same direction."""

    name: str
    column: InstrumentedAttribute[Any]
    id: Any
    descending: bool

    @classmethod
    def by(cls, model: type[Model], name: str) -> "Sorting":
        """`name` as in the query: `title`, `-created_at`. It must come from an allow-list."""
        return cls(name, getattr(model, name.removeprefix("-")), model.id, name.startswith("-"))

    @property
    def is_nullable(self) -> bool:
        return bool(self.column.property.columns[0].nullable)

    def order(self) -> list[ColumnElement[Any]]:
        """Rows without a value come last, whichever the direction."""
        keys = [key.desc() if self.descending else key.asc() for key in (self.column, self.id)]
        return [keys[0].nulls_last() if self.is_nullable else keys[0], keys[1]]

    def after(self, value: object, id: UUID) -> ColumnElement[bool]:
        here, there = tuple_(self.column, self.id), tuple_(value, id)
        return here < there if self.descending else here > there


def paginate(
    session: AnySession,
    model: type[ModelT],
    *where: ColumnElement[bool],
    page: PageRequest,
    sort: str,
    into: type[SchemaT],
) -> Page[SchemaT]:
    """Answer a page in one query. Raises InvalidInputError for a cursor that is not of this list and order."""
    sorting = Sorting.by(model, sort)
    where = (*where, *_created_within(model, page))
    rows = select(model).where(*where).order_by(*sorting.order())
    if page.cursor is not None:
        return _walk(session, rows, page, sorting, into)
    total = select(func.count()).select_from(model).where(*where).scalar_subquery()
    found = session.execute(rows.add_columns(total).limit(page.limit).offset(page.offset)).all()
    # Past the last page there is no row to carry the total.
    count = found[0][1] if found else page.offset and session.scalar(select(total))
    return Page(items=[into.of(row) for row, _ in found], limit=page.limit, total=count or 0, offset=page.offset)


def _created_within(model: type[Model], page: PageRequest) -> list[ColumnElement[bool]]:
    conditions = []
    if page.created_after is not None:
        conditions.append(model.created_at >= page.created_after)
    if page.created_before is not None:
        conditions.append(model.created_at < page.created_before)
    return conditions


def _moment(text: str | None, *, field: str) -> datetime | None:
    """RFC 3339, or the same without an offset, which is taken as UTC. Litestar alone would also take numbers."""
    if text is None:
        return None
    try:
        found = msgspec.convert(text, datetime)
    except msgspec.ValidationError as error:
        raise InvalidInputError("This is not a time, such as 2026-01-31T12:00:00Z.", field=field) from error
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def _walk(
    session: AnySession, rows: Select[ModelT], page: PageRequest, sorting: Sorting, into: type[SchemaT]
) -> Page[SchemaT]:
    if sorting.is_nullable:
        raise InvalidInputError("In this order, the list is read in pages, with limit and offset.", field="cursor")
    if page.cursor:
        rows = rows.where(sorting.after(*_decode_cursor(page.cursor, sorting)))
    found = list(session.scalars(rows.limit(page.limit + 1)))
    here = found[: page.limit]
    return Page(
        items=[into.of(row) for row in here],
        limit=page.limit,
        next_cursor=_encode_cursor(here[-1], sorting) if len(found) > page.limit else None,
    )


def _encode_cursor(last: Model, sorting: Sorting) -> str:
    place = (sorting.name, getattr(last, sorting.column.key), last.id)
    return base64.urlsafe_b64encode(msgspec.json.encode(place)).decode()


def _decode_cursor(cursor: str, sorting: Sorting) -> tuple[Any, UUID]:
    try:
        name, raw, last_id = msgspec.json.decode(base64.urlsafe_b64decode(cursor), type=tuple[str, Any, UUID])
        value = msgspec.convert(raw, sorting.column.type.python_type)
    except ValueError as error:
        raise InvalidInputError("This is not a cursor from this list.", field="cursor") from error
    if name != sorting.name:
        raise InvalidInputError("This cursor was made for another order.", field="cursor")
    return value, last_id
