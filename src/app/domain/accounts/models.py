from uuid import UUID

from sqlalchemy import ColumnElement, ForeignKey, String, select
from sqlalchemy.orm import Mapped, mapped_column

from app.domain.users.models import User
from app.lib.db.models import Model
from app.lib.pagination import contains


class Closure(Model):
    """An account that was deleted: the row of the user is empty and goes a little later, and this one with it.

    Until then it remembers where to send the farewell.
    """

    __tablename__ = "closures"

    user_id: Mapped[UUID] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"), unique=True)
    email: Mapped[str] = mapped_column(String(254))


def is_named(q: str | None) -> ColumnElement[bool]:
    """By address or name. True without text."""
    return contains(q, User.email, User.first_name + " " + User.last_name)


def is_not_closed() -> ColumnElement[bool]:
    """A condition on users."""
    return User.id.not_in(select(Closure.user_id))
