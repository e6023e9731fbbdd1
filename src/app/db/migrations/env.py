"""How Alembic finds the tables and talks to the database. Run by `litestar database ...`."""

from typing import TYPE_CHECKING, Any, cast

from alembic import context
from sqlalchemy import Engine

from app.db.metadata import METADATA

if TYPE_CHECKING:
    from advanced_alchemy.alembic.commands import AlembicCommandConfig

config = cast("AlembicCommandConfig", context.config)
OPTIONS: dict[str, Any] = {
    "target_metadata": METADATA,
    "version_table": config.version_table_name,
    "compare_type": config.compare_type,
    "compare_server_default": True,
    "transaction_per_migration": True,
    "user_module_prefix": config.user_module_prefix,
}


def run_offline() -> None:
    """Print the SQL instead of running it."""
    context.configure(url=config.db_url, literal_binds=True, dialect_opts={"paramstyle": "named"}, **OPTIONS)
    with context.begin_transaction():
        context.run_migrations()


def run_online() -> None:
    with cast("Engine", config.engine).connect() as connection:
        context.configure(connection=connection, **OPTIONS)
        with context.begin_transaction():
            context.run_migrations()


if context.is_offline_mode():
    run_offline()
else:
    run_online()
