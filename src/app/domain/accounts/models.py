from uuid import UUID

from sqlalchemy import ForeignKey, String
from sqlalchemy.orm import Mapped, mapped_column

from app.lib.db.models import Model


class Closure(Model):
    """An account that was deleted: the row of the user is empty and goes a little later, and this one with it.

    Until then it remembers where to send the farewell.
    """

    __tablename__ = "closures"

    user_id: Mapped[UUID] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"), unique=True)
    email: Mapped[str] = mapped_column(String(254))
