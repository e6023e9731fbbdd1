"""The cache's store where there is no Redis: the memory of this process, bounded."""

import contextlib
import itertools
import threading
import time
from collections import OrderedDict

from app.lib.cache.cache import PATIENCE, StoreFigures

MAX_BYTES = 32 * 1024 * 1024
ENTRY_BYTES = 400
"""What an entry takes beside its value: its key, three objects, a place in the dict (measured)."""


class MemoryStore:
    """Forgets what has not been asked for longest when it would hold more than `max_bytes`."""

    name = "memory"
    is_available = True

    def __init__(self, *, max_bytes: int = MAX_BYTES) -> None:
        self._max_bytes = max_bytes
        self._entries: OrderedDict[str, tuple[float, bytes]] = OrderedDict()
        self._bytes = 0
        self._generations: dict[str, int] = {}
        self._numbers = itertools.count()
        self._lock = threading.Lock()

    def generation(self, *names: str) -> str:
        """No number ever comes twice."""
        with self._lock:
            return ".".join(str(self._generations.setdefault(name, next(self._numbers))) for name in names)

    def forget(self, name: str) -> None:
        with self._lock:
            self._generations.pop(name, None)

    def clear(self) -> None:
        with self._lock:
            self._generations.clear()
            self._entries.clear()
            self._bytes = 0

    def check(self) -> None:
        """Memory is always there."""

    def get(self, key: str) -> bytes | None:
        with self._lock:
            expires_at, value = self._entries.get(key, (0.0, b""))
            if expires_at <= time.monotonic():
                self._remove(key)
                return None
            self._entries.move_to_end(key)
            return value

    def set(self, key: str, value: bytes, *, seconds: float) -> None:
        with self._lock:
            self._remove(key)
            if ENTRY_BYTES + len(value) > self._max_bytes:
                return
            self._entries[key] = (time.monotonic() + seconds, value)
            self._bytes += ENTRY_BYTES + len(value)
            while self._bytes > self._max_bytes:
                self._remove(next(iter(self._entries)))

    def mutex(self, key: str) -> "ThreadMutex":  # noqa: ARG002  # dogpile keeps one for each key
        return ThreadMutex()

    def figures(self) -> StoreFigures:
        with self._lock:
            return StoreFigures(entries=len(self._entries), bytes=self._bytes)

    def close(self) -> None:
        self.clear()

    def _remove(self, key: str) -> None:
        if key in self._entries:
            _, value = self._entries.pop(key)
            self._bytes -= ENTRY_BYTES + len(value)


class ThreadMutex:
    """Elects the thread that loads. Whoever has waited long enough goes on without it, and releases nothing."""

    def __init__(self) -> None:
        self._lock = threading.RLock()

    def acquire(self, wait: bool = True) -> bool:  # noqa: FBT001, FBT002  # dogpile's signature
        return self._lock.acquire(timeout=PATIENCE if wait else 0)

    def release(self) -> None:
        with contextlib.suppress(RuntimeError):
            self._lock.release()
