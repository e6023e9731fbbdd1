"""Granian as we run it: it starts the processes that serve, replaces those that die, and ends them in order.

A process of its own, which imports nothing of the application: all others are forked from it.
"""

import contextlib
import os
import signal
import sys
import threading
from pathlib import Path
from typing import Any, NoReturn, Self

import msgspec
from granian.constants import Interfaces
from granian.log import LogLevels
from granian.server.mp import MPServer
from msgspec import Struct

from app.lib.settings import get_settings
from app.server.logs import configure_logging
from app.server.serving.drain import DRAIN_SIGNAL

SERVED_APPLICATION = "app.server.serving.application:create_served_app"
CONNECTIONS = 1024
"""That one process has at once, idle ones among them, and that wait for one."""
SOCKET_MODE = 0o666
"""As PostgreSQL's: the directory decides who may come."""
STOP_SIGNALS = {signal.SIGINT, signal.SIGTERM}
OUR_FORMAT: dict[str, Any] = {"loggers": {"_granian": {"propagate": True}}}
"""Its lines look as all others do."""


class Serving(Struct, frozen=True, kw_only=True):
    """Where the API listens, in how many processes, and how it ends: `drain` is how many seconds it goes on after it
    was told to stop, and `grace` how many more running requests have. Nobody can connect to a `socket` meanwhile."""

    host: str
    port: int
    socket: str | None = None
    workers: int
    drain: float = 0
    grace: int
    reload_path: str | None = None
    is_quiet: bool = False

    @property
    def command(self) -> list[str]:
        return [sys.executable, "-m", "app.server.serving.supervisor", msgspec.json.encode(self).decode()]

    @classmethod
    def of_command_line(cls) -> Self:
        return msgspec.json.decode(sys.argv[1], type=cls)


class Supervisor(MPServer):
    """With a drain before the stop. A second signal ends that."""

    def __init__(self, serving: Serving) -> None:
        self._socket = Path(serving.socket) if serving.socket else None
        super().__init__(
            SERVED_APPLICATION,
            address=serving.host,
            port=serving.port,
            uds=self._socket,
            uds_permissions=SOCKET_MODE if serving.socket else None,
            interface=Interfaces.ASGI,
            factory=True,
            workers=serving.workers,
            backlog=CONNECTIONS,
            backpressure=CONNECTIONS,
            websockets=False,
            respawn_failed_workers=True,
            workers_kill_timeout=serving.grace,
            reload=serving.reload_path is not None,
            reload_paths=[Path(serving.reload_path)] if serving.reload_path else None,
            log_level=LogLevels.warning if serving.is_quiet else LogLevels.info,
            log_dictconfig=OUR_FORMAT,
        )
        self._drain = serving.drain
        self._is_stopping = False
        self.on_startup(hear_signals)
        self.on_shutdown(self._excuse_those_who_ended)

    def signal_handler_interrupt(self, *_: Any, **__: Any) -> None:
        is_first = not self._is_stopping
        self._is_stopping = True
        self.respawn_failed_workers = False
        if is_first and self._drain:
            self._turn_away()
            timer = threading.Timer(self._drain, super().signal_handler_interrupt)
            timer.daemon = True
            timer.start()
        else:
            super().signal_handler_interrupt()  # type: ignore[no-untyped-call]  # it has no types

    def _turn_away(self) -> None:
        if self._socket:  # those who connect look for another server; those who are connected stay
            self._socket.unlink(missing_ok=True)
            self.bind_uds = None  # the next server may have its own there before this one ends
        for worker in self.wrks:
            if worker.inner.is_alive():  # the number of one that has ended may be another's by now
                with contextlib.suppress(ProcessLookupError):
                    os.kill(worker.inner.pid, DRAIN_SIGNAL)

    def _excuse_those_who_ended(self) -> None:
        """A terminal tells all processes of a stop, and some service managers do."""
        if self._is_stopping:
            self.interrupt_children.clear()


def become(serving: Serving) -> NoReturn:
    """Of a process that has done its part, and has imported much. A signal on the way is kept for the supervisor."""
    signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
    os.execv(serving.command[0], serving.command)  # noqa: S606  (no shell, and nothing of it is anybody's input)


def hear_signals() -> None:
    signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP_SIGNALS)


def let_signals_end_this() -> None:
    """A process that has just been forked would take them for the supervisor's until it serves, and lose them."""
    for each in STOP_SIGNALS:
        signal.signal(each, signal.SIG_DFL)


def main() -> None:
    configure_logging(get_settings())
    signal.signal(DRAIN_SIGNAL, signal.SIG_IGN)  # also in those that have just been forked
    os.register_at_fork(after_in_child=let_signals_end_this)
    Supervisor(Serving.of_command_line()).serve()


if __name__ == "__main__":
    main()
