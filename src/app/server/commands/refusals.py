"""What every command of ours has in common: refusals of one plain line, and lists that print JSON."""

import errno
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, NoReturn

import msgspec
import psycopg
import rich_click as click
from sqlalchemy.exc import DBAPIError, OperationalError

from app.lib.db.database import reason_of
from app.lib.errors import ApplicationError, InvalidInputError

json_option = click.option("--json", "as_json", is_flag=True, help="JSON instead of text.")
"""For every command that lists: it prints what `echo_items` does, and nothing else."""


class Commands(click.RichGroup):
    """A group whose commands end with one plain line and the exit code 1 when they are refused."""

    def invoke(self, ctx: click.Context) -> Any:
        with plain_refusals():
            return super().invoke(ctx)


def echo_items(items: Iterable[object], **more: object) -> None:
    """A list as JSON, in the one shape that all lists have: an object with `items`, and what is said beside them."""
    document = msgspec.json.encode({"items": [_named(item) for item in items], **more})
    click.echo(msgspec.json.format(document))


def refuse(reason: str) -> NoReturn:
    """Not through click, which draws a frame around it and breaks the line: this one can be searched for."""
    click.echo(f"Error: {reason}", err=True)
    raise SystemExit(1)


@contextmanager
def plain_refusals() -> Iterator[None]:
    """What a command is refused, in one line."""
    try:
        yield
    except InvalidInputError as error:
        refuse(error.message)
    except ApplicationError as error:
        refuse(error.detail)
    except DBAPIError as error:
        refuse(_of_database(error))
    except OSError as error:
        if error.errno == errno.EPIPE:  # whoever reads has read enough; click ends quietly
            raise
        refuse(f"{error.filename or 'The output'}: {(error.strerror or str(error)).lower()}.")
    except click.UsageError:
        raise
    except click.ClickException as error:
        refuse(error.format_message())


def _of_database(error: DBAPIError) -> str:
    if isinstance(error.orig, psycopg.errors.UndefinedTable | psycopg.errors.UndefinedColumn):
        return "The database lacks tables of this version: run `litestar database upgrade --no-prompt`."
    if isinstance(error, OperationalError):
        return f"The database does not answer: {reason_of(error)} (`litestar doctor` says more)"
    return f"The database refused: {reason_of(error)}"


def _named(item: object) -> object:
    """msgspec writes a named tuple as an array, which says nothing."""
    return item._asdict() if isinstance(item, tuple) and hasattr(item, "_asdict") else item
