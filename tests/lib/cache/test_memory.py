from concurrent.futures import ThreadPoolExecutor

import pytest

from app.lib.cache.memory import ENTRY_BYTES, MemoryStore

pytestmark = pytest.mark.unit


def filled(*keys: str, room_for: int) -> MemoryStore:
    """Each entry has 100 bytes."""
    store = MemoryStore(max_bytes=room_for * (ENTRY_BYTES + 100))
    for key in keys:
        store.set(key, bytes(100), seconds=60)
    return store


def test_what_was_not_asked_for_longest_makes_room() -> None:
    store = filled("a", "b", "c", room_for=3)
    store.get("a")

    store.set("d", bytes(100), seconds=60)

    assert [key for key in "abcd" if store.get(key)] == ["a", "c", "d"]


def test_an_answer_larger_than_all_its_room_is_not_kept_and_costs_no_other() -> None:
    store = filled("a", room_for=1)

    store.set("b", bytes(101), seconds=60)

    assert (store.get("a"), store.get("b")) == (bytes(100), None)


def test_what_has_expired_is_gone_and_makes_room() -> None:
    store = filled("a", room_for=10)
    store.set("a", bytes(100), seconds=0)

    assert store.get("a") is None
    assert (store.figures().entries, store.figures().bytes) == (0, 0)


def test_an_entry_that_is_replaced_is_counted_once() -> None:
    store = filled("a", "a", "a", room_for=10)

    assert (store.figures().entries, store.figures().bytes) == (1, ENTRY_BYTES + 100)


def test_however_many_threads_fill_it_it_stays_within_its_bounds() -> None:
    store = filled(room_for=100)

    def fill(thread: int) -> None:
        for number in range(2_000):
            store.set(f"{thread}:{number}", bytes(number % 150), seconds=60)

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(fill, range(8)))

    held = sum(ENTRY_BYTES + len(value) for _, value in store._entries.values())
    assert store.figures().bytes == held <= 100 * (ENTRY_BYTES + 100)


def test_generations_never_come_back() -> None:
    store = MemoryStore()
    seen = [store.generation("region", "slot")]

    store.forget("region")
    seen.append(store.generation("region", "slot"))
    store.forget("slot")
    seen.append(store.generation("region", "slot"))
    store.clear()
    seen.append(store.generation("region", "slot"))

    assert len(set(seen)) == 4
    assert store.generation("region", "slot") == seen[-1]
