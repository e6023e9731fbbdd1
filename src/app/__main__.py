"""`python -m app`: Litestar's command line with our commands, as the first process of a container.

The kernel spares that one every signal it has no handler for. So that a container can be stopped while all this is
still being imported, there is one from the beginning; whatever serves or works replaces it by its own.
"""

import runpy
import signal
import sys
from types import FrameType
from typing import NoReturn


def end(number: int, _frame: FrameType | None) -> NoReturn:
    sys.exit(128 + number)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, end)
    runpy.run_module("litestar", run_name="__main__", alter_sys=True)
