"""Processes that the tests of one module share, because each takes seconds to start."""

from collections.abc import Callable, Iterator

import pytest
from sqlalchemy import URL

from tests.live import LiveServer, LiveWorker, running_processes


@pytest.fixture(scope="module")
def shared_database(new_database: Callable[[], URL]) -> URL:
    """As `live_database`, for all tests of a module: each asks about accounts of its own."""
    return new_database()


@pytest.fixture(scope="module")
def start_shared(
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Callable[..., LiveServer | LiveWorker]]:
    """`start_shared(LiveServer, url)`: stopped after the last test of the module."""
    with running_processes(tmp_path_factory.mktemp("shared")) as start:
        yield start
