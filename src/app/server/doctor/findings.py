"""What `doctor` and `check` say: one line for each thing they have looked at."""

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from enum import StrEnum

from msgspec import Struct

PATIENCE = 5.0
"""Seconds that everything has which waits for somebody else."""

Check = Callable[[], Iterable["Finding"]]


class Level(StrEnum):
    OK = "ok"
    WARNING = "warning"
    FAULT = "fault"


class Finding(Struct, frozen=True):
    """`what` there is, and the `mend`, which is empty where nothing has to be done."""

    check: str
    level: Level
    what: str
    mend: str = ""


def fine(check: str, what: str) -> Finding:
    return Finding(check, Level.OK, what)


def warning(check: str, what: str, mend: str) -> Finding:
    return Finding(check, Level.WARNING, what, mend)


def fault(check: str, what: str, mend: str) -> Finding:
    return Finding(check, Level.FAULT, what, mend)


def one_line(text: object) -> str:
    """What a server says of itself may be long, and may be made to confuse a terminal."""
    lines = str(text).strip().splitlines() or [""]
    return "".join(char for char in lines[0] if char.isprintable())[:200].rstrip(".")


def examine(checks: Mapping[str, Check], *, patience: float = PATIENCE) -> Iterator[Finding]:
    """All at the same time, so that they take as long together as the slowest, and `patience` seconds at most."""
    started = [_Examination(name, check) for name, check in checks.items()]
    deadline = time.monotonic() + patience
    for each in started:
        yield from each.findings(deadline, patience)


class _Examination:
    """A thread that is left behind when it does not end: whatever it waits for cannot be interrupted."""

    def __init__(self, name: str, check: Check) -> None:
        self._name = name
        self._check = check
        self._found: list[Finding] = []
        self._thread = threading.Thread(target=self._run, name=f"keel-doctor-{name}", daemon=True)
        self._thread.start()

    def findings(self, deadline: float, patience: float) -> list[Finding]:
        self._thread.join(max(0.0, deadline - time.monotonic()))
        found = list(self._found)
        if self._thread.is_alive():
            found.append(
                fault(
                    self._name,
                    f"There was no complete answer within {patience:g} s.",
                    "See that it runs, that its host name is right, and that no firewall swallows what is sent.",
                )
            )
        return found

    def _run(self) -> None:
        try:
            for finding in self._check():
                self._found.append(finding)
        except Exception as error:  # noqa: BLE001  (one check that fails must not cost the others)
            said = f"This check failed itself: {type(error).__name__}: {one_line(error)}."
            self._found.append(fault(self._name, said, "Mend what it names; if it is nothing of yours, report it."))
