"""`litestar users`. Like `server/cli.py`, it imports no feature."""

import rich_click as click
from litestar import Litestar

from app.server.cli_refusals import plain_refusals

PAGE = 50


@click.group()
def users() -> None:
    """Manage accounts."""


@users.command()
@click.argument("email")
def create_administrator(app: Litestar, email: str) -> None:
    """Make an account that may do everything, and print its password once."""
    with plain_refusals():
        password = app.state.preparation.create_administrator(email=email)
    click.echo(f"Created the administrator {email} with the password {password} (not shown again).")


@users.command()
@click.argument("email")
@click.option("--first-name", required=True)
@click.option("--last-name", required=True)
@click.option("--administrator", is_flag=True, help="It may do everything.")
def create(app: Litestar, email: str, first_name: str, last_name: str, *, administrator: bool) -> None:
    """Make a verified account, and print its password once."""
    with plain_refusals():
        password = app.state.accounts.create(
            email=email, first_name=first_name, last_name=last_name, is_superuser=administrator
        )
    click.echo(f"Created {email} with the password {password} (not shown again).")


@users.command("list")
@click.option("--search", help="Only those whose address or name contains this.")
@click.option("--page", type=click.IntRange(1), default=1, show_default=True, help=f"Of {PAGE} accounts each.")
def list_users(app: Litestar, search: str | None, page: int) -> None:
    """List accounts, in the order of their addresses."""
    found = app.state.accounts.page(q=search, limit=PAGE, offset=(page - 1) * PAGE)
    for user in found.items:
        marks = {
            "administrator": user.is_superuser,
            "unverified": not user.is_verified,
            "deactivated": not user.is_active,
        }
        last_login = f"{user.last_login:%Y-%m-%d %H:%M}" if user.last_login else "never"
        shown = ", ".join(mark for mark, is_so in marks.items() if is_so)
        click.echo(f"{user.email}  {user.first_name} {user.last_name}  last sign-in {last_login}  {shown}".rstrip())
    click.echo(f"{found.total} in all.")


@users.command()
@click.argument("email")
def deactivate(app: Litestar, email: str) -> None:
    """End all sessions and API keys of an account, and let nobody sign in to it."""
    with plain_refusals():
        app.state.accounts.deactivate(email)
    click.echo(f"Deactivated {email}.")


@users.command()
@click.argument("email")
def make_admin(app: Litestar, email: str) -> None:
    """Let an account do everything. Its tokens say so from the next sign-in or refresh on."""
    with plain_refusals():
        app.state.accounts.make_administrator(email)
    click.echo(f"{email} is an administrator.")


@users.command()
@click.argument("email")
def roles(app: Litestar, email: str) -> None:
    """List the roles that were given to an account."""
    with plain_refusals():
        for name in app.state.accounts.roles(email):
            click.echo(name)


@users.command()
@click.argument("email")
@click.argument("role")
def grant_role(app: Litestar, email: str, role: str) -> None:
    """Give an account a role, from now on."""
    with plain_refusals():
        app.state.accounts.grant_role(email, role)
    click.echo(f"{email} has the role {role}.")


@users.command()
@click.argument("email")
@click.argument("role")
def revoke_role(app: Litestar, email: str, role: str) -> None:
    """Take a role from an account, at once."""
    with plain_refusals():
        app.state.accounts.revoke_role(email, role)
    click.echo(f"{email} no longer has the role {role}.")
