"""The unit of work, on a database of its own and read back with a fresh connection."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from uuid import UUID

import pytest
from sqlalchemy import URL, NullPool, create_engine, delete, insert, select, text, update
from sqlalchemy.exc import DBAPIError, IntegrityError, OperationalError
from sqlalchemy.orm import Session

from app.domain.items.models import Item
from app.domain.users.models import User
from app.lib.db.database import Database
from app.lib.db.unit_of_work import EarlyCommitError, WriteInReadError, after_commit
from app.lib.events import publish
from tests.factories.items import ItemFactory
from tests.factories.users import UserFactory
from tests.lib.db.conftest import RefusedButRecordedError, RefusedError, add

pytestmark = pytest.mark.integration


def test_what_returns_is_committed(database: Database, names: Callable[[], list[str]]) -> None:
    assert database.write(lambda session: add(session, "Ada").first_name) == "Ada"
    assert names() == ["Ada"]


@pytest.mark.parametrize("error", [RefusedError, ValueError, KeyboardInterrupt])
def test_what_raises_is_rolled_back(
    error: type[BaseException], database: Database, names: Callable[[], list[str]]
) -> None:
    def work(session: Session) -> None:
        add(session, "Ada")
        session.flush()
        raise error

    with pytest.raises(error):
        database.write(work)
    assert names() == []


def test_a_work_that_commits_by_itself_is_refused_and_rolled_back(
    database: Database, names: Callable[[], list[str]]
) -> None:
    def work(session: Session) -> None:
        add(session, "Ada")
        session.commit()

    with pytest.raises(EarlyCommitError):
        database.write(work)
    assert names() == []


def test_savepoints_are_the_works_own(database: Database, names: Callable[[], list[str]]) -> None:
    def work(session: Session) -> None:
        with session.begin_nested():
            add(session, "Ada")
        with session.begin_nested() as savepoint:
            add(session, "Grace")
            savepoint.rollback()

    database.write(work)

    assert names() == ["Ada"]


def test_an_error_that_keeps_writes_commits_and_is_raised(database: Database, names: Callable[[], list[str]]) -> None:
    def work(session: Session) -> None:
        add(session, "Ada")
        raise RefusedButRecordedError

    with pytest.raises(RefusedButRecordedError):
        database.write(work)
    assert names() == ["Ada"]


def test_an_error_at_commit_is_raised_and_nothing_is_stored(database: Database, names: Callable[[], list[str]]) -> None:
    database.write(
        lambda session: session.execute(text("ALTER TABLE users ADD UNIQUE (first_name) DEFERRABLE INITIALLY DEFERRED"))
    )

    with pytest.raises(IntegrityError):
        database.write(lambda session: [add(session, "Ada"), add(session, "Ada")])
    assert names() == []


def test_options_of_the_url_are_kept(live_database: URL) -> None:
    database = Database(live_database.update_query_dict({"options": "-c search_path=elsewhere"}), pool_size=1)

    found = database.read(lambda session: session.execute(text("SHOW search_path")).scalar())

    assert found == "elsewhere"
    database.dispose()


def test_two_writers_that_deadlock_both_succeed(database: Database, names: Callable[[], list[str]]) -> None:
    database.write(lambda session: session.add_all(UserFactory.batch(2)))
    one, two = database.read(lambda session: session.scalars(select(User.id)).all())
    meet = Barrier(2, timeout=10)
    attempts: list[UUID] = []

    def rename(first: UUID, second: UUID, name: str) -> None:
        def work(session: Session) -> None:
            attempts.append(first)
            session.execute(update(User).where(User.id == first).values(first_name=name))
            if len(attempts) <= 2:
                meet.wait()
            session.execute(update(User).where(User.id == second).values(first_name=name))

        database.write(work)

    with ThreadPoolExecutor(2) as threads:
        both = [threads.submit(rename, one, two, "A"), threads.submit(rename, two, one, "B")]
        for each in both:
            each.result()

    assert len(attempts) > 2
    assert names() in (["A", "A"], ["B", "B"])


def test_a_serialisation_failure_is_repeated_once(database: Database) -> None:
    attempts: list[int] = []

    def work(session: Session) -> None:
        attempts.append(1)
        session.execute(text("DO $$ BEGIN RAISE serialization_failure; END $$"))

    with pytest.raises(OperationalError):
        database.write(work)
    assert len(attempts) == 2


def test_waiting_for_a_lock_ends_soon(live_database: URL, database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """Or a few that wait would hold every thread of the process."""
    monkeypatch.setattr("app.lib.db.database.LOCK_TIMEOUT", "0.1")
    impatient = Database(live_database, pool_size=1)
    database.write(lambda session: add(session, "Ada"))
    rename = update(User).values(first_name="Eve")

    def hold(session: Session) -> None:
        session.execute(rename)
        with pytest.raises(OperationalError, match="lock timeout"):
            impatient.write(lambda other: other.execute(rename))

    database.write(hold)
    impatient.dispose()


def test_connections_that_died_while_idle_go_unnoticed(
    database: Database, live_database: URL, names: Callable[[], list[str]]
) -> None:
    for disturbed in (database.write, database.read):
        database.read(lambda session: session.execute(text("SELECT 1")))
        _kill_all(live_database)
        assert disturbed(lambda session: session.scalar(select(1))) == 1

    _kill_all(live_database)
    database.write(lambda session: add(session, "Ada"))
    assert names() == ["Ada"]


def test_a_connection_that_dies_at_commit_is_not_tried_again(database: Database, live_database: URL) -> None:
    """Whether the server had committed is unknown: doing it again could do it twice."""
    attempts: list[int] = []
    database.write(lambda session: session.execute(text(_KILL_AT_COMMIT)))

    def work(session: Session) -> None:
        attempts.append(1)
        add(session, "Ada")

    with pytest.raises(DBAPIError):
        database.write(work)
    assert len(attempts) == 1


@pytest.mark.parametrize(
    "change",
    [
        lambda session: session.add(UserFactory.build()),
        lambda session: session.execute(insert(Item).values(ItemFactory.build().to_dict())),
        lambda session: session.execute(update(User).values(first_name="Eve")),
        lambda session: session.execute(delete(User)),
        lambda session: after_commit(session, lambda: None),
        lambda session: publish(session, "things", "one"),
        lambda session: setattr(session.scalars(select(User)).first(), "first_name", "Eve"),
    ],
    ids=["add", "insert", "update", "delete", "after_commit", "publish", "change"],
)
def test_a_read_cannot_change_anything(
    change: Callable[[Session], object], database: Database, names: Callable[[], list[str]]
) -> None:
    database.write(lambda session: add(session, "Ada"))

    with pytest.raises(WriteInReadError):
        database.read(change)
    assert names() == ["Ada"]


def test_between_its_statements_a_read_leaves_no_transaction_open(database: Database, live_database: URL) -> None:
    fresh = create_engine(live_database, poolclass=NullPool)

    def state_of_own_connection(session: Session) -> str:
        pid = session.scalar(text("SELECT pg_backend_pid()"))
        with fresh.connect() as other:
            state: str = other.scalar(text("SELECT state FROM pg_stat_activity WHERE pid = :pid"), {"pid": pid})
            return state

    assert database.read(state_of_own_connection) == "idle"
    assert database.write(state_of_own_connection) == "idle in transaction"


def test_reads_go_to_the_replica_and_to_the_primary_when_it_is_gone(
    live_database: URL, new_database: Callable[[], URL]
) -> None:
    """Any second PostgreSQL serves as the replica here: the test tells them apart by what is in them."""
    replica_url = new_database()
    database = Database(live_database, pool_size=2, replica_urls=[replica_url])
    database.write(lambda session: add(session, "Primary"))
    replica = Database(replica_url, pool_size=1)
    replica.write(lambda session: add(session, "Replica"))
    name = select(User.first_name)

    assert database.read(lambda session: session.scalar(name)) == "Replica"
    assert database.write(lambda session: session.scalar(name)) == "Primary"

    _kill_all(replica_url, close=True)
    assert [database.read(lambda session: session.scalar(name)) for _ in range(3)] == ["Primary"] * 3
    database.dispose()
    replica.dispose()


_KILL_AT_COMMIT = """
CREATE FUNCTION die() RETURNS trigger LANGUAGE plpgsql AS
$$ BEGIN PERFORM pg_terminate_backend(pg_backend_pid()); RETURN NULL; END $$;
CREATE CONSTRAINT TRIGGER die AFTER INSERT ON users DEFERRABLE INITIALLY DEFERRED
FOR EACH ROW EXECUTE FUNCTION die();
"""


def _kill_all(url: URL, *, close: bool = False) -> None:
    """End every connection to this database; `close` lets no new one in."""
    engine = create_engine(url.set(database="postgres"), poolclass=NullPool, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        if close:
            connection.execute(text(f"ALTER DATABASE {url.database} ALLOW_CONNECTIONS false"))
        connection.execute(
            text("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = :name"),
            {"name": url.database},
        )
