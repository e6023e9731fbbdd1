from collections.abc import Iterator

import pytest
from sqlalchemy import URL, NullPool, create_engine, text
from sqlalchemy.orm import Session

from app.lib.db.database import Database
from app.lib.errors import ApplicationError
from app.lib.events import POLL_SECONDS, EventFeed, publish
from tests.live import wait_until

pytestmark = pytest.mark.integration


class Recorder:
    """Writes down what it hears."""

    topic = "things"

    def __init__(self) -> None:
        self.heard: list[str] = []
        self.caught_up: list[bool] = []
        self.cannot_catch_up = False
        self.failures = 0

    def receive(self, payload: str) -> None:
        if payload == "rubbish":
            raise ValueError(payload)
        self.heard.append(payload)

    def catch_up(self, session: Session, *, everything: bool) -> None:
        if self.cannot_catch_up:
            self.failures += 1
            raise RuntimeError
        session.execute(text("SELECT 1"))
        self.caught_up.append(everything)


@pytest.fixture
def recorder() -> Recorder:
    return Recorder()


@pytest.fixture
def feed(live_database: URL, recorder: Recorder) -> Iterator[EventFeed]:
    feed = EventFeed(live_database, recorder)
    feed.start(wait=5)
    yield feed
    feed.stop()


@pytest.fixture
def database(live_database: URL) -> Iterator[Database]:
    """Another process, as far as the feed can tell."""
    database = Database(live_database, pool_size=1)
    yield database
    database.dispose()


@pytest.mark.usefixtures("feed")
def test_an_event_is_heard_when_its_transaction_commits(database: Database, recorder: Recorder) -> None:
    database.write(lambda session: publish(session, "things", "one", "two:with:colons"))
    database.write(lambda session: publish(session, "other things", "three"))
    database.write(lambda session: publish(session, "things", "four"))

    wait_until(lambda: "four" in recorder.heard, seconds=2)
    assert recorder.heard == ["one", "two:with:colons", "four"]


@pytest.mark.usefixtures("feed")
def test_an_event_of_a_transaction_that_rolls_back_is_never_heard(database: Database, recorder: Recorder) -> None:
    def refuse(session: Session) -> None:
        publish(session, "things", "refused")
        raise ApplicationError

    with pytest.raises(ApplicationError):
        database.write(refuse)
    database.write(lambda session: publish(session, "things", "after"))

    wait_until(lambda: "after" in recorder.heard, seconds=2)
    assert recorder.heard == ["after"]


def test_the_publishing_process_has_heard_before_the_unit_of_work_returns(
    live_database: URL, feed: EventFeed, recorder: Recorder
) -> None:
    feed.stop()  # so that nothing but the unit of work can have told it
    database = Database(live_database, pool_size=1, session_info={"deliver": feed.deliver})

    database.write(lambda session: publish(session, "things", "one"))

    assert recorder.heard == ["one"]
    database.dispose()


@pytest.mark.usefixtures("feed")
def test_a_feed_that_loses_its_connection_comes_back_and_catches_up_on_everything(
    live_database: URL, database: Database, recorder: Recorder
) -> None:
    assert recorder.caught_up == [True]

    _kill_listener(live_database)

    wait_until(lambda: recorder.caught_up.count(True) == 2, seconds=5)
    database.write(lambda session: publish(session, "things", "again"))
    wait_until(lambda: "again" in recorder.heard, seconds=2)


@pytest.mark.usefixtures("feed")
def test_an_event_that_a_subscriber_cannot_bear_costs_no_other(database: Database, recorder: Recorder) -> None:
    database.write(lambda session: publish(session, "things", "rubbish", "after"))
    database.write(lambda session: session.execute(text("NOTIFY keel, 'no colon'; NOTIFY keel")))
    database.write(lambda session: publish(session, "things", "later"))

    wait_until(lambda: "later" in recorder.heard, seconds=2)
    assert recorder.heard == ["after", "later"]


@pytest.mark.usefixtures("feed")
def test_a_feed_whose_subscriber_fails_to_catch_up_starts_again(recorder: Recorder) -> None:
    recorder.cannot_catch_up = True
    wait_until(lambda: recorder.failures > 0, seconds=POLL_SECONDS * 2)

    recorder.cannot_catch_up = False

    wait_until(lambda: recorder.caught_up.count(True) == 2, seconds=5)


@pytest.mark.usefixtures("feed")
def test_a_feed_polls_as_its_safety_net(recorder: Recorder) -> None:
    wait_until(lambda: False in recorder.caught_up, seconds=POLL_SECONDS * 2)


def test_a_feed_knows_how_long_it_has_been_unsure(live_database: URL, recorder: Recorder) -> None:
    feed = EventFeed(live_database, recorder)
    assert feed.lag == float("inf")

    feed.start(wait=5)
    assert feed.lag < POLL_SECONDS
    feed.stop()


def test_a_feed_that_starts_again_is_unsure_again(live_database: URL, recorder: Recorder) -> None:
    feed = EventFeed(live_database, recorder)
    feed.start(wait=5)
    feed.stop()

    feed.start(wait=5)
    assert recorder.caught_up.count(True) == 2
    feed.stop()


def test_a_feed_without_a_database_lets_the_process_start(recorder: Recorder) -> None:
    feed = EventFeed("postgresql+psycopg://nobody@127.0.0.1:1/nowhere", recorder)

    feed.start(wait=0.1)

    assert feed.lag == float("inf")
    feed.stop()


def _kill_listener(url: URL) -> None:
    statement = (
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = :name AND pid <> pg_backend_pid()"
    )
    with create_engine(url, poolclass=NullPool, isolation_level="AUTOCOMMIT").connect() as connection:
        assert connection.scalars(text(statement), {"name": url.database}).all() == [True]
