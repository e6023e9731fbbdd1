"""Our commands among Litestar's, whose entry point imports this module; that alone names our application.

Whatever imports Litestar's CLI, as advanced-alchemy does, imports this module: so it must import neither
advanced-alchemy nor the features. What it needs of them it gets from the application it is handed.
"""

import contextlib
import fcntl
import http.client
import os
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import FrameType
from typing import NoReturn, Protocol

import rich_click as click
from litestar import Litestar
from sqlalchemy.exc import OperationalError
from watchfiles import watch

from app.lib.db.database import reason_of
from app.lib.errors import ApplicationError
from app.lib.settings import CHECKOUT, LOOPBACK, Settings, get_settings
from app.server.postgres.account import PostgresError
from app.server.postgres.embedded import EmbeddedPostgresPlugin
from app.server.serving.listening import ListenError, refuse_port_of_metrics, refuse_taken_port
from app.server.serving.processes import ChildProcess, ProcessError
from app.server.serving.supervisor import Serving

APPLICATION = "app.server.asgi:create_app"
APPLICATION_TO_DIAGNOSE = "app.server.doctor.diagnosis:create_app"
DIAGNOSES = {"doctor", "check"}
"""Commands that have something to say when the application does not start; Litestar starts it before any command."""
if os.environ.setdefault("LITESTAR_APP", APPLICATION) == APPLICATION and DIAGNOSES.intersection(sys.argv[1:2]):
    os.environ["LITESTAR_APP"] = APPLICATION_TO_DIAGNOSE

ADMINISTRATOR = "admin@example.com"
STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
START_DEADLINE = 60.0
REQUEST_GRACE = 10  # seconds that running requests have left when the API stops
JOB_GRACE = 10  # and those that running jobs have
POLL_INTERVAL = 0.05
LOOPBACK_OF = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104  (where to look for one that listens everywhere)


class Preparation(Protocol):
    """What `up` asks of the application (`app.state.preparation`) once the database runs."""

    def migrate(self) -> None: ...

    def create_first_administrator(self, *, email: str) -> str | None:
        """The password, or None when there is an administrator already."""


class UpError(RuntimeError):
    """`up` cannot go on. The text is one plain line."""


@click.command()
@click.option("--host", help="Address to listen on.  [default: HOST]")
@click.option("--port", type=click.IntRange(1, 65535), help="Port to listen on.  [default: PORT]")
@click.option("--workers", type=click.IntRange(1), default=1, show_default=True, help="Processes of the API.")
def up(app: Litestar, host: str | None, port: int | None, workers: int) -> None:
    """Start everything (database, migrations, administrator, API), serve until Ctrl-C, stop everything."""
    settings = get_settings()
    host, port = host or settings.host, port or settings.port
    _tell_children_where_they_are(settings, port)
    _stop_on_signals()
    try:
        with contextlib.ExitStack() as running:
            refuse_port_of_metrics(port, settings.metrics_port)
            running.enter_context(_only_one_up(settings.local_dir))
            children = _children(settings, host=host, port=port, workers=workers)
            for child in children:
                child.end_leftover()
            refuse_taken_port(host, port)
            if embedded := EmbeddedPostgresPlugin.of(app):
                _say("Starting PostgreSQL.")
                running.enter_context(embedded.embedded)
            _say("Migrating the database.")
            _prepare(app.state.preparation)
            for child in children:
                _say(f"Starting the {child.name}.")
                running.callback(child.stop)
                child.start()
            _wait_until_live(host, port, children)
            _say(_welcome(settings, host, port, mailbox_path=app.state.mailbox_path))
            running.callback(_say, "Stopping.")
            _wait_for_an_end(children, is_reloaded=settings.reload)
    except KeyboardInterrupt:
        _say("Stopped.")
    except OperationalError as error:
        _say(f"Error: the database does not answer: {reason_of(error)}")
        sys.exit(1)
    except (UpError, ListenError, ProcessError, PostgresError) as error:
        _say(f"Error: {error}")
        sys.exit(1)


def _tell_children_where_they_are(settings: Settings, port: int) -> None:
    """Links in mails begin with PUBLIC_URL, whose default knows nothing of --port."""
    if "public_url" not in settings.model_fields_set:
        os.environ["PUBLIC_URL"] = f"http://localhost:{port}"


