"""Migrations, as advanced-alchemy's `database` commands in Litestar's command line."""

from typing import Any

import rich_click as click
from advanced_alchemy.cli import add_migration_commands
from advanced_alchemy.config import AlembicSyncConfig, SQLAlchemySyncConfig
from alembic.util import CommandError
from litestar.plugins import CLIPluginProtocol
from sqlalchemy import URL, NullPool, create_engine

from app.db.metadata import METADATA, MIGRATIONS, VERSION_TABLE
from app.lib.settings import CHECKOUT, Settings
from app.server.commands.backups import DatabaseCommands, backup, restore
from app.server.commands.refusals import Commands, refuse

PROJECT_FILE = CHECKOUT / "pyproject.toml"
"""Has the formatter that new revisions go through; an installed package does without."""


def alchemy_config(url: URL | str) -> SQLAlchemySyncConfig:
    """For migrations only: a connection of its own, without the time-outs that requests have."""
    return SQLAlchemySyncConfig(
        engine_instance=create_engine(url, poolclass=NullPool),
        metadata=METADATA,
        alembic_config=AlembicSyncConfig(
            script_location=str(MIGRATIONS),
            toml_file=str(PROJECT_FILE) if PROJECT_FILE.exists() else None,
            version_table_name=VERSION_TABLE,
            compare_type=True,
            render_as_batch=False,
        ),
    )


class MigrationCommands(Commands):
    """Alembic's own refusals, too."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except CommandError as error:
            refuse(str(error))


class MigrationsPlugin(CLIPluginProtocol):
    """Only the commands of advanced-alchemy's plugin for Litestar: its sessions and its commit hook stay out
    (they lose errors that COMMIT raises; DESIGN decision 2)."""

    def __init__(self, config: SQLAlchemySyncConfig, settings: Settings) -> None:
        self._config = config
        self._settings = settings

    def on_cli_init(self, cli: click.Group) -> None:
        @click.pass_context
        def offer_config(context: click.Context) -> None:
            given = DatabaseCommands(self._config.get_engine(), self._settings)
            context.obj = {"configs": [self._config], "ours": given}

        group = MigrationCommands(
            name="database", aliases=["db"], callback=offer_config, help="Manage the database's tables."
        )
        add_migration_commands(group)
        del group.commands["init"]  # the migrations are there
        del group.commands["dump-data"]  # `backup` is for that: this one writes password hashes for everybody to read
        for command in (backup, restore):
            group.add_command(command)
        cli.add_command(group)
