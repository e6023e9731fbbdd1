import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import msgspec
import pytest
from sqlalchemy.orm import Session

from app.lib.cache.cache import Cache, Region, invalidate
from app.lib.cache.memory import MemoryStore
from app.lib.errors import ApplicationError
from app.lib.pagination import Page
from app.lib.schema import Schema
from tests.lib.cache.conftest import WORDS, Process
from tests.live import wait_until

pytestmark = pytest.mark.integration

COUNTS = Region("counts", int, seconds=60)
AN_ID = UUID("0193b5a4-0000-7000-8000-000000000000")


class PostRead(Schema):
    id: UUID
    title: str
    published_at: datetime | None


POST = PostRead(id=AN_ID, title="Ünïcode \x00 | text", published_at=datetime(2026, 1, 1, tzinfo=UTC))


class Counter:
    """Loads 1, 2, 3, ..."""

    def __init__(self) -> None:
        self.loads = 0

    def __call__(self) -> int:
        self.loads += 1
        return self.loads


@pytest.mark.parametrize(
    ("kind", "answer"),
    [
        (bytes, b"\x89PNG|" * 20_000),
        (str, ""),
        (bool, False),
        (bytes | None, None),
        (PostRead, POST),
        (list[PostRead], [POST, POST]),
        (Page[PostRead], Page(items=[POST], total=1, limit=20, offset=0)),
    ],
    ids=["bytes", "empty", "false", "none", "struct", "list", "page"],
)
def test_what_comes_back_is_equal_and_a_copy(cache: Cache, kind: Any, answer: object) -> None:
    region: Region[Any] = Region("answers", kind, seconds=60)

    def fail() -> object:
        raise AssertionError

    first, second = cache.get_or_create(region, "key", lambda: answer), cache.get_or_create(region, "key", fail)

    assert (first, second) == (answer, answer)
    assert type(first) is type(second) is type(answer)
    assert isinstance(answer, bytes | str | bool | None) or first is not second is not answer


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("a", "b"),
        ("1", 1),
        (("a", "b"), ("ab",)),
        (("a:b", "c"), ("a", "b:c")),
        ("x" * 100_000 + "1", "x" * 100_000 + "2"),
        ("\r\nFLUSHALL\r\n", "\x00"),
        ((AN_ID, 1), (UUID(int=1), 1)),
        ({"limit": 1}, {"limit": 2}),
    ],
    ids=["text", "number", "parts", "separators", "long", "controls", "identities", "dict"],
)
def test_keys_may_be_anything_and_no_two_are_taken_for_one(cache: Cache, one: object, other: object) -> None:
    count = Counter()

    assert [cache.get_or_create(COUNTS, key, count) for key in (one, other, one, other)] == [1, 2, 1, 2]


def test_two_regions_do_not_share_their_keys(cache: Cache) -> None:
    count = Counter()

    assert cache.get_or_create(COUNTS, "key", count) == 1
    assert cache.get_or_create(Region("other counts", int, seconds=60), "key", count) == 2


def test_an_answer_expires(cache: Cache) -> None:
    count, moment = Counter(), Region("moments", int, seconds=0.1)
    assert cache.get_or_create(moment, "key", count) == 1

    wait_until(lambda: cache.get_or_create(moment, "key", count) == 2, seconds=2)


def test_while_one_thread_loads_an_expired_answer_the_others_get_the_old_one(cache: Cache) -> None:
    moment, is_loading, may_finish = Region("moments", str, seconds=0.05), threading.Event(), threading.Event()

    def load_slowly() -> str:
        is_loading.set()
        assert may_finish.wait(5)
        return "new"

    def ask_until_it_has_expired() -> str:
        while (answer := cache.get_or_create(moment, "key", load_slowly)) == "old":
            pass
        return answer

    cache.get_or_create(moment, "key", lambda: "old")
    with ThreadPoolExecutor(1) as threads:
        loading = threads.submit(ask_until_it_has_expired)
        assert is_loading.wait(2)
        assert cache.get_or_create(moment, "key", load_slowly) == "old"
        may_finish.set()

    assert loading.result() == "new"


def test_what_a_load_raises_is_not_kept(cache: Cache) -> None:
    def fail() -> int:
        raise ApplicationError

    with pytest.raises(ApplicationError):
        cache.get_or_create(COUNTS, "key", fail)

    assert cache.get_or_create(COUNTS, "key", Counter()) == 1


def test_an_answer_of_another_kind_than_the_regions_is_an_error_at_once(cache: Cache) -> None:
    with pytest.raises(msgspec.ValidationError):
        cache.get_or_create(COUNTS, "key", lambda: "one")  # type: ignore[arg-type, return-value]  # it is the point


def test_what_another_version_left_in_another_shape_is_loaded_anew(cache: Cache) -> None:
    cache.get_or_create(Region("answers", str, seconds=60), "key", lambda: "one")

    assert cache.get_or_create(Region("answers", int, seconds=60), "key", lambda: 1) == 1


