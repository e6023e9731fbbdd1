"""`litestar serve`. Like `server/commands/up.py`, it imports no feature."""

from pathlib import Path
from typing import Any

import rich_click as click
from litestar import Litestar

from app.lib.settings import Settings
from app.server.envelope import longest_request
from app.server.serving.listening import ListenError, clear_socket, refuse_port_of_metrics, refuse_taken_port
from app.server.serving.processors import usable_processors
from app.server.serving.supervisor import Serving, become

DRAIN = 5.0


@click.command()
@click.option("--host", help="Address to listen on.  [default: HOST]")
@click.option("--port", type=click.IntRange(1, 65535), help="Port to listen on.  [default: PORT]")
@click.option("--socket", type=click.Path(path_type=Path), help="Unix socket to listen on instead, for a proxy here.")
@click.option("--workers", type=click.IntRange(1), help="Processes.  [default: as many as there are processors]")
@click.option(
    "--drain",
    type=click.FloatRange(0, 600),
    default=DRAIN,
    show_default=True,
    help="Seconds that it goes on, not ready, after it was told to stop: proxies need them to turn elsewhere.",
)
@click.option(
    "--grace",
    type=click.IntRange(1),
    help="Seconds that running requests then have.  [default: what the slowest upload may take]",
)
def serve(app: Litestar, **options: Any) -> None:
    """Serve the API in production, until SIGTERM or Ctrl-C."""
    try:
        serving = plan(app.state.settings, **options)
    except ListenError as error:
        raise click.ClickException(str(error)) from None
    become(serving)


def plan(
    settings: Settings,
    *,
    host: str | None = None,
    port: int | None = None,
    socket: Path | None = None,
    workers: int | None = None,
    drain: float = DRAIN,
    grace: int | None = None,
) -> Serving:
    """Raises ListenError when the place is taken, or is that of the metrics."""
    host, port = host or settings.host, port or settings.port
    if socket:
        clear_socket(socket.absolute())
    else:
        refuse_port_of_metrics(port, settings.metrics_port)
        refuse_taken_port(host, port)
    return Serving(
        host=host,
        port=port,
        socket=str(socket.absolute()) if socket else None,
        workers=workers or usable_processors(),
        drain=drain,
        grace=grace or longest_request(settings),
    )
