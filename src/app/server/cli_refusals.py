from collections.abc import Iterator
from contextlib import contextmanager

import rich_click as click

from app.lib.errors import ApplicationError, InvalidInputError


@contextmanager
def plain_refusals() -> Iterator[None]:
    """What a command is refused, in one line."""
    try:
        yield
    except InvalidInputError as error:
        raise click.ClickException(error.message) from error
    except ApplicationError as error:
        raise click.ClickException(error.detail) from error
