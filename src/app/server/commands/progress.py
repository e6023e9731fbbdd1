"""How far a command has got, on the terminal of whoever waits for it."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import rich_click as click

Report = Callable[[str, int, int], None]
"""What is being done, how much of it is done, and how much there is to do."""


@contextmanager
def progress() -> Iterator[Report]:
    """One bar after another, on the standard error output. Nothing where that is no terminal."""
    if not sys.stderr.isatty():
        yield _say_nothing
        return
    bars = _Bars()
    try:
        yield bars.report
    finally:
        bars.finish()


def _say_nothing(what: str, done: int, total: int) -> None:
    pass


class _Bars:
    def __init__(self) -> None:
        self._what: str | None = None
        self._bar: Any = None

    def report(self, what: str, done: int, total: int) -> None:
        if what != self._what:
            self.finish()
            self._what = what
            self._bar = click.progressbar(length=max(total, 1), label=f"{what:<30}", file=sys.stderr)
            self._bar.__enter__()
        self._bar.update(done - self._bar.pos)

    def finish(self) -> None:
        if self._bar is not None:
            self._bar.render_finish()
        self._what = self._bar = None
