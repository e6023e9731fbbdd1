"""What a database needs before the first request: its tables, somebody who may administrate, and, to try it, people."""

import secrets

from advanced_alchemy.alembic.commands import AlembicCommands
from advanced_alchemy.config import SQLAlchemySyncConfig
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from app.domain.users.services import UserService
from app.lib.db.database import Database
from app.lib.errors import ConflictError
from app.lib.passwords import Passwords
from app.server.commands.progress import Report
from app.server.sample_data import SampleData


class Preparation:
    """Found by the command line in `app.state.preparation`."""

    def __init__(self, alchemy: SQLAlchemySyncConfig, database: Database, passwords: Passwords) -> None:
        self._alchemy = alchemy
        self._database = database
        self._passwords = passwords

    def migrate(self) -> None:
        """Upgrade to the newest revision; nothing happens when the database is there already."""
        AlembicCommands(self._alchemy).upgrade()

    def create_first_administrator(self, *, email: str) -> str | None:
        """The generated password, or None when there is an administrator already. A replica might not know yet."""
        if self._database.write(lambda session: UserService(session).has_administrator()):
            return None
        return self.create_administrator(email=email)

    def create_administrator(self, *, email: str) -> str:
        """The generated password. Raises ConflictError when the address has an account, InvalidInputError."""
        password = secrets.token_urlsafe(16)

        def create(session: Session) -> None:
            UserService(session).create_administrator(email=email, password_hash=self._passwords.hash(password))

        try:
            self._database.write(create)
        except IntegrityError as error:
            raise ConflictError("This address has an account already.") from error
        return password

    def make_sample_data(self, count: int, *, password: str | None, report: Report) -> int:
        """Have that many accounts to look at (`server/sample_data.py`). Returns how many were made."""
        password_hash = self._passwords.hash(password) if password else None
        return SampleData(self._database).make(count, password_hash=password_hash, report=report)
