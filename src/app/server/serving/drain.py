"""The time between being told to stop and stopping, in which proxies turn to other processes."""

import signal

DRAIN_SIGNAL = signal.SIGUSR1
"""What the supervisor sends to the processes that serve."""


class Drain:
    """Found in `app.state.drain`. While it `is_on`, the process answers as ever, but is not ready, and ends each
    connection with its next answer. Then none is idle when Granian closes those that are: a request that was on its
    way would be lost, and one that is no GET may not be repeated."""

    is_on = False

    def begin(self, *_: object) -> None:
        """May be called as a signal handler."""
        self.is_on = True
