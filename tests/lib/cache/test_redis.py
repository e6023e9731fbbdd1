import logging
import os
import pickle
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import redis
from sqlalchemy.orm import Session

from app.lib.cache.cache import Cache, Region
from app.lib.cache.redis import TIMEOUT, RedisStore
from tests.lib.cache.conftest import WORDS, Process
from tests.live import wait_until
from tests.redis_server import RedisServer

pytestmark = pytest.mark.integration

ANOTHER_PROCESS = """
import sys, redis
from concurrent.futures import ThreadPoolExecutor
from sqlalchemy.orm import Session
from app.lib.cache.cache import Cache, Region
from app.lib.cache.redis import RedisStore

url = sys.argv[1]
client = redis.Redis.from_url(url)
cache = Cache(RedisStore(url))
cache.catch_up(Session(), everything=True)
client.incr("listening")
client.blpop("go", timeout=20)

def load():
    client.incr("loads")
    client.blpop("may finish", timeout=5)
    return "word"

def ask(_):
    client.incr("asked")
    return cache.get_or_create(Region("words", str, seconds=60), "key", load)

with ThreadPoolExecutor(25) as threads:
    assert set(threads.map(ask, range(25))) == {"word"}
"""


@pytest.fixture
def admin(redis_server: RedisServer) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(redis_server.url) as client:
        yield client


@pytest.fixture
def caches(redis_server: RedisServer) -> Iterator[Callable[[], Cache]]:
    """Each as another process has it, listening."""
    made: list[Cache] = []

    def create() -> Cache:
        made.append(Cache(RedisStore(redis_server.url)))
        made[-1].catch_up(Session(), everything=True)
        return made[-1]

    yield create
    for cache in made:
        cache.close()


def word(cache: Cache, load: str | Callable[[], str]) -> str:
    return cache.get_or_create(WORDS, "key", (lambda: load) if isinstance(load, str) else load)


def lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.name == "app.lib.cache.redis"]


class Evil:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return (Path.touch, (self.path,))


def test_nothing_that_stands_in_redis_is_unpickled(
    caches: Callable[[], Cache], admin: redis.Redis, tmp_path: Path
) -> None:
    cache, trap = caches(), tmp_path / "trap"
    word(cache, "old")
    keys: Any = admin.keys("keel:cache:words:*")
    assert len(keys) == 1

    for rubbish in (pickle.dumps(Evil(trap)), b'{"ct":1,"v":2}|' + pickle.dumps(Evil(trap)), b"", b"\xc1"):
        admin.set(keys[0], rubbish)
        assert word(cache, "new") == "new"

    assert not trap.exists()


def test_what_is_stored_expires_by_itself(caches: Callable[[], Cache], admin: redis.Redis) -> None:
    word(caches(), "word")

    keys: Any = admin.keys("keel:cache:words:*")
    assert [WORDS.seconds <= int(admin.ttl(key)) <= WORDS.seconds + 5 for key in keys] == [True]


def test_two_processes_with_25_threads_each_cost_one_load(redis_server: RedisServer, admin: redis.Redis) -> None:
    command = [sys.executable, "-c", ANOTHER_PROCESS, redis_server.url]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("COV")}
    processes = [subprocess.Popen(command, env=environment) for _ in range(2)]

    wait_until(lambda: admin.get("listening") == b"2", seconds=20)
    admin.rpush("go", "first", "second")
    wait_until(lambda: admin.get("asked") == b"50", seconds=20)
    admin.rpush("may finish", "now")

    assert [process.wait(10) for process in processes] == [0, 0]
    assert admin.get("loads") == b"1"


