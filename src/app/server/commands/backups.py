"""`litestar database backup` and `litestar database restore`."""

import contextlib
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple, TypedDict

import psycopg
import rich_click as click
from sqlalchemy import Engine
from sqlalchemy.exc import DBAPIError

from app.lib.settings import Settings
from app.lib.storage import Storage, StorageUnavailableError
from app.server.backups.audit_trail import record_backup
from app.server.backups.backups import Backups, where
from app.server.backups.files import Manifest
from app.server.backups.programs import BackupError
from app.server.backups.restoration import Restoration
from app.server.backups.restored_state import Aftermath, Wishes
from app.server.commands.progress import progress
from app.server.commands.refusals import plain_refusals, refuse

SHOWN_FILES = 10


class DatabaseCommands(NamedTuple):
    """What these commands work with. `engine`: that of migrations, which has no time-outs."""

    engine: Engine
    settings: Settings


class Given(TypedDict):
    """The `obj` of the group to which they belong."""

    ours: DatabaseCommands


file_argument = click.argument("file", type=click.Path(path_type=Path))


@click.command()
@file_argument
@click.option("--overwrite", is_flag=True, help="Replace FILE when it is there already.")
@click.option(
    "--verify/--no-verify", default=True, show_default=True, help="Restore it into an empty database, compare."
)
@click.pass_obj
def backup(given: Given, file: Path, *, overwrite: bool, verify: bool) -> None:
    """Write all tables, as they are at one moment, to FILE. The API goes on meanwhile.

    FILE is an archive of pg_dump, readable for its owner only, with a list of what is in it. It holds everything that
    the database does, so keep it as safe. The contents of uploaded files are not in it: they are in the storage.
    """
    with _plain_refusals("No file was written."), progress() as report:
        engine, settings = given["ours"]
        made = Backups(engine, version=settings.version).back_up(
            file.absolute(), overwrite=overwrite, is_verified=verify, report=report
        )
    _record(engine, made, file.absolute(), is_verified=verify)
    verified = "restored into an empty database and compared" if verify else "not verified"
    click.echo(f"{file}: {len(made.tables)} tables, {made.rows} rows, revision {_revision(made)}, {verified}.")


def _record(engine: Engine, made: Manifest, file: Path, *, is_verified: bool) -> None:
    """There is a backup, also of a database that cannot be written to any more."""
    try:
        record_backup(engine, made, file, is_verified=is_verified)
    except DBAPIError as error:
        click.echo(f"The audit log does not have it: {_words_of(error.orig)}.", err=True)


@click.command()
@file_argument
@click.option("--clean", is_flag=True, help="Replace what is in the database.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--keep-sessions", is_flag=True, help="Let people stay signed in.  [default: everybody signs in again]")
@click.option(
    "--drop-jobs", is_flag=True, help="Forget the jobs that waited or ran.  [default: they run, once more perhaps]"
)
@click.option(
    "--privileges/--no-privileges", default=True, show_default=True, help="Give the rights of other roles back."
)
@click.option(
    "--copy", "is_copy", is_flag=True, help="The original lives on: leave its files alone, drop jobs, end sessions."
)
@click.pass_obj
def restore(
    given: Given,
    file: Path,
    *,
    clean: bool,
    yes: bool,
    keep_sessions: bool,
    drop_jobs: bool,
    privileges: bool,
    is_copy: bool,
) -> None:
    """Make the database what it was when FILE was written. All of it, or nothing.

    A running API answers 503 meanwhile, and goes on by itself. A database that is not there is made.
    """
    engine, settings = given["ours"]
    wishes = Wishes(
        is_replacing=clean,
        keeps_sessions=keep_sessions,
        drops_jobs=drop_jobs,
        with_privileges=privileges,
        is_copy=is_copy,
    )
    with _plain_refusals("Nothing was changed."), progress() as report:
        restoration = Restoration(engine, file, report=report)
        with restoration.database():
            if clean and not yes and (replaced := restoration.replaced()):
                click.confirm(f"{where(engine)} has {replaced}. Replace them?", abort=True, err=True)
            aftermath = restoration.run(wishes)
    _describe(restoration.manifest, aftermath, wishes)
    if not is_copy:
        _describe_files(restoration, Storage.of(settings))
    if restoration.is_older:
        click.echo(
            "These are older tables than this version of Keel uses: run `litestar database upgrade --no-prompt`."
        )


def _describe(manifest: Manifest, after: Aftermath, wishes: Wishes) -> None:
    made = f"{manifest.made_at:%Y-%m-%d %H:%M:%S} UTC"
    click.echo(f"Restored {len(manifest.tables)} tables, {manifest.rows} rows, as they were on {made}.")
    if after.ended_sessions:
        click.echo(
            f"Ended {after.ended_sessions} sessions{', as they had been since' if wishes.keeps_sessions else ''}."
        )
    if wishes.keeps_sessions and after.live_sessions and not after.is_informed:
        click.echo(f"{after.live_sessions} sessions go on, also those that had been ended since.")
    if after.live_keys and not after.is_informed:
        click.echo(f"{after.live_keys} API keys are good, also those that had been revoked since.")
    if after.revoked_keys:
        click.echo(f"Revoked {after.revoked_keys} API keys, as they had been since.")
    if after.kept_events:
        click.echo(f"Kept {after.kept_events} events of the audit log that are newer.")
    if after.dropped_jobs:
        click.echo(f"Dropped {after.dropped_jobs} jobs.")
    if after.pending_jobs:
        click.echo(f"{after.pending_jobs} jobs will run, once more perhaps.")


def _describe_files(restoration: Restoration, storage: Storage) -> None:
    try:
        with progress() as report:
            missing = restoration.missing_blobs(storage, report=report)
    except StorageUnavailableError as error:
        click.echo(f"Whether the files are there is not known: {error.detail}", err=True)
        return
    if missing:
        shown = ", ".join(map(str, missing[:SHOWN_FILES])) + (", ..." if len(missing) > SHOWN_FILES else "")
        click.echo(f"{len(missing)} files have lost their content, which is not in the storage: {shown}")


def _revision(manifest: Manifest) -> str:
    return ", ".join(manifest.revisions)


@contextlib.contextmanager
def _plain_refusals(after: str) -> Iterator[None]:
    """One line, whatever it was; `after` says how things are then. SIGTERM stops in order, as Ctrl-C does."""
    try:
        with plain_refusals(), _plain_refusals_of_database(after), _stopping_in_order():
            yield
    except BackupError as error:
        refuse(str(error))
    except KeyboardInterrupt:
        refuse(f"Stopped. {after}")
    except click.Abort:
        refuse(f"Not confirmed: say --yes. {after}")


@contextlib.contextmanager
def _stopping_in_order() -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        yield  # signals are the main thread's
        return
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextlib.contextmanager
def _plain_refusals_of_database(after: str) -> Iterator[None]:
    """Of what PostgreSQL refuses while it is restored, also what it is about."""
    try:
        yield
    except DBAPIError as error:
        refuse(f"The database refused: {_words_of(error.orig)}. {after}")
    except psycopg.Error as error:
        refuse(f"The database refused: {_words_of(error)}. {after}")


def _words_of(error: BaseException | None) -> str:
    """What it says, and the first of what it is about."""
    detail = error.diag.message_detail if isinstance(error, psycopg.Error) else None
    about = f" ({detail.splitlines()[0]})" if detail else ""
    return f"{str(error).strip().splitlines()[0]}{about}"
