"""`litestar users`. Like `server/commands/up.py`, it imports no feature."""

import rich_click as click
from litestar import Litestar

from app.server.commands.refusals import Commands, echo_items, json_option

PAGE = 50


@click.group(cls=Commands)
def users() -> None:
    """Manage accounts."""


@users.command()
@click.argument("email")
@click.option("--first-name", required=True)
@click.option("--last-name", required=True)
@click.option("--administrator", is_flag=True, help="It may do everything.")
def create(app: Litestar, email: str, first_name: str, last_name: str, *, administrator: bool) -> None:
    """Make a verified account, and print its password once."""
    password = app.state.accounts.create(
        email=email, first_name=first_name, last_name=last_name, is_superuser=administrator
    )
    click.echo(f"Created {email} with the password {password} (not shown again).")


@users.command("list")
@click.option("--search", help="Only those whose address or name contains this.")
@click.option("--page", type=click.IntRange(1), default=1, show_default=True, help=f"Of {PAGE} accounts each.")
@json_option
def list_users(app: Litestar, search: str | None, page: int, *, as_json: bool) -> None:
    """List accounts, in the order of their addresses."""
    found = app.state.accounts.page(q=search, limit=PAGE, offset=(page - 1) * PAGE)
    if as_json:
        echo_items(found.items, total=found.total, page=page)
        return
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
def promote(app: Litestar, email: str) -> None:
    """Let an account do everything. Its tokens say so from the next sign-in or refresh on."""
    app.state.accounts.make_administrator(email)
    click.echo(f"{email} is an administrator.")


@users.command()
@click.argument("email")
def deactivate(app: Litestar, email: str) -> None:
    """End all sessions and API keys of an account, and let nobody sign in to it."""
    app.state.accounts.deactivate(email)
    click.echo(f"Deactivated {email}.")


@users.command()
@click.argument("email")
@click.option("--mail", is_flag=True, help="Send a link for a password of their own instead of printing one.")
def reset_password(app: Litestar, email: str, *, mail: bool) -> None:
    """Take the password of an account with all access, and print another one once.

    Sessions, API keys and linked providers end; the second factor stays. The owner is told by mail.
    """
    if mail:
        app.state.accounts.take_password(email)
        click.echo(f"{email} gets a link for a new password.")
        return
    password = app.state.accounts.reset_password(email)
    click.echo(f"The password of {email} is {password} (not shown again).")