def _children(settings: Settings, *, host: str, port: int, workers: int) -> Sequence[ChildProcess]:
    """The processes of this application, in the order they start; they stop in the reverse one."""
    api = Serving(
        host=host,
        port=port,
        workers=workers,
        grace=REQUEST_GRACE,
        reload_path=str(CHECKOUT / "src") if settings.reload else None,
        is_quiet=True,
    )
    worker = [sys.executable, "-m", "litestar", "worker", "--grace", str(JOB_GRACE)]
    if settings.reload:
        worker.append("--reload")
    records = settings.local_dir / "processes"
    return [
        ChildProcess("worker", worker, record=records / "worker", grace=JOB_GRACE + 5),
        ChildProcess("API", api.command, record=records / "api", grace=REQUEST_GRACE + 5),
    ]


def _prepare(preparation: Preparation) -> None:
    preparation.migrate()
    try:
        password = preparation.create_first_administrator(email=ADMINISTRATOR)
    except ApplicationError:
        _say(f"{ADMINISTRATOR} is no active administrator: make one with `litestar users create --administrator`.")
        return
    if password:
        _say(f"Created the administrator {ADMINISTRATOR} with the password {password} (not shown again).")


@contextlib.contextmanager
def _only_one_up(local_dir: Path) -> Iterator[None]:
    local_dir.mkdir(parents=True, exist_ok=True)
    try:
        lock = os.open(local_dir / "up.lock", os.O_RDWR | os.O_CREAT, 0o600)
    except PermissionError:
        raise UpError(f"{local_dir} belongs to another account: start Keel as that one.") from None
    with os.fdopen(lock, "r+") as holder:
        try:
            fcntl.flock(holder, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UpError(f"This checkout is already up (process {holder.read()}).") from None
        holder.truncate()
        holder.write(str(os.getpid()))
        holder.flush()
        yield


def _wait_until_live(host: str, port: int, children: Sequence[ChildProcess]) -> None:
    deadline = time.monotonic() + START_DEADLINE
    while not _is_live(LOOPBACK_OF.get(host, host), port):
        _refuse_ended(children)
        if time.monotonic() > deadline:
            raise UpError(f"The API did not answer within {START_DEADLINE:.0f} s.")
        time.sleep(POLL_INTERVAL)
    for child in children:
        child.is_serving = True


def _is_live(host: str, port: int) -> bool:
    connection = http.client.HTTPConnection(host, port, timeout=2)
    try:
        connection.request("GET", "/health/live")
        return connection.getresponse().status == http.client.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def _wait_for_an_end(children: Sequence[ChildProcess], *, is_reloaded: bool) -> NoReturn:
    while True:
        if is_reloaded:
            _start_again_after_the_next_change(children)
        _refuse_ended(children)
        time.sleep(POLL_INTERVAL)


def _start_again_after_the_next_change(children: Sequence[ChildProcess]) -> None:
    """Code that cannot be imported ends the process that reloads it. Whoever wrote it is about to mend it."""
    for child in children:
        if child.has_ended():
            child.stop()
            _say(f"The {child.name} could not go on; its own words are above. Mend the code and save it.")
            next(watch(CHECKOUT / "src"))
            child.start()


def _refuse_ended(children: Sequence[ChildProcess]) -> None:
    for child in children:
        if child.has_ended():
            raise UpError(f"The {child.name} has ended unexpectedly; its own words are above.")


def _welcome(settings: Settings, host: str, port: int, *, mailbox_path: str | None) -> str:
    """Where PUBLIC_URL says, when nobody has set it: with cookies, pages of any other name are strangers."""
    shown = LOOPBACK_OF.get(host, host)
    is_local = "public_url" not in settings.model_fields_set and shown in LOOPBACK
    address = f"http://{f'[{shown}]' if ':' in shown else shown}:{port}"
    address = f"http://localhost:{port}" if is_local else address
    mail = f"\n  Mail           {address}{mailbox_path}" if mailbox_path else ""
    return (
        f"\n  API            {address}{settings.api_v1_prefix}"
        f"\n  Documentation  {address}{settings.api_v1_prefix}/docs"
        f"{mail}"
        "\n\nCtrl-C stops everything."
    )


def _stop_on_signals() -> None:
    for stop in STOP_SIGNALS:
        if stop is not signal.SIGHUP or signal.getsignal(stop) is not signal.SIG_IGN:  # SIG_IGN: under nohup
            signal.signal(stop, _stop)


def _stop(_number: int, _frame: FrameType | None) -> NoReturn:
    """Only the first signal counts: the orderly stop, which has its own deadlines, is not interrupted."""
    for stop in STOP_SIGNALS:
        signal.signal(stop, signal.SIG_IGN)
    raise KeyboardInterrupt


def _say(line: str) -> None:
    click.echo(line)
