"""Whose tables are in the database: those of this version's code, of an older one, or of a newer one?"""

from collections.abc import Collection
from enum import StrEnum

from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection

from app.db.metadata import MIGRATIONS, VERSION_TABLE


class Tables(StrEnum):
    CURRENT = "current"
    OLDER = "older"
    NEWER = "newer"


class Revisions:
    """Of the migrations that this version comes with. To read them takes files, and no database."""

    def __init__(self) -> None:
        scripts = ScriptDirectory(str(MIGRATIONS))
        self.heads = set(scripts.get_heads())
        self.known = {script.revision for script in scripts.walk_revisions()}

    def compare(self, applied: Collection[str]) -> Tables:
        """What tables are to which these have been applied."""
        if set(applied) == self.heads:
            return Tables.CURRENT
        return Tables.OLDER if self.known.issuperset(applied) else Tables.NEWER

    def lack(self, connection: Connection) -> str:
        """What must be done before this version can work with the database; "" when nothing must.

        Tables of a newer version suit it, too: they are there before its code is, and until then this one serves.
        """
        tables = self.compare(applied_revisions(connection))
        return "run `database upgrade`" if tables is Tables.OLDER else ""


def applied_revisions(connection: Connection) -> list[str]:
    """None in a database without any tables."""
    context = MigrationContext.configure(connection, opts={"version_table": VERSION_TABLE})
    return sorted(context.get_current_heads())
