from datetime import datetime

from sqlalchemy import String
from sqlalchemy.orm import Mapped, mapped_column

from app.lib.db.models import Model, utc_now


class User(Model):
    """A person with an account. `email` is stored in its canonical form only."""

    __tablename__ = "users"

    email: Mapped[str] = mapped_column(String(254), unique=True)
    password_hash: Mapped[str | None] = mapped_column(String(255), default=None)
    first_name: Mapped[str] = mapped_column(String(100))
    last_name: Mapped[str] = mapped_column(String(100))
    phone: Mapped[str | None] = mapped_column(String(32), default=None)
    avatar_url: Mapped[str | None] = mapped_column(String(500), default=None)
    is_active: Mapped[bool] = mapped_column(default=True)
    is_verified: Mapped[bool] = mapped_column(default=False)
    is_superuser: Mapped[bool] = mapped_column(default=False)
    last_login: Mapped[datetime | None] = mapped_column(default=None)

    @property
    def known_name(self) -> str:
        """For mails. Empty before the address is verified: anybody can have typed it, to say something in our mail.

        Those who came from a provider may have no last name.
        """
        return f"{self.first_name} {self.last_name}".strip() if self.is_verified else ""

    def notice_key(self, kind: str) -> str | None:
        """For `enqueue` with `once`. Who knows whose an unverified address is: it gets one notice of a kind a day."""
        return None if self.is_verified else f"{kind}:{self.id}:{utc_now().date()}"