def test_a_process_that_never_finishes_loading_holds_up_another_for_as_long_as_its_patience(
    caches: Callable[[], Cache], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.lib.cache.redis.PATIENCE", 0.3)
    hanging, other = caches(), caches()

    def load_for_longer_than_the_other_waits() -> str:
        began = time.monotonic()
        assert word(other, "word") == "word"
        assert 0.2 < time.monotonic() - began < 2
        return "too late"

    assert word(hanging, load_for_longer_than_the_other_waits) == "too late"


def test_without_redis_all_is_loaded_anew_and_one_line_says_so(
    caches: Callable[[], Cache], redis_server: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    cache = caches()
    word(cache, "old")
    redis_server.stop()

    for _ in range(3):
        assert word(cache, "new") == "new"
        cache.catch_up(Session(), everything=False)
    assert not cache.is_available

    redis_server.start()
    cache.catch_up(Session(), everything=False)

    assert (word(cache, "newest"), word(cache, "ignored")) == ("newest", "newest")
    assert lines(caplog) == [
        "redis does not answer, the cache goes on without: ConnectionError",
        "redis answers again, the cache starts empty",
    ]


def test_a_redis_that_was_restarted_between_two_questions_is_no_failure(
    caches: Callable[[], Cache], redis_server: RedisServer
) -> None:
    cache = caches()
    word(cache, "old")
    redis_server.stop()
    redis_server.start()

    assert (word(cache, "new"), word(cache, "ignored")) == ("new", "new")
    assert cache.figures().errors == 0


def test_a_redis_that_never_answers_holds_each_thread_once_and_briefly(
    caches: Callable[[], Cache], redis_server: RedisServer
) -> None:
    cache = caches()
    word(cache, "old")

    def ask(_: int) -> float:
        began = time.monotonic()
        assert word(cache, "new") == "new"
        return time.monotonic() - began

    with redis_server.silent(), ThreadPoolExecutor(8) as threads:
        assert max(threads.map(ask, range(8))) < TIMEOUT * 2
        assert sum(threads.map(ask, range(1000))) < TIMEOUT


@pytest.mark.parametrize("new_cache", ["redis"], indirect=True)
def test_an_answer_that_was_changed_while_redis_was_out_of_reach_does_not_come_back(
    start_process: Callable[[], Process], admin: redis.Redis
) -> None:
    here, there = start_process(), start_process()
    assert (here.word(), there.word()) == ("old", "old")
    admin.config_set("requirepass", "which nobody knows")
    admin.client_kill_filter(_type="normal", skipme=True)

    here.change("new")
    there.wait_until_heard("new")
    assert (here.word(), there.word()) == ("new", "new")
    admin.config_set("requirepass", "")

    wait_until(lambda: here.cache.is_available and there.cache.is_available, seconds=5)
    assert (here.word(), there.word()) == ("new", "new")


def test_generations_that_redis_has_lost_do_not_come_back(caches: Callable[[], Cache], admin: redis.Redis) -> None:
    cache = caches()

    def load_while_redis_forgets() -> str:
        admin.flushall()
        return "old"

    assert word(cache, load_while_redis_forgets) == "old"
    assert word(cache, "new") == "new"


def test_a_redis_that_is_full_is_away_until_it_has_room(
    caches: Callable[[], Cache], admin: redis.Redis, caplog: pytest.LogCaptureFixture
) -> None:
    cache = caches()
    admin.config_set("maxmemory", 1)

    for _ in range(3):
        assert word(cache, "word") == "word"
        cache.catch_up(Session(), everything=False)
    assert not cache.is_available
    assert len(lines(caplog)) == 1

    admin.config_set("maxmemory", 0)
    cache.catch_up(Session(), everything=False)
    assert cache.is_available


def test_a_redis_that_is_full_is_away_also_while_it_answers_from_what_it_has(
    caches: Callable[[], Cache], admin: redis.Redis
) -> None:
    cache = caches()
    assert word(cache, "word") == "word"
    admin.config_set("maxmemory", 1)

    assert word(cache, "another") == "word"
    cache.catch_up(Session(), everything=False)

    assert not cache.is_available


def test_an_unavailable_redis_does_not_keep_a_process_from_starting() -> None:
    cache = Cache(RedisStore("redis://127.0.0.1:1/0"))
    cache.catch_up(Session(), everything=True)

    assert word(cache, "word") == "word"
    cache.close()


def test_large_answers_arrive_within_the_time_out(caches: Callable[[], Cache]) -> None:
    cache, avatars = caches(), Region("avatars", bytes, seconds=60)
    picture = os.urandom(10 * 1024 * 1024)

    assert cache.get_or_create(avatars, "key", lambda: picture) == picture
    assert cache.get_or_create(avatars, "key", lambda: b"") == picture
