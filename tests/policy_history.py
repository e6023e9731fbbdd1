"""What was true of a right while it was given and taken, so that answers can be judged by what caused them."""

import threading
import time
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Hashable, Iterator, Mapping
from contextlib import contextmanager
from typing import NamedTuple
from uuid import UUID

from sqlalchemy import URL, text
from sqlalchemy.orm import Session

from app.domain.access.services import PolicyService
from app.lib.db.database import Database

GIVE = text(
    "INSERT INTO role_assignments SELECT gen_random_uuid(), :user, id, NULL, now(), now() FROM roles WHERE name = :role"
)
TAKE = text(
    "DELETE FROM role_assignments WHERE user_id = :user AND role_id = (SELECT id FROM roles WHERE name = :role)"
)


class AnotherProcess:
    """Changes the policy as a process does that the others hear of."""

    def __init__(self, url: URL) -> None:
        self._database = Database(url, pool_size=1)

    def set_role(self, user_id: UUID, role: str, *, is_given: bool) -> None:
        """Return when it is committed."""

        def change(session: Session) -> None:
            PolicyService(session).begin_change()
            session.execute(GIVE if is_given else TAKE, {"user": user_id, "role": role})

        self._database.write(change)

    def close(self) -> None:
        self._database.dispose()


class Answer(NamedTuple):
    began: float
    ended: float
    is_allowed: bool


class Change(NamedTuple):
    began: float
    committed: float
    is_given: bool


class History:
    """Of one right, which at the start nobody holds, and of who is known to have seen its changes."""

    def __init__(self, *watchers: Hashable) -> None:
        self.changes = [Change(-float("inf"), -float("inf"), is_given=False)]
        self._seen: dict[Hashable, list[float]] = {watcher: [-float("inf")] for watcher in watchers}
        self.delays: list[float] = []
        """Seconds from each COMMIT to the first question whose answer showed it."""

    @property
    def is_given(self) -> bool:
        return self.changes[-1].is_given

    def flip(
        self, act: Callable[[bool], None], watching: Mapping[Hashable, Callable[[], bool]], *, bound: float
    ) -> None:
        """Make the change and ask each watcher until its answer shows it. Raises AssertionError when a question that is
        put `bound` seconds after the COMMIT is still answered as before."""
        began, is_given = time.monotonic(), not self.is_given
        act(is_given)
        committed = time.monotonic()
        self.changes.append(Change(began, committed, is_given))
        for watcher, ask in watching.items():
            while (answer := timed(ask)).is_allowed is not is_given:
                assert answer.began < committed + bound, f"{answer.began - committed:.2f} s after the COMMIT"
            self._seen[watcher].append(answer.ended)
            self.delays.append(answer.began - committed)

    def wrong(self, watcher: Hashable, answers: list[Answer]) -> list[Answer]:
        """Those that agree with nothing that was true for this watcher while they were made: once it is known to have
        seen a change, no question that is put may be answered as before."""
        began = [change.began for change in self.changes]
        until = [*self._seen[watcher][1:], float("inf")]

        def true_during(answer: Answer) -> set[bool]:
            some = self.changes[bisect_left(until, answer.began) : bisect_right(began, answer.ended)]
            return {change.is_given for change in some}

        return [answer for answer in answers if answer.is_allowed not in true_during(answer)]


@contextmanager
def asking(
    questions: Mapping[Hashable, Callable[[], bool]], *, threads: int, pause: float
) -> Iterator[dict[Hashable, list[Answer]]]:
    """Ask in so many threads; `pause` seconds after each answer leave the machine to the others. The answers are
    complete after the block; an error is raised then."""
    answers: dict[Hashable, list[Answer]] = {name: [] for name in questions}
    errors: list[BaseException] = []
    is_over = threading.Event()

    def run() -> None:
        try:
            while not is_over.is_set():
                for name, ask in questions.items():
                    answers[name].append(timed(ask))
                    is_over.wait(pause)
        except BaseException as error:  # noqa: BLE001  (raised below, in the thread of the test)
            errors.append(error)

    crowd = [threading.Thread(target=run) for _ in range(threads)]
    for thread in crowd:
        thread.start()
    try:
        yield answers
    finally:
        is_over.set()
        for thread in crowd:
            thread.join()
    if errors:
        raise errors[0]


def timed(ask: Callable[[], bool]) -> Answer:
    began = time.monotonic()
    is_allowed = ask()
    return Answer(began, time.monotonic(), is_allowed)
