"""The cache's store that all processes share: Redis, for as long as it answers quickly."""

import logging
import secrets
import threading
from collections.abc import Callable
from typing import Any, TypeVar

import redis
from redis.backoff import NoBackoff
from redis.exceptions import LockError
from redis.lock import Lock
from redis.retry import Retry

from app.lib.cache.cache import PATIENCE, StoreFigures
from app.lib.cache.memory import ThreadMutex

PREFIX = "keel:cache:"
EVERYTHING = f"{PREFIX}generation"
TIMEOUT = 1.0
"""Seconds for connecting, and for each answer. A busy machine misses shorter ones, and each miss empties the cache."""
LOCK_SLEEP = 0.02
"""Seconds between two looks whether another process has finished loading."""

T = TypeVar("T")
logger = logging.getLogger(__name__)


class RedisStore:
    """Given up at the first failure, so that one request waits for it and not all; `clear` tries it again.

    Generations are random: one that Redis has lost, or evicted, never comes back.
    """

    name = "redis"

    def __init__(self, dsn: str) -> None:
        self._client = redis.Redis.from_url(
            dsn,
            socket_timeout=TIMEOUT,
            socket_connect_timeout=TIMEOUT,
            retry=Retry(NoBackoff(), 0),
            protocol=2,
        )
        self._is_available = True
        self._errors = 0
        self._changing = threading.Lock()

    @property
    def is_available(self) -> bool:
        return self._is_available

    def generation(self, *names: str) -> str | None:
        return self._ask(lambda: self._generation([EVERYTHING, *map(_generation_key, names)]))

    def forget(self, name: str) -> None:
        self._ask(lambda: self._client.delete(_generation_key(name)))

    def clear(self) -> None:
        """A write, so that a Redis that only reads (a replica, or full) does not count as one that is back."""
        try:
            self._client.set(EVERYTHING, _new_generation())
        except redis.RedisError as error:
            self._lose(error)
        else:
            self._regain()

    def check(self) -> None:
        """A write, too: a Redis that is full or only reads would go on answering from what it has."""
        self._ask(lambda: self._client.set(f"{PREFIX}checked", b"", px=60_000))

    def get(self, key: str) -> bytes | None:
        found: Any = self._ask(lambda: self._client.get(PREFIX + key))
        return found if isinstance(found, bytes) else None

    def set(self, key: str, value: bytes, *, seconds: float) -> None:
        self._ask(lambda: self._client.set(PREFIX + key, value, px=int(seconds * 1000)))

    def mutex(self, key: str) -> "SharedMutex":
        return SharedMutex(self._client, f"{PREFIX}lock:{key}", self._ask)

    def figures(self) -> StoreFigures:
        return StoreFigures(errors=self._errors)

    def close(self) -> None:
        self._client.close()

    def _generation(self, keys: list[str]) -> str:
        found: Any = self._client.mget(keys)
        if None in found:
            with self._client.pipeline() as together:
                for key in keys:
                    together.set(key, _new_generation(), nx=True)
                together.mget(keys)
                found = together.execute()[-1]
        return b".".join(found).decode("latin-1")

    def _ask(self, question: Callable[[], T]) -> T | None:
        """None while Redis is away, and for the one that finds out."""
        if not self._is_available:
            return None
        try:
            return question()
        except redis.RedisError as error:
            self._lose(error)
            return None

    def _lose(self, error: redis.RedisError) -> None:
        with self._changing:
            was_available, self._is_available = self._is_available, False
            self._errors += 1
        if was_available:
            logger.warning("redis does not answer, the cache goes on without: %s", type(error).__name__)

    def _regain(self) -> None:
        with self._changing:
            was_available, self._is_available = self._is_available, True
        if not was_available:
            logger.info("redis answers again, the cache starts empty")


class SharedMutex:
    """Elects one thread of this process, and it one process of all. A lock in Redis outlives nobody for long."""

    def __init__(self, client: redis.Redis, name: str, ask: Callable[[Callable[[], bool]], bool | None]) -> None:
        self._threads = ThreadMutex()
        self._client = client
        self._name = name
        self._ask = ask
        self._held: dict[int, Lock] = {}

    def acquire(self, wait: bool = True) -> bool:  # noqa: FBT001, FBT002  # dogpile's signature
        if not self._threads.acquire(wait):
            return False
        lock = Lock(self._client, self._name, timeout=PATIENCE, sleep=LOCK_SLEEP, blocking_timeout=PATIENCE)
        is_elected = bool(self._ask(lambda: bool(lock.acquire(blocking=wait))))
        if is_elected:
            self._held[threading.get_ident()] = lock
        elif not wait:
            self._threads.release()
        return is_elected

    def release(self) -> None:
        lock = self._held.pop(threading.get_ident(), None)
        if lock is not None:
            self._ask(lambda: _release(lock))
        self._threads.release()


def _release(lock: Lock) -> bool:
    """False: it had expired, and may be another's by now."""
    try:
        lock.release()
    except LockError:
        return False
    return True


def _generation_key(name: str) -> str:
    return f"{EVERYTHING}:{name}"


def _new_generation() -> str:
    return secrets.token_urlsafe(9)
