"""The application's database inside the transaction of a test."""

from typing import Any

from sqlalchemy import Connection

from app.lib.db.database import Database, reading_sessions, writing_sessions


class OneConnection(Database):
    """The database inside the test's transaction: every commit is a savepoint."""

    def __init__(self, connection: Connection, session_info: dict[str, Any]) -> None:
        self.engine = connection.engine
        self._replicas = []
        self._writer = writing_sessions(connection, join_transaction_mode="create_savepoint", info=session_info)
        self._primary_reader = reading_sessions(connection)
        self._primary_reader.configure(join_transaction_mode="create_savepoint")
        self._readers = [self._primary_reader]
