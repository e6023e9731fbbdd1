"""`litestar openapi`. Like `server/commands/up.py`, it imports no feature."""

import sys
from pathlib import Path
from typing import Any

import msgspec
import rich_click as click
from litestar import Litestar
from litestar.serialization import encode_json, get_serializer

from app.server.commands.refusals import Commands, echo_items, json_option, refuse
from app.server.openapi.changes import changes
from app.server.openapi.documents import UnreadableDescriptionError, read_description

description_file = click.Path(exists=True, dir_okay=False, allow_dash=True, path_type=Path)


@click.group(cls=Commands)
def openapi() -> None:
    """Write the description of the API, and compare it with another one."""


@openapi.command()
@click.argument("file", required=False, type=click.Path(dir_okay=False, path_type=Path))
def export(app: Litestar, file: Path | None) -> None:
    """Write the description of the API as JSON to FILE, or print it. The same routes make the same bytes."""
    written = _description(app)
    if file is None:
        click.echo(written)
        return
    file.write_bytes(written)


@openapi.command()
@click.argument("old", type=description_file)
@click.argument("new", required=False, type=description_file)
@json_option
def diff(app: Litestar, old: Path, new: Path | None, *, as_json: bool) -> None:
    """Say how NEW, or this application, differs from OLD. Exit 1 when that breaks clients.

    OLD and NEW are files that `export` has written; `-` is standard input.
    """
    try:
        found = changes(_read(old), _read(new) if new else read_description(_description(app)))
    except UnreadableDescriptionError as error:
        refuse(str(error))
    except RecursionError:
        refuse("A schema is nested without an end: these two cannot be compared.")
    breaking = [change for change in found if change.is_breaking]
    if as_json:
        echo_items(found, breaking=len(breaking))
    else:
        for change in found:
            click.echo(f"{'breaking' if change.is_breaking else 'harmless'}  {change.where}: {change.what}")
        click.echo(f"{len(found) or 'No'} {'change' if len(found) == 1 else 'changes'}, {len(breaking)} breaking.")
    sys.exit(1 if breaking else 0)


def _description(app: Litestar) -> bytes:
    """As `litestar schema openapi` writes it."""
    document = encode_json(app.openapi_schema.to_schema(), serializer=get_serializer(app.type_encoders))
    return msgspec.json.format(document, indent=4)


def _read(file: Path) -> dict[str, Any]:
    try:
        content = sys.stdin.buffer.read() if str(file) == "-" else file.read_bytes()
        return read_description(content)
    except UnreadableDescriptionError as error:
        raise UnreadableDescriptionError(f"{file}: {error}") from error
