"""`litestar seed`. Like `server/commands/up.py`, it imports no feature."""

import rich_click as click
from litestar import Litestar

from app.lib.settings import Settings
from app.server.commands.progress import progress
from app.server.commands.refusals import plain_refusals, refuse

MOST = 1_000_000
PASSWORD = "four sample horses graze"


@click.command()
@click.option(
    "--count", type=click.IntRange(1, MOST), default=100, show_default=True, help="Accounts to have in the end."
)
@click.option("--allow-production", is_flag=True, help="Do it where APP_ENV is production, too.")
def seed(app: Litestar, count: int, *, allow_production: bool) -> None:
    """Fill the database with accounts, roles, items and posts to look at: the same ones every time.

    What is there already is left as it is. In development, all of the accounts have one password, which is printed.
    Elsewhere they have none, and nobody can sign in to them.
    """
    settings: Settings = app.state.settings
    if settings.is_production and not allow_production:
        refuse("This is production (APP_ENV): to fill it with sample data, say --allow-production.")
    password = PASSWORD if settings.app_env == "development" else None
    with plain_refusals(), progress() as report:
        made = app.state.preparation.make_sample_data(count, password=password, report=report)
    click.echo(f"Made {made} accounts with their items and posts; {count - made} were there.")
    if made and password:
        click.echo(f"Their password is: {password}")
