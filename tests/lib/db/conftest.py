"""A database of the test's own, and what is stored in it."""

from collections.abc import Callable, Iterator

import pytest
from sqlalchemy import URL, NullPool, create_engine, select
from sqlalchemy.orm import Session

from app.domain.users.models import User
from app.lib.db.database import Database
from app.lib.errors import ApplicationError
from tests.factories.users import UserFactory


class RefusedError(ApplicationError):
    pass


class RefusedButRecordedError(ApplicationError):
    keeps_writes = True


@pytest.fixture
def database(live_database: URL) -> Iterator[Database]:
    database = Database(live_database, pool_size=4)
    yield database
    database.dispose()


@pytest.fixture
def names(live_database: URL) -> Callable[[], list[str]]:
    """The first names that are stored, read with a fresh connection."""

    def read() -> list[str]:
        engine = create_engine(live_database, poolclass=NullPool)
        with engine.connect() as connection:
            return list(connection.scalars(select(User.first_name).order_by(User.first_name)))

    return read


def add(session: Session, name: str) -> User:
    user = UserFactory.build(first_name=name)
    session.add(user)
    return user
