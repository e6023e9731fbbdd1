from uuid import UUID

from sqlalchemy import ForeignKey, Index, String, Text
from sqlalchemy.orm import Mapped, mapped_column

from app.lib.db.models import Model


class Post(Model):
    """Something written for others: a draft until it is published. Its owner is its author."""

    __tablename__ = "posts"
    __table_args__ = (Index(None, "owner_id", "created_at", "id"), Index(None, "created_at", "id"))
    access_attributes = ("owner_id", "published")

    owner_id: Mapped[UUID] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"))
    title: Mapped[str] = mapped_column(String(200))
    body: Mapped[str] = mapped_column(Text)
    published: Mapped[bool] = mapped_column(default=False)
