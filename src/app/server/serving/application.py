"""The application as `up` and `litestar serve` serve it."""

import os
import signal

from litestar import Litestar

from app.server.asgi import create_app
from app.server.serving.drain import DRAIN_SIGNAL
from app.server.serving.processes import RECORD_VARIABLE, join_process


def create_served_app() -> Litestar:
    """Called in every process that serves. One of `up` thereby becomes one that a later `up` can find and end."""
    if RECORD_VARIABLE in os.environ:
        join_process()
    app = create_app()
    signal.signal(DRAIN_SIGNAL, app.state.drain.begin)
    return app
