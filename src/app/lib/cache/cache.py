"""Answers kept for a while, in Redis or in the memory of each process, and forgotten when a transaction says so."""

import hashlib
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Generic, Protocol, TypeVar

import msgspec
from dogpile.cache import CacheRegion, make_region, register_backend
from dogpile.cache.api import NO_VALUE, CacheBackend, CachedValue, NoValueType
from sqlalchemy.orm import Session
from typing_extensions import TypeForm

from app.lib.db.unit_of_work import AnySession
from app.lib.events import publish

TOPIC = "cache"
PATIENCE = 5.0
"""Seconds after which nobody waits any longer for what another is loading: it may have died."""
REPLICA_LAG = 5.0
"""Seconds after which a replica is believed to show a change."""
SLOT_DIGITS = 3

T = TypeVar("T")
_ENCODER = msgspec.msgpack.Encoder(order="deterministic")


@dataclass(frozen=True)
class Region(Generic[T]):
    """Answers of one kind: a constant of the module that loads them. No two have the same name.

    `kind` is what msgspec can write and read back: bytes, str, a Struct, a list of them, or any of these `| None`.
    Nothing else ever comes out of the cache.
    """

    name: str
    kind: TypeForm[T]
    seconds: float

    @cached_property
    def _decoder(self) -> msgspec.msgpack.Decoder[tuple[T, dict[str, float]]]:
        return msgspec.msgpack.Decoder(tuple[self.kind, dict[str, float]])  # type: ignore[name-defined]  # a value at run time

    def encode(self, value: CachedValue) -> bytes:
        return _ENCODER.encode(value)

    def decode(self, stored: bytes) -> CachedValue:
        """Raises msgspec.MsgspecError for what is not of this kind: left by another version, perhaps."""
        return CachedValue(*self._decoder.decode(stored))


def invalidate(session: AnySession, region: Region[Any], *keys: object) -> None:
    """Forget these answers, or all of the region when no key is given, in every process: exactly when the
    transaction commits, and before the caller goes on."""
    publish(session, TOPIC, *({_slot(region, key) for key in keys} or {region.name}))


class StoreFigures(msgspec.Struct, frozen=True, kw_only=True):
    """`entries` and `bytes` are None where only Redis knows."""

    errors: int = 0
    entries: int | None = None
    bytes: int | None = None


class Figures(StoreFigures, frozen=True, kw_only=True):
    """Of this process since its start. An answer that somebody else was just loading is a hit."""

    store: str
    is_available: bool
    hits: int
    misses: int


class Mutex(Protocol):
    """What dogpile asks of one: it ignores whether `acquire` succeeded when it has waited."""

    def acquire(self, wait: bool = True) -> bool: ...  # noqa: FBT001, FBT002  # dogpile's signature

    def release(self) -> None: ...


class Store(Protocol):
    """Where encoded answers are kept.

    Its generations are what makes forgetting safe. An answer is kept under the generations at the time when its
    loading began; once one of them has been forgotten, nobody asks for it any more, however late it is stored.
    """

    name: str

    @property
    def is_available(self) -> bool:
        """False: it does not answer, and is not asked again before `clear` has succeeded."""

    def generation(self, *names: str) -> str | None:
        """Of all these names together; None when it does not answer."""

    def forget(self, name: str) -> None:
        """End this generation, and with it all that was kept under it."""

    def clear(self) -> None:
        """End all generations, and be available again if that succeeds."""

    def check(self) -> None:
        """Find out whether it still answers."""

    def get(self, key: str) -> bytes | None: ...

    def set(self, key: str, value: bytes, *, seconds: float) -> None: ...

    def mutex(self, key: str) -> Mutex: ...

    def figures(self) -> StoreFigures: ...

    def close(self) -> None: ...


