"""What the metrics tell of the queue of jobs, while the database is asked and while it is away."""

import threading
from collections.abc import Iterator

import pytest
from sqlalchemy import URL, Engine, NullPool, create_engine, text

from app.server.metrics import figures
from app.server.metrics.figures import QueueProbe
from tests.live import wait_until

pytestmark = pytest.mark.integration

WAITING = text("SELECT count(*) FROM pg_stat_activity WHERE datname = :name AND wait_event_type = 'Lock'")


@pytest.fixture
def probe(live_database: URL, monkeypatch: pytest.MonkeyPatch) -> Iterator[QueueProbe]:
    """It has looked, and looks again whenever it is asked to."""
    monkeypatch.setattr(figures, "QUEUE_SECONDS", 0.0)
    probe = QueueProbe(live_database)
    probe.look()
    yield probe
    probe.close()


@pytest.fixture
def elsewhere(live_database: URL) -> Engine:
    """The same server, in another database."""
    url = live_database.set(database="postgres")
    return create_engine(url, poolclass=NullPool, isolation_level="AUTOCOMMIT")


def test_while_it_is_asked_for_the_queue_is_as_it_was(probe: QueueProbe, live_database: URL, elsewhere: Engine) -> None:
    before = list(probe.figures())
    looking = threading.Thread(target=probe.look)
    with create_engine(live_database, poolclass=NullPool).begin() as writer, elsewhere.connect() as operator:
        writer.execute(text("LOCK TABLE saq_jobs"))
        looking.start()
        wait_until(lambda: operator.scalar(WAITING, {"name": live_database.database}) == 1, seconds=4)
        meanwhile = list(probe.figures())
    looking.join()

    assert len(before) == 6
    assert meanwhile == before


def test_of_a_database_that_is_away_nothing_is_told(probe: QueueProbe, live_database: URL, elsewhere: Engine) -> None:
    with elsewhere.connect() as operator:
        operator.execute(text(f"DROP DATABASE {live_database.database} WITH (FORCE)"))

    probe.look()

    assert list(probe.figures()) == []
