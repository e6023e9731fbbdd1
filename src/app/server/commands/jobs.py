"""`litestar worker`. Like `server/commands/up.py`, it imports no feature."""

import asyncio
import contextlib
import logging
import os
import shlex
import sys
from collections.abc import Iterator

import rich_click as click
from litestar import Litestar
from litestar.datastructures import State
from watchfiles import run_process

from app.lib.db.database import Database
from app.lib.settings import CHECKOUT, get_settings
from app.server.metrics.figures import worker_metrics
from app.server.postgres.account import PostgresError
from app.server.postgres.embedded import EmbeddedPostgresPlugin
from app.server.serving.processes import RECORD_VARIABLE, join_process

GRACE = 30


@click.command()
@click.option("--concurrency", type=click.IntRange(1), help="Jobs at the same time.  [default: JOB_CONCURRENCY]")
@click.option(
    "--grace",
    type=click.IntRange(0),
    default=GRACE,
    show_default=True,
    help="Seconds that running jobs have left when it is stopped.",
)
@click.option("--reload", is_flag=True, help="Start again when code changes.")
def worker(app: Litestar, concurrency: int | None, grace: int, *, reload: bool) -> None:
    """Run jobs until Ctrl-C or SIGTERM. Any number of workers may run, on any machines."""
    if RECORD_VARIABLE in os.environ:
        join_process()
    concurrency = concurrency or get_settings().job_concurrency
    if reload:
        _reload(concurrency=concurrency, grace=grace)
        return
    embedded = EmbeddedPostgresPlugin.of(app)
    try:
        with embedded.embedded if embedded else contextlib.nullcontext():
            job_worker = app.state.build_worker(concurrency=concurrency, grace=grace)
            with _watched(app.state, job_worker.database):
                is_done = asyncio.run(job_worker.serve())
    except PostgresError as error:
        raise click.ClickException(str(error)) from error
    if not is_done:
        logging.shutdown()
        os._exit(0)  # a thread cannot be stopped, and would keep the process; its job is back in the queue


@contextlib.contextmanager
def _watched(state: State, database: Database) -> Iterator[None]:
    """Its metrics and traces, as far as they are wanted."""
    with contextlib.ExitStack() as watched:
        if state.metrics:
            watched.enter_context(worker_metrics(state.metrics, database, state.settings))
        if state.tracing:
            watched.enter_context(state.tracing.running())
        yield


def _reload(*, concurrency: int, grace: int) -> None:
    command = [sys.executable, "-m", "litestar", "worker"]
    command += ["--concurrency", str(concurrency), "--grace", str(grace)]
    run_process(CHECKOUT / "src", target=shlex.join(command), target_type="command", sigint_timeout=grace + 1)


@click.group()
def workers() -> None:
    """Run jobs, under the name that SAQ's own plugin for Litestar has."""


workers.add_command(worker, "run")