class Cache:
    """Keeps answers, as long as it hears what has changed: before the feed is complete for the first time,
    and while the store is away, everything is loaded anew."""

    topic = TOPIC

    def __init__(self, store: Store, *, has_replicas: bool = False) -> None:
        self._store = store
        self._has_replicas = has_replicas
        self._regions: dict[Region[Any], CacheRegion] = {}
        self._again: deque[tuple[float, str]] = deque()
        self._is_listening = False
        self._counting = threading.Lock()
        self._asked = self._misses = 0

    @property
    def is_available(self) -> bool:
        return self._store.is_available

    def get_or_create(self, region: Region[T], key: object, create: Callable[[], T]) -> T:
        """The answer to `key`, from the cache or from `create`, which one thread at a time runs for all that ask.

        `key` is whatever the answer depends on, **also who asks** when the answer depends on it: anything msgspec
        can write, such as `(me.id, page)`. What `create` raises is not kept; None is, where the region allows it.
        Not to be called after writing in the same unit of work: others would be given what may be rolled back.
        """

        def load() -> T:
            with self._counting:
                self._misses += 1
            answer: T = region.decode(region.encode(CachedValue(create(), {}))).payload
            return answer

        with self._counting:
            self._asked += 1
        generation = self._generation(region, key)
        if generation is None:
            return load()
        place = f"{region.name}:{_digest(key)}:{generation}"
        found: T = self._dogpile(region).get_or_create(place, load)
        return found

    def receive(self, payload: str) -> None:
        self._store.forget(payload)
        if self._has_replicas:
            self._again.append((time.monotonic() + REPLICA_LAG, payload))

    def catch_up(self, session: Session, *, everything: bool) -> None:  # noqa: ARG002  # there is no table to read
        """What was missed is unknown, so everything goes; a replica that lags gets its second forgetting."""
        if everything or not self._store.is_available:
            self.clear()
        else:
            self._store.check()
        self._is_listening = True
        while self._again and self._again[0][0] <= time.monotonic():
            self._store.forget(self._again.popleft()[1])

    def clear(self) -> None:
        """Forget everything; on Redis, for all processes."""
        self._store.clear()

    def figures(self) -> Figures:
        with self._counting:
            hits, misses = self._asked - self._misses, self._misses
        return Figures(
            store=self._store.name,
            is_available=self._store.is_available,
            hits=hits,
            misses=misses,
            **msgspec.structs.asdict(self._store.figures()),
        )

    def close(self) -> None:
        self._is_listening = False
        self._store.close()

    def _generation(self, region: Region[Any], key: object) -> str | None:
        """Taken before anything is loaded, and part of the place where it is kept."""
        if not self._is_listening:
            return None
        return self._store.generation(region.name, _slot(region, key))

    def _dogpile(self, region: Region[Any]) -> CacheRegion:
        found = self._regions.get(region)
        if found is not None:
            return found
        arguments = {"store": self._store, "region": region}
        made = make_region().configure("keel", expiration_time=region.seconds, arguments=arguments)
        return self._regions.setdefault(region, made)


class _Backend(CacheBackend):
    """One region of a store, as dogpile sees it. dogpile's own would pickle what they are given."""

    def __init__(self, arguments: Any) -> None:
        self._store: Store = arguments["store"]
        self._region: Region[Any] = arguments["region"]

    def get(self, key: str) -> CachedValue | NoValueType:
        stored = self._store.get(key)
        try:
            return NO_VALUE if stored is None else self._region.decode(stored)
        except msgspec.MsgspecError:
            return NO_VALUE

    def set(self, key: str, value: Any) -> None:
        """Kept a little longer than it is good: while one thread loads it anew, the others get the old one."""
        self._store.set(key, self._region.encode(value), seconds=self._region.seconds + PATIENCE)

    def get_mutex(self, key: str) -> Any:
        return self._store.mutex(key)


register_backend("keel", __name__, _Backend.__name__)  # type: ignore[no-untyped-call]  # dogpile gives no types for it


def _digest(key: object) -> str:
    """Of one length for keys of any, and equal for equal keys only."""
    return hashlib.sha256(_ENCODER.encode(key)).hexdigest()


def _slot(region: Region[Any], key: object) -> str:
    """One of 4096 names of generations: so there is room for all of them, and neighbours are seldom forgotten."""
    return f"{region.name}:{_digest(key)[:SLOT_DIGITS]}"
