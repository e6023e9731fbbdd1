"""`litestar worker`. Like `server/cli.py`, it imports no feature."""

import asyncio
import contextlib
import logging
import os
from typing import Any

import rich_click as click
from litestar import Litestar

from app.lib.settings import get_settings
from app.server.postgres import EmbeddedPostgresPlugin
from app.server.postgres_account import PostgresError

GRACE = 30
"""Seconds that running jobs have left when the worker is stopped."""

_concurrency = click.option(
    "--concurrency", type=click.IntRange(1), help="Jobs at the same time.  [default: JOB_CONCURRENCY]"
)
_grace = click.option(
    "--grace", type=click.IntRange(0), default=GRACE, show_default=True, help="Seconds that jobs have left at a stop."
)


@click.command()
@_concurrency
@_grace
def worker(app: Litestar, concurrency: int | None, grace: int) -> None:
    """Run jobs until Ctrl-C or SIGTERM. Any number of workers may run, on any machines."""
    embedded = EmbeddedPostgresPlugin.of(app)
    try:
        with embedded.embedded if embedded else contextlib.nullcontext():
            _serve(app.state.build_worker(concurrency=concurrency or get_settings().job_concurrency, grace=grace))
    except PostgresError as error:
        raise click.ClickException(str(error)) from error


def _serve(job_worker: Any) -> None:
    if not asyncio.run(job_worker.serve()):
        logging.shutdown()
        os._exit(1)  # a thread cannot be stopped, and would keep the process; its job is back in the queue


@click.group()
def workers() -> None:
    """Run jobs, under the name that SAQ's own plugin for Litestar has."""


workers.add_command(worker, "run")