def test_nothing_is_kept_before_the_feed_is_complete(new_cache: Callable[[], Cache]) -> None:
    cache, count = new_cache(), Counter()

    assert [cache.get_or_create(COUNTS, "key", count) for _ in range(3)] == [1, 2, 3]


def test_fifty_threads_that_ask_at_once_cost_one_load(cache: Cache) -> None:
    count = Counter()

    def load_when_all_have_asked() -> int:
        wait_until(lambda: asked(cache) == 50, seconds=5)
        return count()

    with ThreadPoolExecutor(50) as threads:
        answers = list(threads.map(lambda _: cache.get_or_create(COUNTS, "key", load_when_all_have_asked), range(50)))

    assert answers == [1] * 50
    assert (cache.figures().hits, cache.figures().misses) == (49, 1)


def test_a_thread_waits_no_longer_than_its_patience(cache: Cache, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.lib.cache.memory.PATIENCE", 0.05)
    monkeypatch.setattr("app.lib.cache.redis.PATIENCE", 0.05)
    may_finish = threading.Event()

    def hang() -> int:
        assert may_finish.wait(5)
        return 1

    with ThreadPoolExecutor(1) as threads:
        hanging = threads.submit(cache.get_or_create, COUNTS, "key", hang)
        wait_until(lambda: cache.figures().misses == 1, seconds=2)
        assert cache.get_or_create(COUNTS, "key", lambda: 2) == 2
        may_finish.set()

    assert hanging.result() == 1


def test_processes_agree_as_soon_as_a_change_commits(start_process: Callable[[], Process]) -> None:
    here, there = start_process(), start_process()
    assert (here.word(), there.word()) == ("old", "old")

    here.change("new")

    assert here.word() == "new"
    there.wait_until_heard("new")
    assert there.word() == "new"


def test_a_change_that_rolls_back_invalidates_nothing(start_process: Callable[[], Process]) -> None:
    process = start_process()
    process.word()

    def refuse(session: Session) -> None:
        invalidate(session, WORDS)
        raise ApplicationError

    with pytest.raises(ApplicationError):
        process.database.write(refuse)

    assert process.word(fail) == "old"


def test_a_region_is_forgotten_as_a_whole_and_alone(start_process: Callable[[], Process]) -> None:
    process, count = start_process(), Counter()
    process.word()
    assert [process.cache.get_or_create(COUNTS, key, count) for key in range(20)] == list(range(1, 21))

    process.database.write(lambda session: invalidate(session, COUNTS))

    assert all(process.cache.get_or_create(COUNTS, key, count) > 20 for key in range(20))
    assert process.word(fail) == "old"


def test_what_was_loaded_before_a_change_and_stored_after_it_is_not_found(start_process: Callable[[], Process]) -> None:
    reader, writer = start_process(), start_process()

    def load_while_the_word_changes() -> str:
        word = reader.load()
        writer.change("new")
        reader.wait_until_heard("new")
        return word

    assert reader.word(load_while_the_word_changes) == "old"
    assert (reader.word(), writer.word()) == ("new", "new")


def test_who_asks_after_a_change_does_not_get_what_began_to_load_before(start_process: Callable[[], Process]) -> None:
    process, has_loaded, may_finish = start_process(), threading.Event(), threading.Event()

    def load_and_stand_still() -> str:
        word = process.load()
        has_loaded.set()
        assert may_finish.wait(5)
        return word

    with ThreadPoolExecutor(1) as threads:
        early = threads.submit(process.word, load_and_stand_still)
        assert has_loaded.wait(2)
        process.change("new")
        assert process.word() == "new"
        may_finish.set()

    assert early.result() == "old"
    assert process.word() == "new"


def test_a_feed_that_was_away_forgets_everything(start_process: Callable[[], Process]) -> None:
    reader, writer = start_process(), start_process()
    reader.word()
    reader.feed.stop()
    writer.change("new")

    reader.feed.start(wait=5)

    assert reader.word() == "new"


def test_a_process_that_dies_after_its_commit_has_others_forget(start_process: Callable[[], Process]) -> None:
    reader, writer = start_process(), start_process()
    reader.word()
    writer.feed.stop()
    writer.database._writer.configure(info={})  # it will not come to forget anything itself

    writer.change("new")

    reader.wait_until_heard("new")
    assert reader.word() == "new"


def test_what_a_lagging_replica_may_have_told_is_forgotten_once_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.lib.cache.cache.REPLICA_LAG", 0)
    cache, count = Cache(MemoryStore(), has_replicas=True), Counter()
    cache.catch_up(Session(), everything=True)

    cache.receive(COUNTS.name)
    assert [cache.get_or_create(COUNTS, "key", count) for _ in range(2)] == [1, 1]
    cache.catch_up(Session(), everything=False)
    assert cache.get_or_create(COUNTS, "key", count) == 2
    cache.catch_up(Session(), everything=False)
    assert cache.get_or_create(COUNTS, "key", count) == 2


def fail() -> str:
    raise AssertionError("it should have been in the cache")


def asked(cache: Cache) -> int:
    return cache.figures().hits + cache.figures().misses
