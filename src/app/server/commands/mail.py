"""`litestar mail`. Like `server/commands/up.py`, it imports no feature."""

import rich_click as click
from litestar import Litestar

from app.lib.mail.rendering import UnknownMailError
from app.server.commands.refusals import Commands, echo_items, json_option, refuse


@click.group(cls=Commands)
def mail() -> None:
    """Look at the mails that this application sends."""


@mail.command("list")
@json_option
def list_mails(app: Litestar, *, as_json: bool) -> None:
    """List their names."""
    names = app.state.mailer.templates.names()
    if as_json:
        echo_items({"name": name} for name in names)
        return
    for name in names:
        click.echo(name)


@mail.command()
@click.argument("name")
@click.option("--html", "as_html", is_flag=True, help="The HTML instead of the subject and the text.")
def preview(app: Litestar, name: str, as_html: bool) -> None:  # noqa: FBT001  (click passes options by name)
    """Print a mail, such as accounts/farewell, made of its sample values."""
    try:
        letter = app.state.mailer.templates.render_sample(name)
    except UnknownMailError as error:
        refuse(str(error))
    click.echo(letter.html if as_html else f"Subject: {letter.subject}\n\n{letter.text}")
