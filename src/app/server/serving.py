"""The application as `up` serves it."""

from litestar import Litestar

from app.server.asgi import create_app
from app.server.processes import join_process


def create_served_app() -> Litestar:
    """Called in every worker process, which thereby becomes one that a later `up` can find and end."""
    join_process()
    return create_app()
