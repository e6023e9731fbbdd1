"""What the processes of one machine have counted, as one: any of them answers for all, even the ended."""

import contextlib
import fcntl
import logging
import operator
import os
import threading
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any
from uuid import uuid4

import msgspec
from msgspec import Struct
from prometheus_client.core import Metric
from prometheus_client.registry import Collector

from app.server.metrics.metrics import FAMILIES, Metrics, metric_of

ENDED = "ended"
"""Instead of a process: the sums of all that have ended, without which counters would go down."""

logger = logging.getLogger(__name__)


class Snapshot(Struct):
    """As `Metrics.rows` tells them."""

    rows: dict[str, list[tuple[tuple[str, ...], list[float]]]]


class MetricsExchange(Collector):
    """A directory in which each process leaves a snapshot of its figures, and from which any adds them up.

    `prometheus_client` has such a mode, in which every counter is a piece of a mapped file: a full disk then kills
    the process (SIGBUS), each process that ever was leaves its files, and it must be chosen before the first import.
    """

    def __init__(self, directory: Path, counted: Metrics) -> None:
        self._directory = directory
        self._counted = counted
        self._name = uuid4().hex
        self._alive: int | None = None
        self._is_failing = False
        self._publishing = threading.Lock()

    def join(self) -> None:
        """The first process clears away what an earlier run has left. Raises OSError."""
        self._directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        with self._alone():
            files = self._files()
            if not any(_is_alive(path) for path in files if path.suffix == ".alive"):
                for path in files:
                    path.unlink()
            self._alive = os.open(self._path(self._name, "alive"), os.O_RDWR | os.O_CREAT, 0o600)
            fcntl.flock(self._alive, fcntl.LOCK_EX)

    def publish(self) -> None:
        """For whoever answers. On a full disk it stays as it was; after the end, too."""
        try:
            with self._publishing:  # an older snapshot must not come to lie upon a newer one
                if self._alive is not None:
                    self._write(self._name, Snapshot(self._counted.rows()))
            self._is_failing = False
        except OSError as error:
            if not self._is_failing:
                logger.warning("metrics cannot be written to %s: %s", self._directory, error.strerror)
            self._is_failing = True

    def leave(self) -> None:
        """What was published stays, save for the gauges."""
        with self._publishing:
            if self._alive is not None:
                os.close(self._alive)
                self._alive = None

    def collect(self) -> Iterator[Metric]:
        """What each process has published, this one just now. Nothing else counts, not even what it knows better of
        itself: whichever answers next would not know it, and a counter that goes down is one that began anew."""
        self.publish()
        with self._alone():
            names = {path.stem for path in self._files()} - {ENDED}
            gone = {name for name in names - {self._name} if not _is_alive(self._path(name, "alive"))}
            past = _together([_lasting(each) for each in self._read(gone | {ENDED})])
            living = self._read(names - gone)
            if gone:
                self._bury(gone, past)
        rows = _together([past, *living]).rows
        return iter([metric_of(family, rows.get(name, ())) for name, family in FAMILIES.items()])

    def _bury(self, gone: Iterable[str], past: Snapshot) -> None:
        """On a full disk, the next time."""
        with contextlib.suppress(OSError):
            self._write(ENDED, past)
            for name in gone:
                self._path(name, "figures").unlink(missing_ok=True)
                self._path(name, "alive").unlink(missing_ok=True)

    def _files(self) -> list[Path]:
        return [path for path in self._directory.iterdir() if path.suffix in {".alive", ".figures", ".fresh"}]

    def _read(self, names: Iterable[str]) -> list[Snapshot]:
        return list(filter(None, [_read(self._path(name, "figures")) for name in names]))

    def _write(self, name: str, snapshot: Snapshot) -> None:
        path = self._path(name, "figures")
        fresh = path.with_suffix(".fresh")
        fresh.write_bytes(msgspec.msgpack.encode(snapshot))
        fresh.replace(path)

    def _path(self, name: str, kind: str) -> Path:
        return self._directory / f"{name}.{kind}"

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        lock = os.open(self._directory / "lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
        finally:
            os.close(lock)


def _read(path: Path) -> Snapshot | None:
    """None for one that has just gone. Another version may have written what does not fit in here."""
    try:
        found = msgspec.msgpack.decode(path.read_bytes(), type=Snapshot).rows
    except (FileNotFoundError, msgspec.MsgspecError):
        return None
    fitting = {name: [each for each in rows if _fits(name, *each)] for name, rows in found.items()}
    return Snapshot({name: rows for name, rows in fitting.items() if rows})


def _fits(name: str, labels: Sequence[str], row: Sequence[float]) -> bool:
    family = FAMILIES.get(name)
    return family is not None and len(labels) == len(family.labels) and len(row) == family.width


def _is_alive(path: Path) -> bool:
    """The kernel knows: the lock ends with the process, however that ends."""
    try:
        with path.open("r+b") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False


def _lasting(snapshot: Snapshot) -> Snapshot:
    return Snapshot({name: rows for name, rows in snapshot.rows.items() if FAMILIES[name].kind != "gauge"})


def _together(snapshots: Iterable[Snapshot]) -> Snapshot:
    found: dict[str, dict[tuple[str, ...], list[float]]] = {}
    for snapshot in snapshots:
        for name, rows in snapshot.rows.items():
            join: Any = max if FAMILIES[name].together == "max" else operator.add
            values = found.setdefault(name, {})
            for labels, row in rows:
                values[labels] = list(map(join, values[labels], row)) if labels in values else row
    return Snapshot({name: list(rows.items()) for name, rows in found.items()})
