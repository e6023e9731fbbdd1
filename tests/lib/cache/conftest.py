"""Caches as several processes have them: each with its feed, all on one database and one store of a kind."""

from collections.abc import Callable, Iterator

import pytest
from sqlalchemy import URL, text
from sqlalchemy.orm import Session

from app.lib.cache.cache import Cache, Region, invalidate
from app.lib.cache.memory import MemoryStore
from app.lib.cache.redis import RedisStore
from app.lib.db.database import Database
from app.lib.events import EventFeed, publish
from tests.live import wait_until

WORDS = Region("words", str, seconds=60)


class Hearing:
    """Knows which changes a feed has heard: events arrive in the order of their commits."""

    topic = "hearing"

    def __init__(self) -> None:
        self.heard: set[str] = set()

    def receive(self, payload: str) -> None:
        self.heard.add(payload)

    def catch_up(self, session: Session, *, everything: bool) -> None: ...


class Process:
    """What one process has: a cache, the feed that it follows, and a database with one word to look up."""

    def __init__(self, url: URL, cache: Cache) -> None:
        self.cache = cache
        self.hearing = Hearing()
        self.feed = EventFeed(url, cache, self.hearing)
        self.database = Database(url, pool_size=4, session_info={"deliver": self.feed.deliver})
        self.feed.start(wait=5)

    def load(self) -> str:
        return self.database.read(lambda session: str(session.scalar(text("SELECT word FROM words"))))

    def word(self, load: Callable[[], str] | None = None) -> str:
        return self.cache.get_or_create(WORDS, "the word", load or self.load)

    def change(self, word: str) -> None:
        def write(session: Session) -> None:
            session.execute(text("UPDATE words SET word = :word"), {"word": word})
            invalidate(session, WORDS, "the word")
            publish(session, "hearing", word)

        self.database.write(write)

    def wait_until_heard(self, word: str) -> None:
        wait_until(lambda: word in self.hearing.heard, seconds=5)

    def stop(self) -> None:
        self.feed.stop()
        self.cache.close()
        self.database.dispose()


@pytest.fixture(params=["memory", "redis"])
def new_cache(request: pytest.FixtureRequest) -> Iterator[Callable[[], Cache]]:
    """The cache of one more process; it listens as soon as it has caught up."""
    caches: list[Cache] = []
    redis_url = request.getfixturevalue("redis_server").url if request.param == "redis" else None

    def create() -> Cache:
        caches.append(Cache(RedisStore(redis_url) if redis_url else MemoryStore()))
        return caches[-1]

    yield create
    for cache in caches:
        cache.close()


@pytest.fixture
def cache(new_cache: Callable[[], Cache]) -> Cache:
    """It listens, and nobody tells it anything."""
    cache = new_cache()
    cache.catch_up(Session(), everything=True)
    return cache


@pytest.fixture
def start_process(live_database: URL, new_cache: Callable[[], Cache]) -> Iterator[Callable[[], Process]]:
    """In a database with one word, which is `old`."""
    database = Database(live_database, pool_size=1)
    database.write(lambda session: session.execute(text("CREATE TABLE words AS SELECT 'old' AS word")))
    database.dispose()
    processes: list[Process] = []

    def start() -> Process:
        processes.append(Process(live_database, new_cache()))
        return processes[-1]

    yield start
    for process in processes:
        process.stop()
