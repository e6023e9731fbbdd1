"""`litestar roles`. Like `server/commands/up.py`, it imports no feature."""

import rich_click as click
from litestar import Litestar

from app.server.commands.refusals import Commands, echo_items, json_option


@click.group(cls=Commands)
def roles() -> None:
    """Look at roles, give and take them."""


@roles.command("list")
@click.option("--user", "email", metavar="EMAIL", help="Only those that were given to this account.")
@json_option
def list_roles(app: Litestar, email: str | None, *, as_json: bool) -> None:
    """List roles, in the order of their names."""
    found = app.state.accounts.roles_of(email) if email else app.state.accounts.roles()
    if as_json:
        echo_items(found)
        return
    for role in found:
        click.echo(f"{role.name}  {role.description}".rstrip())


@roles.command()
@click.argument("email")
@click.argument("role")
def grant(app: Litestar, email: str, role: str) -> None:
    """Give an account a role, from now on."""
    app.state.accounts.grant_role(email, role)
    click.echo(f"{email} has the role {role}.")


@roles.command()
@click.argument("email")
@click.argument("role")
def revoke(app: Litestar, email: str, role: str) -> None:
    """Take a role from an account, at once."""
    app.state.accounts.revoke_role(email, role)
    click.echo(f"{email} no longer has the role {role}.")
