"""Events between processes: NOTIFY inside the transaction that makes the change, one listener per process."""

import functools
import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol

import psycopg
from sqlalchemy import URL, Connection, text
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from app.lib.db.database import create_pool
from app.lib.db.unit_of_work import AnySession, after_commit

CHANNEL = "keel"
RESTORED = "restored"
"""The event that makes every process read everything anew: the database is another one than it was."""
POLL_SECONDS = 2.0
RECONNECT_SECONDS = 0.5
SLICE_SECONDS = 0.2
"""How long the thread may sleep in the driver before it looks whether it should stop."""

_NOTIFY = text("SELECT pg_notify(:channel, event) FROM unnest(CAST(:events AS text[])) AS event")

logger = logging.getLogger(__name__)


def publish(session: AnySession, topic: str, *payloads: str) -> None:
    """Tell every process as soon as the transaction commits, and nobody if it rolls back.

    This process hears it before the caller goes on, so that what follows the COMMIT can rely on it.
    Payloads are ids, never secrets: any role that may connect can LISTEN. At most 7 900 bytes.
    """
    events = [f"{topic}:{payload}" for payload in payloads]
    deliver = session.info.get("deliver", _nowhere)
    for event in events:
        after_commit(session, functools.partial(deliver, event))
    if events:
        session.execute(_NOTIFY, {"channel": CHANNEL, "events": events})


def deliver_to(*feeds: "EventFeed") -> Callable[[str], None]:
    """For `session.info["deliver"]`: each event goes to all of them, one after the other."""

    def deliver(event: str) -> None:
        for feed in feeds:
            feed.deliver(event)

    return deliver


def _nowhere(_: str) -> None:
    """This process follows no events: a command, or a test."""


class Subscriber(Protocol):
    """Something in this process that must follow changes made by any process."""

    topic: str

    def receive(self, payload: str) -> None:
        """One event, as it commits."""

    def catch_up(self, session: Session, *, everything: bool) -> None:
        """Read from the tables what events may have told: all that matters after a new connection, else
        only what is recent. Called before the first request, every 2 s, and after each reconnection."""


class EventFeed:
    """A daemon thread that listens on its own connection and polls as the safety net.

    Its subscribers wait for each other: those that may be slow have a feed of their own, under another `name`.
    `lag` is how long ago, in seconds, the feed last knew itself complete; infinite before the first time. `losses` is
    how often it has lost the database.
    """

    def __init__(self, url: URL | str, *subscribers: Subscriber, name: str = "keel-events") -> None:
        self._name = name
        self._engine = create_pool(url, size=1, name=name, isolation_level="AUTOCOMMIT")
        self._subscribers = {subscriber.topic: subscriber for subscriber in subscribers}
        self._stopping = threading.Event()
        self._caught_up = threading.Event()
        self._complete_at = -float("inf")
        self.losses = 0
        self._thread: threading.Thread | None = None

    @property
    def lag(self) -> float:
        return time.monotonic() - self._complete_at

    def start(self, *, wait: float) -> None:
        """Return once the feed is complete, or after `wait` seconds: the process may start without a database."""
        self._stopping.clear()
        self._caught_up.clear()
        self._complete_at = -float("inf")
        thread = threading.Thread(target=self._run, name=self._name, daemon=True)
        thread.start()
        self._thread = thread
        self._caught_up.wait(wait)

    def stop(self) -> None:
        self._stopping.set()
        if self._thread:
            self._thread.join()
        self._engine.dispose()

    def _run(self) -> None:
        is_lost = False
        while not self._stopping.is_set():
            try:
                with self._listening() as connection:
                    if is_lost:
                        logger.info("event feed %s is connected again", self._name)
                    is_lost = False
                    self._follow(connection)
            except (SQLAlchemyError, psycopg.Error) as error:
                if not is_lost:
                    self.losses += 1
                    logger.warning(
                        "event feed %s lost the database and keeps trying: %s", self._name, type(error).__name__
                    )
                is_lost = True
            except Exception:  # the thread must outlive whatever a subscriber does wrong
                logger.exception("event feed %s failed and starts again", self._name)
            self._stopping.wait(RECONNECT_SECONDS)

    @contextmanager
    def _listening(self) -> Iterator[Connection]:
        with self._engine.connect() as connection:
            try:
                connection.execute(text(f"LISTEN {CHANNEL}"))
                self._catch_up(connection, everything=True)
                yield connection
            finally:
                connection.invalidate()  # LISTEN would outlive a return to the pool

    def _follow(self, connection: Connection) -> None:
        driver = connection.connection.driver_connection
        assert isinstance(driver, psycopg.Connection)
        while not self._stopping.is_set():
            poll_at = time.monotonic() + POLL_SECONDS
            is_restored = False
            while not self._stopping.is_set() and not is_restored and (left := poll_at - time.monotonic()) > 0:
                for event in driver.notifies(timeout=min(left, SLICE_SECONDS)):
                    is_restored = is_restored or event.payload == RESTORED
                    self.deliver(event.payload)
            self._catch_up(connection, everything=is_restored)

    def deliver(self, event: str) -> None:
        """Hand `topic:payload` to its subscriber. Thread-safe when the subscriber is."""
        topic, _, payload = event.partition(":")
        try:
            if subscriber := self._subscribers.get(topic):
                subscriber.receive(payload)
        except Exception:  # anybody may NOTIFY: one bad event must not cost the process all the others
            logger.exception("event could not be understood: %.100r", event)

    def _catch_up(self, connection: Connection, *, everything: bool) -> None:
        began = time.monotonic()
        with Session(connection) as session:
            for subscriber in self._subscribers.values():
                subscriber.catch_up(session, everything=everything)
        self._complete_at = began
        self._caught_up.set()
